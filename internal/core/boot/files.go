package boot

// Files are the paths of which news can change a forecast, as patterns of
// filepath.Match in their last element. Not among them are the profiles of
// TuneD and what is deep inside of a kernel's modules.
func Files() []string {
	files := []string{
		"/boot/vmlinuz-*",
		"/etc/default/ufw",
		"/etc/sysctl.conf",
		"/etc/tuned/active_profile",
		"/etc/tuned/tuned-main.conf",
		"/etc/ufw/sysctl.conf",
		"/etc/ufw/ufw.conf",
		"/usr/lib/modules/*",
	}
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"} {
		for _, d := range []string{"modprobe.d", "modules-load.d", "sysctl.d"} {
			files = append(files, dir+"/"+d+"/*.conf")
		}
	}
	return files
}
