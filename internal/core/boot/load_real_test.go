package boot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/test/lab"
)

// TestModulesLoad holds LoadedBy against the log of systemd-modules-load,
// which finds no module in its root, and so loads none.
func TestModulesLoad(t *testing.T) {
	lab.Need(t, lab.Root)
	type files map[string]string
	const a, lib = "etc/modules-load.d/a.conf", "usr/lib/modules-load.d/a.conf"
	tests := []struct {
		name    string
		files   files
		links   files
		cmdline string
		place   string
	}{
		{name: "nothing"},
		{name: "a name", files: files{a: "# br_netfilter\n  ; br_netfilter\n\n \tbr_netfilter \r\n"}, place: "/etc/modules-load.d/a.conf:4"},
		{name: "no newline", files: files{a: "overlay\nbr_netfilter"}, place: "/etc/modules-load.d/a.conf:2"},
		{name: "a comment after it", files: files{a: "br_netfilter # bridges\n"}},
		{name: "two names", files: files{a: "overlay br_netfilter\n"}},
		{name: "two names, ours first, and a comma", files: files{a: "br_netfilter, overlay\n"}},
		{name: "a byte order mark", files: files{a: "\xef\xbb\xbfbr_netfilter\n"}},
		{name: "another name, with a byte order mark", files: files{a: "\xef\xbb\xbfoverlay\nbr_netfilter\n"}, place: "/etc/modules-load.d/a.conf:2"},
		{name: "/usr/lib", files: files{lib: "br_netfilter\n"}, place: "/usr/lib/modules-load.d/a.conf:1"},
		{name: "hidden by /etc", files: files{lib: "br_netfilter\n", a: ""}},
		{name: "masked", files: files{lib: "br_netfilter\n"}, links: files{a: "/dev/null"}},
		{name: "other names", files: files{"etc/modules-load.d/a": "br_netfilter\n", "etc/modules-load.d/.a.conf": "br_netfilter\n", "etc/modules": "br_netfilter\n"}},
		{name: "Debian's /etc/modules", files: files{"etc/modules": "br_netfilter\n"}, links: files{"etc/modules-load.d/modules.conf": "../modules"}, place: "/etc/modules-load.d/modules.conf:1"},
		{name: "the command line", cmdline: "modules_load=overlay,br_netfilter", place: "the kernel's command line"},
		{name: "the command line, with a dash", cmdline: "modules-load=br_netfilter", place: "the kernel's command line"},
		{name: "the command line of the initrd", cmdline: "rd.modules_load=br_netfilter"},
	}
	box := newBox(t, "systemd-modules-load")
	dir := t.TempDir()
	for i, tt := range tests {
		tree := strconv.Itoa(i)
		for _, d := range []string{"etc/modules-load.d", "usr/lib/modules-load.d"} {
			os.MkdirAll(filepath.Join(dir, tree, d), 0o755)
		}
		write(t, dir, tree+"/cmdline", tt.cmdline+"\n")
		for name, text := range tt.files {
			write(t, dir, tree+"/"+name, text)
		}
		for name, target := range tt.links {
			link(t, dir, tree+"/"+name, target)
		}
	}
	said := box.run(fmt.Sprintf(`
cd %s
mkdir -p $R/usr/lib/modules-load.d
for tree in *; do
  mount --bind $tree/etc $R/etc
  mount --bind $tree/usr/lib/modules-load.d $R/usr/lib/modules-load.d
  mount --bind $tree/cmdline $R/proc/cmdline
  echo $tree: $(SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console chroot $R /bin/systemd-modules-load 2>&1)
  umount $R/proc/cmdline $R/usr/lib/modules-load.d $R/etc
done`, dir))
	runs := 0
	for line := range strings.Lines(said) {
		tree, log, _ := strings.Cut(line, ":")
		i, err := strconv.Atoi(tree)
		if err != nil {
			t.Fatalf("%q", line)
		}
		runs++
		tt := tests[i]
		loads := strings.Contains(log, "Failed to find module 'br_netfilter'")
		by := boot.Forecast(boot.Options{Root: filepath.Join(dir, tree), Cmdline: tt.cmdline}).Module.LoadedBy
		if loads != (by.File != "") || by.String() != tt.place {
			t.Errorf("%s: it loads it: %v; the forecast was by %q, want %q", tt.name, loads, by, tt.place)
		}
	}
	if runs != len(tests) {
		t.Errorf("%d runs:\n%s", runs, said)
	}
}
