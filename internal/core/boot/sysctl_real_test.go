package boot_test

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/readers"
)

// forecast says what setBy should see of a tree.
func forecast(root string, reader boot.Reader) string {
	o := boot.Options{Root: root}
	for _, p := range readers.Probes {
		o.Keys = append(o.Keys, guard.Setting{Key: guard.Key(strings.ReplaceAll(p, "/", ".")), Value: "99"})
	}
	o.Keys = append(o.Keys, guard.Setting{Key: guard.IPTables, Value: "1"})
	var values []string
	for _, k := range boot.Forecast(o).Keys {
		value := k.Want
		for _, by := range k.By {
			if by.Reader == reader && by.File != "" {
				value = by.Effect
			}
		}
		values = append(values, value)
	}
	return strings.Join(values, " ")
}

// compare runs the real programs on the trees below dir.
func compare(t *testing.T, dir string, names map[string]string) {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	lab.Tool(t, lab.Root, "systemd-sysctl")
	seen := newBox(t, "systemd-sysctl", "sysctl").setBy(dir)
	if want := 2 * len(names); len(seen) != want {
		t.Errorf("%d runs were seen, want %d", len(seen), want)
	}
	for run, want := range seen {
		reader := boot.SystemdSysctl
		tree, ok := strings.CutPrefix(run, "systemd-sysctl ")
		if !ok {
			reader, tree = boot.Procps, strings.TrimPrefix(run, "sysctl --system ")
		}
		if got := forecast(filepath.Join(dir, tree), reader); got != want {
			t.Errorf("%s\n%s: it set %s, the forecast was %s", names[tree], reader, want, got)
		}
	}
}

