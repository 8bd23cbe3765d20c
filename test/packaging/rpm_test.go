package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

func TestRPMMetadata(t *testing.T) {
	rpm := lab.Tool(t, lab.Root, "rpm")
	query := "%{NAME}|%{LICENSE}|%{URL}|%{SUMMARY}|%{BUILDHOST}|[%{REQUIRENAME} ]"
	want := "nfguard|Apache-2.0|https://github.com/nfguard/nfguard|" +
		"Keep br_netfilter loaded and the bridge sysctls set|localhost|kmod systemd /bin/sh "
	if diff := cmp.Diff(want, run(t, rpm, "-qp", "--qf", query, current(t).rpm)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantConfig := "/etc/nfguard/nfguard.toml\n"
	if diff := cmp.Diff(wantConfig, run(t, rpm, "-qp", "--configfiles", current(t).rpm)); diff != "" {
		t.Errorf("configuration files (-want +got):\n%s", diff)
	}
}

func TestRPMLint(t *testing.T) {
	rpmlint, cpio := lab.Tool(t, lab.Root, "rpmlint"), lab.Tool(t, lab.Root, "cpio")
	// rpmlint 2.4 unpacks with "cpio -id". In rpms names begin with a slash, so that would
	// write below the root of this host.
	bin := t.TempDir()
	write(t, bin+"/cpio", "#!/bin/sh\nexec "+cpio+" --no-absolute-filenames \"$@\"\n")
	if err := os.Chmod(bin+"/cpio", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(rpmlint, "--config", "rpmlint.toml", current(t).rpm)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if _, err := os.Lstat("/usr/lib/systemd/system-preset/50-nfguard.preset"); err == nil {
		t.Error("the package was unpacked on this host")
	}
	if err != nil || !strings.Contains(string(out), " 0 errors, 0 warnings") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRPM installs, upgrades and erases the package in an empty root directory, which has
// only a shell and a systemctl that records its calls.
func TestRPM(t *testing.T) {
	lab.Need(t, lab.Root)
	rpm := lab.Tool(t, lab.Root, "rpm")
	tree := t.TempDir()
	shell := lab.Tool(t, lab.Root, "busybox")
	write(t, tree+"/bin/busybox", read(t, shell))
	notes := "#!/bin/sh\necho \"${0##*/} $*\" >>/notes\n"
	write(t, tree+"/usr/bin/systemctl", notes)
	write(t, tree+"/usr/bin/journalctl", notes)
	if err := os.Symlink("busybox", tree+"/bin/sh"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/bin/busybox", "/usr/bin/systemctl", "/usr/bin/journalctl"} {
		if err := os.Chmod(tree+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(tree+"/dev", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(tree+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	modules, sysctl := tree+"/etc/modules-load.d/nfguard.conf", tree+"/etc/sysctl.d/99-zz-nfguard.conf"
	toml, other := tree+"/etc/nfguard/nfguard.toml", tree+"/etc/sysctl.d/50-other.conf"

	// --dbpath: without it Debian's rpm uses a new database for each call.
	do := func(args ...string) string {
		t.Helper()
		args = append([]string{"--root", tree, "--dbpath", "/var/lib/rpm", "--nodeps", "--force-debian"}, args...)
		out, err := exec.Command(rpm, args...).CombinedOutput()
		// rpm only reports that it kept the edited file.
		if err != nil || len(out) > 0 && !strings.HasPrefix(string(out), "warning: "+strings.TrimPrefix(toml, tree)) {
			t.Fatalf("rpm %v: %v\n%s", args, err, out)
		}
		text, err := os.ReadFile(tree + "/notes")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		os.Remove(tree + "/notes")
		return string(text)
	}
	expect := func(step, want, got string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: what the scripts called (-want +got):\n%s", step, diff)
		}
	}
	expect("install into an image", "systemctl --no-reload preset nfguard.service\njournalctl --update-catalog\n", do("-i", current(t).rpm))
	do("-V", "nfguard")
	for _, path := range []string{modules, sysctl} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is the daemon's to write: %v", path, err)
		}
	}

	// What the daemon and an administrator do before the upgrade.
	run(t, "chroot", tree, "/usr/bin/nfguard", "apply", "--root", "/.")
	write(t, other, "kernel.panic = 10\n")
	write(t, toml, "mode = \"observe\"\n")
	if err := os.MkdirAll(tree+"/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}

	expect("upgrade on a running system", strings.Join([]string{
		"systemctl daemon-reload", "journalctl --update-catalog",
		"systemctl daemon-reload", "systemctl try-restart nfguard.service", "",
	}, "\n"), do("-U", next(t).rpm))
	for path, want := range map[string]string{toml: "mode = \"observe\"\n", other: "kernel.panic = 10\n"} {
		if diff := cmp.Diff(want, read(t, path)); diff != "" {
			t.Errorf("%s after the upgrade (-want +got):\n%s", path, diff)
		}
	}
	for _, path := range []string{modules, sysctl} {
		if !strings.HasPrefix(read(t, path), "# Written by nfguard") {
			t.Errorf("%s did not survive the upgrade", path)
		}
	}

	expect("erase", strings.Join([]string{
		"systemctl --no-reload disable nfguard.service", "systemctl stop nfguard.service",
		"systemctl daemon-reload", "journalctl --update-catalog", "",
	}, "\n"), do("-e", "nfguard"))
	left, err := filepath.Glob(tree + "/etc/*/*")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{toml + ".rpmnew", toml + ".rpmsave", other}, left); diff != "" {
		t.Errorf("what is left in /etc (-want +got):\n%s", diff)
	}
}

// TestRPMInOneTransaction installs the package together with the system that it is for,
// as installers and image builders do, in whatever order the packages are named: the
// preset is applied all the same.
func TestRPMInOneTransaction(t *testing.T) {
	lab.Need(t, lab.Root)
	rpm, shell := lab.Tool(t, lab.Root, "rpm"), lab.Tool(t, lab.Root, "busybox")
	dir := t.TempDir()
	nfpm := dir + "/nfpm"
	run(t, "go", "build", "-C", root+"/packaging/tools", "-o", nfpm, "github.com/goreleaser/nfpm/v2/cmd/nfpm")
	write(t, dir+"/notes.sh", "#!/bin/sh\necho \"${0##*/} $*\" >>/notes\n")
	head := func(name string) string {
		return "name: " + name + "\narch: " + runtime.GOARCH + "\nversion: 1.0.0\nmaintainer: nobody <nobody@example.com>\ndescription: stands for the distribution's\n"
	}
	write(t, dir+"/kmod.yaml", head("kmod"))
	write(t, dir+"/systemd.yaml", head("systemd")+"depends: [pam]\ncontents:\n"+
		"  - {src: "+dir+"/notes.sh, dst: /usr/bin/systemctl, file_info: {mode: 0755}}\n"+
		"  - {src: "+dir+"/notes.sh, dst: /usr/bin/journalctl, file_info: {mode: 0755}}\n")
	// What a system is made of needs more than kmod does, and so comes later.
	write(t, dir+"/libgcc.yaml", head("libgcc"))
	write(t, dir+"/glibc.yaml", head("glibc")+"depends: [libgcc]\n")
	write(t, dir+"/pam.yaml", head("pam")+"depends: [/bin/sh]\n")
	write(t, dir+"/bash.yaml", head("bash")+"depends: [glibc]\ncontents:\n"+
		"  - {src: "+shell+", dst: /bin/busybox, file_info: {mode: 0755}}\n"+
		"  - {src: busybox, dst: /bin/sh, type: symlink}\n")
	var system []string
	for _, name := range []string{"libgcc", "glibc", "bash", "pam", "systemd", "kmod"} {
		run(t, nfpm, "package", "--config", dir+"/"+name+".yaml", "--packager", "rpm", "--target", dir+"/"+name+".rpm")
		system = append(system, dir+"/"+name+".rpm")
	}
	for name, args := range map[string][]string{
		"nfguard first": append([]string{current(t).rpm}, system...),
		"nfguard last":  append(append([]string{}, system...), current(t).rpm),
	} {
		tree := t.TempDir()
		if err := os.Mkdir(tree+"/dev", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(tree+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(rpm, append([]string{"--root", tree, "--dbpath", "/var/lib/rpm", "--force-debian", "--nosignature", "-i"}, args...)...).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		notes, err := os.ReadFile(tree + "/notes")
		if want := "systemctl --no-reload preset nfguard.service\njournalctl --update-catalog\n"; err != nil || string(notes) != want {
			t.Errorf("%s: the scripts called %q (%v), want %q", name, notes, err, want)
		}
	}
}
