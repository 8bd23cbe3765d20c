package boot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// What the programs have in them that tells how they read.
const (
	sysctl3  = "\x00/etc/sysctl.d\x00/run/sysctl.d\x00procps-ng 3.3.17\x00glob\x00"
	sysctl3a = "\x00/run/sysctl.d\x00/etc/sysctl.d\x00procps-ng 3.3.16\x00"
	sysctl3r = "\x00/etc/sysctl.d\x00/run/sysctl.d\x00procps-ng 3.3.15\x00"
	sysctl47 = "\x00/etc/sysctl.d\x00/run/sysctl.d\x00procps-ng 4.0.7\x00fnmatch\x00"
	sysctl44 = "\x00/etc/sysctl.d\x00/run/sysctl.d\x00procps-ng 4.0.4\x00"
	kmod28   = "\x00/lib/modprobe.d\x00kmod version 28\x00"
	kmod34   = "\x00/usr/local/lib/modprobe.d\x00/usr/lib/modprobe.d\x00kmod version 34.2\x00"
	mystery  = "\x7fELF"
)

func TestReadersByVersion(t *testing.T) {
	type files map[string]string
	zero, one := "net.bridge.bridge-nf-call-iptables = 0\n", "net.bridge.bridge-nf-call-iptables = 1\n"
	const key = "net.bridge.bridge-nf-call-iptables"
	run := files{"run/sysctl.d/a.conf": zero, "etc/sysctl.d/a.conf": one}
	pattern := files{"etc/sysctl.d/a.conf": "net.bridge.*-iptables=0\n-net.bridge.*-nf-call-*\n", "etc/sysctl.d/b.conf": "net.bridge.bridge-nf-call-iptables\n"}
	alias := files{"etc/modprobe.d/a.alias": "blacklist br_netfilter\n", "etc/modules-load.d/a.conf": "br_netfilter\n"}
	wrong := key + " will be 0 after `sysctl --system`: /run/sysctl.d/a.conf:1 is the last line that sets it"
	forbids := "br_netfilter will not be loaded by systemd-modules-load at next boot: /etc/modprobe.d/a.alias:1 forbids it: blacklist br_netfilter; a plain modprobe would load it"
	tests := []struct {
		name    string
		files   files
		program string // and its text
		text    string
		about   string // the file whose line decides
		want    string // what is said of it; "" for nothing
	}{
		{"3.3.16: /run hides /etc", run, "usr/sbin/sysctl", sysctl3a, "/run/sysctl.d/a.conf", wrong},
		{"3.3.17: /etc hides /run", run, "usr/sbin/sysctl", sysctl3, "/run/sysctl.d/a.conf", ""},
		{"3.3.15 as Red Hat has it", run, "sbin/sysctl", sysctl3r, "/run/sysctl.d/a.conf", ""},
		{"unknown: it depends", run, "usr/sbin/sysctl", mystery, "/run/sysctl.d/a.conf", key + " may be 0 after `sysctl --system`: /run/sysctl.d/a.conf:1 decides for procps before 3.3.17, and which sysctl this is cannot be told"},
		{"unknown: 4.0.4 sets what 4.0.7 takes out", files{"etc/sysctl.conf": pattern["etc/sysctl.d/a.conf"]}, "usr/sbin/sysctl", mystery, "/etc/sysctl.conf", key + " may be 0 after `sysctl --system`: /etc/sysctl.conf:1 decides for procps 4.0 to 4.0.4, and which sysctl this is cannot be told"},
		{"no sysctl", run, "etc/x", "", "/run/sysctl.d/a.conf", ""},
		{"4.0.7: a pattern takes out", pattern, "usr/sbin/sysctl", sysctl47, "/etc/sysctl.d/a.conf", key + " will be 0 at next boot: /etc/sysctl.d/a.conf:1 is the last line that sets it"},
		{"4.0.4: it does not", pattern, "usr/sbin/sysctl", sysctl44, "/etc/sysctl.d/a.conf", key + " will be 0 at next boot and after `sysctl --system`: /etc/sysctl.d/a.conf:1 is the last line that sets it"},
		{"kmod 34 reads no *.alias", alias, "usr/bin/kmod", kmod34, "/etc/modprobe.d/a.alias", ""},
		{"kmod 28 does", alias, "bin/kmod", kmod28, "/etc/modprobe.d/a.alias", forbids},
		{"kmod unknown: it depends", files{"etc/modules-load.d/a.conf": "br_netfilter\n", "etc/modprobe.d/a.conf": "blacklist br_netfilter\\"}, "usr/bin/kmod", mystery, "/etc/modprobe.d/a.conf", "br_netfilter may not be loaded at next boot: /etc/modprobe.d/a.conf:1 forbids it for kmod 33 and later, and which kmod this is cannot be told: blacklist br_netfilter"},
		{"kmod unknown: before 33 it reads *.alias", alias, "usr/bin/kmod", mystery, "/etc/modprobe.d/a.alias", "br_netfilter may not be loaded at next boot: /etc/modprobe.d/a.alias:1 forbids it for kmod 29 to 32, and which kmod this is cannot be told: blacklist br_netfilter"},
		{"kmod unknown: before 29 nothing in /usr/local hides it", files{"usr/local/lib/modprobe.d/a.conf": "# none\n", "lib/modprobe.d/a.conf": "blacklist br_netfilter\n"}, "usr/bin/kmod", mystery, "/lib/modprobe.d/a.conf", "br_netfilter may not be loaded at next boot: /lib/modprobe.d/a.conf:1 forbids it for kmod 28 and before, and which kmod this is cannot be told: blacklist br_netfilter"},
		{"kmod 28 does not read /usr/local", files{"usr/local/lib/modprobe.d/a.conf": "blacklist br_netfilter\n"}, "bin/kmod", kmod28, "/usr/local/lib/modprobe.d/a.conf", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			plant := func(name, text string) {
				full := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(full, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			plant(tt.program, tt.text)
			plant("usr/lib/modules/6.1.0/modules.dep", "kernel/net/bridge/br_netfilter.ko:\n")
			for name, text := range tt.files {
				plant(name, text)
			}
			got := ""
			for _, f := range Forecast(Options{Root: root, Keys: []guard.Setting{{Key: guard.IPTables, Value: "1"}}}).Findings {
				if f.Place.File == tt.about {
					got = f.Sentence
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
