package files

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// contexts is a policy's, cut down to what shows the rules.
const contexts = `
# comment
/.*	system_u:object_r:default_t:s0
/etc/.*	system_u:object_r:etc_t:s0
/etc/sysctl\.conf(\.old)?	--	system_u:object_r:system_conf_t:s0
/etc/modules-load\.d(/.*)?	system_u:object_r:modules_conf_t:s0
/etc/sysctl\.d/.*	-l	system_u:object_r:link_t:s0
/etc/(motd|mtab)\.x	--	system_u:object_r:etc_runtime_t:s0
/etc/nothing\.conf	<<none>>
/etc/exact\.conf	--	system_u:object_r:exact_t:s0
/etc/exact.*	--	system_u:object_r:pattern_t:s0
/usr/lib/(a|b)/.*	system_u:object_r:lib_t:s0
`

func policyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"etc/selinux/config": "# x\nSELINUX=enforcing\nSELINUXTYPE=default\n",
		"etc/selinux/default/contexts/files/file_contexts":           contexts,
		"etc/selinux/default/contexts/files/file_contexts.local":     "/etc/sysctl\\.d/mine\\..*	system_u:object_r:mine_t:s0\n",
		"etc/selinux/default/contexts/files/file_contexts.subs_dist": "/srv/etc /etc\n/usr/local/lib /usr/lib/a\n",
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLabelByThePolicy(t *testing.T) {
	tree, err := OpenTree(policyTree(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	p := tree.SELinux()
	if !p.On || !p.Enforces {
		t.Errorf("%v, %v; the configuration says enforcing", p.On, p.Enforces)
	}
	for name, want := range map[string]string{
		"/etc/sysctl.d/99-zz-nfguard.conf":    "etc_t",
		"/etc/modules-load.d/nfguard.conf":    "modules_conf_t",
		"/etc/sysctl.conf":                    "system_conf_t",
		"/etc/sysctlxconf":                    "etc_t",
		"/etc/mtab.x":                         "etc_runtime_t",
		"/etc/exact.conf":                     "exact_t",
		"/etc/exact.other":                    "pattern_t",
		"/etc/sysctl.d/mine.conf":             "mine_t",
		"/srv/etc/modules-load.d/x.conf":      "modules_conf_t",
		"/srv/etcetera":                       "default_t",
		"/usr/local/lib/sysctl.d/x.conf":      "lib_t",
		"/usr/lib/b/x":                        "lib_t",
		"/etc/../etc/modules-load.d/./x.conf": "modules_conf_t",
	} {
		if got := p.Label(name); got != "system_u:object_r:"+want+":s0" {
			t.Errorf("%s: %q, want %s", name, got, want)
		}
	}
	if got := p.Label("/etc/nothing.conf"); got != "" {
		t.Errorf("of what has none: %q", got)
	}
}

func TestFileGetsItsLabel(t *testing.T) {
	lab.Need(t, lab.Root)
	const want = "system_u:object_r:modules_conf_t:s0"
	dir := t.TempDir()
	d, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, before := range []string{"nothing", "what a killed run left"} {
		if before != "nothing" {
			left := filepath.Join(dir, ".a.conf.nfguard-new")
			if err := os.WriteFile(left, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := unix.Setxattr(left, labelAttribute, []byte("system_u:object_r:etc_runtime_t:s0\x00"), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := replace(d, "a.conf", []byte("x"), nil, public, true, want); err != nil {
			t.Fatal(err)
		}
		tree, err := OpenTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.LabelOf("/a.conf"); got != want {
			t.Errorf("after %s: the label is %q, want %q", before, got, want)
		}
		tree.Close()
	}
}

func TestSameLabel(t *testing.T) {
	if !SameLabel("unconfined_u:object_r:etc_t:s0", "system_u:object_r:etc_t:s0:c1,c2") || SameLabel("system_u:object_r:etc_runtime_t:s0", "system_u:object_r:etc_t:s0") {
		t.Error("only the type counts")
	}
}
