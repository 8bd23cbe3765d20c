package boot

// Files are the paths of which news can change a forecast, as patterns of
// filepath.Match in their last element. Not among them are the profiles of
// TuneD, what is deep inside of a kernel's modules, and scripts that are run at
// boot: the next audit reads them.
func Files() []string {
	files := []string{
		"/boot/vmlinuz-*",
		"/etc/cloud/cloud.cfg",
		"/etc/cloud/cloud.cfg.d/*.cfg",
		"/etc/cron.d/*",
		"/etc/crontab",
		"/etc/default/ufw",
		"/etc/init.d/*",
		"/etc/network/interfaces",
		"/etc/network/interfaces.d/*",
		"/etc/rc.d/rc.local",
		"/etc/rc.local",
		"/etc/sysctl.conf",
		"/etc/systemd/system/*.service",
		"/etc/tuned/active_profile",
		"/etc/tuned/tuned-main.conf",
		"/etc/ufw/after.init",
		"/etc/ufw/before.init",
		"/etc/ufw/sysctl.conf",
		"/etc/ufw/ufw.conf",
		"/usr/lib/modules/*",
		"/usr/lib/systemd/system/*.service",
	}
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"} {
		for _, d := range []string{"modprobe.d", "modules-load.d", "sysctl.d", "tmpfiles.d"} {
			files = append(files, dir+"/"+d+"/*.conf")
		}
		files = append(files, dir+"/udev/rules.d/*.rules")
	}
	return files
}