// TestSysctlPrograms holds the forecast against systemd-sysctl and sysctl(8)
// on what files are known to contain. A, B and C stand for the keys whose
// values are compared.
func TestSysctlPrograms(t *testing.T) {
	type files map[string]string
	const a, b, lib = "etc/sysctl.d/a.conf", "etc/sysctl.d/b.conf", "usr/lib/sysctl.d/a.conf"
	tests := []struct {
		name  string
		files files
		links files
	}{
		{"the last of one file", files{a: "A=11\nA=12\n"}, nil},
		{"the last by name over all directories", files{"usr/lib/sysctl.d/z.conf": "A=11\n", b: "A=12\n", "run/sysctl.d/c.conf": "A=13\n"}, nil},
		{"/etc hides the same name elsewhere", files{lib: "A=11\nB=11\n", "run/sysctl.d/a.conf": "A=12\n", a: "A=13\n"}, nil},
		{"/run hides /usr/local/lib", files{"usr/local/lib/sysctl.d/a.conf": "A=11\n", "run/sysctl.d/a.conf": "B=12\n"}, nil},
		{"/usr/local/lib hides /usr/lib", files{lib: "A=11\n", "usr/local/lib/sysctl.d/a.conf": "B=12\n"}, nil},
		{"/etc/sysctl.conf", files{"etc/sysctl.conf": "A=11\n", "etc/sysctl.d/zz.conf": "A=12\nB=12\n"}, nil},
		{"/etc/sysctl.conf, linked", files{"etc/sysctl.conf": "A=11\n", "etc/sysctl.d/99-zz.conf": "A=12\n"}, files{"etc/sysctl.d/99-sysctl.conf": "../sysctl.conf"}},
		{"masked by /dev/null", files{lib: "A=11\n"}, files{a: "/dev/null"}},
		{"masked by an empty file", files{lib: "A=11\n", a: ""}, nil},
		{"masked by a link to nowhere", files{lib: "A=11\n"}, files{a: "/nowhere"}},
		{"masked by a directory", files{lib: "A=11\n", a + "/x": ""}, nil},
		{"an absolute link", files{"etc/real": "A=11\n"}, files{a: "/etc/real"}},
		{"a link through a link", files{"etc/real/x": "A=11\n"}, files{"etc/dir": "real", a: "../dir/./../dir/x"}},
		{"hidden", files{"etc/sysctl.d/.a.conf": "A=11\n", "etc/sysctl.d/.conf": "B=12\n"}, nil},
		{"not *.conf", files{"etc/sysctl.d/a": "A=11\n", "etc/sysctl.d/a.conf~": "A=12\n", "etc/sysctl.d/a.conf.dpkg-old": "A=13\n"}, nil},
		{"names sort by bytes", files{"etc/sysctl.d/99-zz-nfguard.conf": "A=11\nB=11\nC=11\n", "etc/sysctl.d/99-zz.conf": "A=12\n", "etc/sysctl.d/Z.conf": "B=12\n", "etc/sysctl.d/99-zz_.conf": "C=12\n"}, nil},
		{"slashes", files{a: "net/ipv4/ip_default_ttl=11\n/net/ipv4/tcp_keepalive_probes=12\nnet//ipv4/./tcp_orphan_retries=13\n"}, nil},
		{"odd dots", files{a: ".net.ipv4.ip_default_ttl=11\nnet..ipv4.tcp_keepalive_probes=12\nnet.ipv4.tcp_orphan_retries.=13\n"}, nil},
		{"a slash at the end, and ..", files{a: "net/ipv4/ip_default_ttl/=11\nnet/ipv4/../ipv4/tcp_keepalive_probes=12\n"}, nil},
		{"dots and slashes mixed", files{a: "net.ipv4/ip_default_ttl=11\nnet/ipv4.tcp_keepalive_probes=12\n"}, nil},
		{"blanks", files{a: "  A \t =  11  \n\tB=12\r\n C = 13 # why\n"}, nil},
		{"no newline at the end", files{a: "A=11\nB=12"}, nil},
		{"comments", files{a: "# A=11\n  ;B=11\nC=11 # C=12\n"}, nil},
		{"no continuation of lines", files{a: "A=\\\n11\nB=1\\\n2\n# \\\nC=13\n"}, nil},
		{"a byte order mark", files{a: "\xef\xbb\xbfA=11\nB=12\n"}, nil},
		{"failures ignored", files{a: "-A=11\n-net.nosuch=1\n- B=12\n"}, nil},
		{"not an assignment", files{a: "A\nA 11\n=\n=5\n-\n-=5\nB=12\n"}, nil},
		{"a value that is refused comes last", files{a: "A=11\nB=11\nC=11\n", b: "A=abc\nB=\nC=11abc\n"}, nil},
		{"notations of numbers", files{a: "A=0x12\nB=015\nC=14 5\n"}, nil},
		{"equals signs and quotes", files{a: "A==11\nB=\"12\"\nC=13=14\n"}, nil},
		{"a pattern", files{a: "net.ipv4.ip_default_*=11\nnet/ipv4/tcp_keep*probes=12\n"}, nil},
		{"a star is no slash", files{a: "net.*ttl=11\nnet.*.ip_default_ttl=12\n"}, nil},
		{"a name beats a pattern", files{a: "A=11\n", b: "net.ipv4.ip_default_*=12\n"}, nil},
		{"a pattern before the name", files{a: "net.ipv4.ip_default_*=12\n", b: "A=11\n"}, nil},
		{"an exclusion from a pattern", files{a: "net.ipv4.ip_default_*=12\n", b: "-A\n"}, nil},
		{"an exclusion before the pattern", files{a: "-A\n", b: "net.ipv4.ip_default_*=12\n"}, nil},
		{"an exclusion by a pattern", files{a: "net.ipv4.ip_default_*=12\n-net.ipv4.*ttl\n"}, nil},
		{"the same pattern taken out", files{a: "net.ipv4.ip_default_*=12\n-net.ipv4.ip_default_*\n"}, nil},
		{"a name taken out", files{a: "A=11\n-A\nB=12\n-B\nB=13\n"}, nil},
		{"the same pattern again", files{a: "net.*.ip_default_ttl=11\nnet.ipv4.*default_ttl=12\nnet.*.ip_default_ttl=11\n"}, nil},
		{"classes", files{a: "net.ipv4.ip_default_tt[a-l]=11\nnet/ipv4/tcp_keepalive_prob[!a-d]s=12\nnet/ipv4/tcp_orphan_retrie[^a]=13\n"}, nil},
		{"braces", files{a: "net.ipv4.{ip_default_ttl,tcp_keepalive_probes}=11\nnet.ipv4.{ip_default_t?l,tcp_{orphan,keepalive}_r*}=12\n"}, nil},
		{"the guarded key", files{a: "D = 0\n"}, nil},
		{"the guarded key, and a remark", files{a: "D = 0 # bridges\n"}, nil},
		{"the guarded key, at 2 and then off", files{a: "D = 2\nD = off\n"}, nil},
		{"the guarded key by a pattern", files{a: "net.bridge.bridge-nf-call-*=0\n"}, nil},
		{"the guarded key by a pattern, and ours", files{a: "D = 1\n", b: "net.bridge.bridge-nf-*=0\n"}, nil},
	}
	dir, names := t.TempDir(), make(map[string]string)
	letters := strings.NewReplacer("A", "net.ipv4.ip_default_ttl", "B", "net.ipv4.tcp_keepalive_probes", "C", "net.ipv4.tcp_orphan_retries", "D", string(guard.IPTables))
	for i, tt := range tests {
		tree := strconv.Itoa(i)
		names[tree] = tt.name
		for name, text := range tt.files {
			write(t, dir, tree+"/"+name, letters.Replace(text))
		}
		for name, target := range tt.links {
			link(t, dir, tree+"/"+name, target)
		}
	}
	compare(t, dir, names)
}

// TestSysctlAgreement holds the forecast against the programs on trees that
// nobody thought of. `make readers` does so with those of other releases.
func TestSysctlAgreement(t *testing.T) {
	const trees = 200
	r := rand.New(rand.NewPCG(5, 2026))
	dir, names := t.TempDir(), make(map[string]string)
	for i := range trees {
		tree := strconv.Itoa(i)
		made := readers.SysctlTree(r)
		if err := made.Write(filepath.Join(dir, tree)); err != nil {
			t.Fatal(err)
		}
		names[tree] = made.String()
	}
	compare(t, dir, names)
}
