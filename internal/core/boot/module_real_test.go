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
	"github.com/nfguard/nfguard/test/readers"
)

// aKernel is the release of the modules that makeModules makes.
const aKernel = readers.Kernel

func makeModules(t *testing.T, root string) {
	t.Helper()
	readers.MakeModules(t, root)
}

// TestModprobe holds the verdict against modprobe: `modprobe -n -v -b` says
// which modules it would insert.
func TestModprobe(t *testing.T) {
	lab.Need(t, lab.Root)
	type files map[string]string
	const a, b, lib = "etc/modprobe.d/a.conf", "etc/modprobe.d/b.conf", "usr/lib/modprobe.d/a.conf"
	tests := []struct {
		name    string
		files   files
		links   files
		cmdline string
		place   string // of the line that forbids it; "" for none
	}{
		{name: "nothing"},
		{name: "blacklist", files: files{a: "# why\nblacklist br_netfilter\n"}, place: "/etc/modprobe.d/a.conf:2"},
		{name: "blacklist, with a dash", files: files{a: "blacklist br-netfilter\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "blacklist, odd blanks", files: files{a: " \tblacklist\tbr_netfilter  # no\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "blacklist knows no patterns", files: files{a: "blacklist br_*\n"}},
		{name: "blacklist takes one name", files: files{a: "blacklist llc br_netfilter\n"}},
		{name: "blacklist of what it needs", files: files{a: "blacklist bridge\nblacklist llc\n"}},
		{name: "upper case", files: files{a: "BLACKLIST br_netfilter\n"}},
		{name: "CRLF", files: files{a: "blacklist br_netfilter\r\n"}},
		{name: "no newline", files: files{a: "blacklist br_netfilter"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "a backslash at the end of the file", files: files{a: "blacklist br_netfilter\\"}},
		{name: "joined lines", files: files{a: "\nblack\\\nlist \\\n br_netfilter\n"}, place: "/etc/modprobe.d/a.conf:2"},
		{name: "a comment joined with the next line", files: files{a: "# x \\\nblacklist br_netfilter\n"}},
		{name: "a backslash and a blank", files: files{a: "blacklist \\ \nbr_netfilter\n"}},
		{name: "install false", files: files{a: "install br_netfilter /bin/false\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "install true", files: files{a: "install br_netfilter /usr/bin/true # CIS\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "install echo", files: files{a: "install br_netfilter /bin/echo \"not here\" >/dev/null\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "install, a shell that ends", files: files{a: "install br_netfilter { /usr/bin/logger no; exit 1; }\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "install without a command", files: files{a: "install br_netfilter\n"}},
		{name: "install, a pattern", files: files{a: "install br?net*[rs] /bin/false\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "install of what it needs", files: files{a: "install llc /bin/false\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "blacklist before install", files: files{a: "install br_netfilter /bin/false\nblacklist br_netfilter\n"}, place: "/etc/modprobe.d/a.conf:2"},
		{name: "alias to nothing", files: files{a: "alias br_netfilter off\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "alias to another module", files: files{a: "alias br_* llc\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "alias to another module and to itself", files: files{a: "alias br_netfilter llc\nalias br_* br-netfilter\n"}},
		{name: "alias of what it needs", files: files{a: "alias bridge off\n"}},
		{name: "softdep, options, remove", files: files{a: "softdep br_netfilter pre: nosuch llc\noptions br_netfilter x=1\nremove br_netfilter /bin/false\n"}},
		{name: "the first install counts", files: files{a: "install br_netfilter /bin/false\n", b: "install br_netfilter /sbin/modprobe -i br_netfilter\n"}, place: "/etc/modprobe.d/a.conf:1"},
		{name: "/usr/lib", files: files{lib: "blacklist br_netfilter\n"}, place: "/usr/lib/modprobe.d/a.conf:1"},
		{name: "/usr/local/lib", files: files{"usr/local/lib/modprobe.d/a.conf": "blacklist br_netfilter\n"}, place: "/usr/local/lib/modprobe.d/a.conf:1"},
		{name: "/run", files: files{"run/modprobe.d/a.conf": "blacklist br_netfilter\n"}, place: "/run/modprobe.d/a.conf:1"},
		{name: "/etc hides /run", files: files{"run/modprobe.d/a.conf": "blacklist br_netfilter\n", a: ""}},
		{name: "masked", files: files{lib: "blacklist br_netfilter\n"}, links: files{a: "/dev/null"}},
		{name: "a directory hides nothing", files: files{lib: "blacklist br_netfilter\n", a + "/x": ""}, place: "/usr/lib/modprobe.d/a.conf:1"},
		{name: "*.alias", files: files{"etc/modprobe.d/a.alias": "blacklist br_netfilter\n"}, place: "/etc/modprobe.d/a.alias:1"},
		{name: "other names", files: files{"etc/modprobe.d/a": "blacklist br_netfilter\n", "etc/modprobe.d/.a.conf": "blacklist br_netfilter\n"}},
		{name: "the command line", cmdline: "quiet modprobe.blacklist=foo,br_netfilter ro", place: "the kernel's command line"},
		{name: "the command line, with a dash", cmdline: "modprobe.blacklist=br-netfilter"},
		{name: "the command line, quoted", cmdline: "modprobe.blacklist=\"br_netfilter\""},
		{name: "the command line, quoted as a whole", cmdline: "\"modprobe.blacklist=br_netfilter\""},
		{name: "the command line, for init", cmdline: "-- modprobe.blacklist=br_netfilter", place: "the kernel's command line"},
	}
	box := newBox(t, "modprobe")
	makeModules(t, box.root)
	dir := t.TempDir()
	for i, tt := range tests {
		tree := strconv.Itoa(i)
		for _, d := range []string{"etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "usr/local/lib/modprobe.d"} {
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
mkdir -p $R/usr/lib/modprobe.d
for tree in *; do
  for d in etc run usr/lib/modprobe.d usr/local/lib; do mount --bind $tree/$d $R/$d; done
  mount --bind $tree/cmdline $R/proc/cmdline
  echo $tree: $(chroot $R /bin/modprobe -n -v -b -S %s br_netfilter 2>/dev/null)
  umount $R/proc/cmdline
  for d in usr/local/lib usr/lib/modprobe.d run etc; do umount $R/$d; done
done`, dir, aKernel))
	really := make(map[string]bool)
	for line := range strings.Lines(said) {
		tree, inserts, _ := strings.Cut(line, ":")
		really[tree] = strings.Contains(inserts, "bridge/br_netfilter.ko") && !strings.Contains(inserts, "install ")
	}
	for i, tt := range tests {
		loads, ran := really[strconv.Itoa(i)]
		if !ran {
			t.Fatalf("%s: modprobe was not run:\n%s", tt.name, said)
		}
		root := filepath.Join(dir, strconv.Itoa(i))
		link(t, root, "lib", "usr/lib")
		if err := os.CopyFS(filepath.Join(root, "usr/lib/modules"), os.DirFS(filepath.Join(box.root, "lib/modules"))); err != nil {
			t.Fatal(err)
		}
		m := boot.Running(boot.Options{Root: root, Release: aKernel, Cmdline: tt.cmdline})
		if loads != (m.State == boot.Loadable) {
			t.Errorf("%s: modprobe loads it: %v; the verdict is %s, %s", tt.name, loads, m.State, m.Reason)
		}
		if got := m.Place.String(); got != tt.place {
			t.Errorf("%s: forbidden by %q, want %q", tt.name, got, tt.place)
		}
	}
}

// TestSoftdep holds what loads the module by a "softdep" against modprobe.
func TestSoftdep(t *testing.T) {
	lab.Need(t, lab.Root)
	tests := []struct {
		name, text string
		loads      bool // with bridge
	}{
		{"after", "softdep bridge post: br-netfilter\n", true},
		{"before", "softdep bridge pre: br_netfilter\n", true},
		{"among others", "softdep bridge pre: nosuch post: nosuch br_netfilter\n", true},
		{"of another", "softdep nosuch post: br_netfilter\n", false},
		{"the other way round", "softdep br_netfilter post: bridge\n", false},
		{"commented out", "#softdep bridge post: br_netfilter\n", false},
	}
	box := newBox(t, "modprobe")
	makeModules(t, box.root)
	for _, tt := range tests {
		write(t, box.root, "etc/modprobe.d/a.conf", tt.text)
		said := box.run("chroot $R /bin/modprobe -n -v -b -S " + aKernel + " bridge 2>/dev/null")
		write(t, box.root, "etc/modules-load.d/a.conf", "bridge\n")
		by := boot.Forecast(boot.Options{Root: box.root, Release: aKernel}).Module.LoadedBy
		if really := strings.Contains(said, "br_netfilter.ko"); really != tt.loads || (by.File != "") != tt.loads {
			t.Errorf("%s: modprobe loads it: %v; the forecast was by %q, want %v", tt.name, really, by, tt.loads)
		}
	}
}
