package vm_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

// TestProbe sends packets on a kernel that has br_netfilter as a module, on the
// second kernel, and on one without IPv6. It never loads the module itself.
func TestProbe(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "nfguard")
	run(t, "env", "CGO_ENABLED=0", "go", "build", "-o", bin, root+"/cmd/nfguard")
	for _, tt := range []struct {
		name    string
		options vm.Options
		ipv6    bool
	}{
		{"Linux 6.1", vm.Options{}, true},
		{"Linux " + secondKernel, vm.Options{Kernel: secondKernel}, true},
		{"without IPv6", vm.Options{Append: "ipv6.disable=1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := vm.Boot(t, tt.options)
			m.Push(t, bin, "/usr/bin/nfguard", 0o755)
			probe := func(exit int, parts ...string) {
				t.Helper()
				r := m.Run(t, "nfguard", "probe")
				t.Logf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
				for _, part := range parts {
					if r.Code != exit || !strings.Contains(r.Stdout, part) {
						t.Errorf("want exit %d, and %q", exit, part)
					}
				}
			}
			ipv6 := func(outcome string) string {
				if !tt.ipv6 {
					return "\nIPv6    same node   absent    absent\n"
				}
				return "\nIPv6    same node   answered  " + outcome + "\n"
			}

			probe(1, "br_netfilter is not loaded\n",
				"\nIPv4    same node   answered  reply from 192.0.2.3:7\nIPv4    other node  answered  answered\n", ipv6("reply from [2001:db8:0:1::3]:7"),
				"\n         br_netfilter is not loaded: nfguard apply loads it once, systemctl start nfguard keeps it loaded\n")
			m.Sh(t, "! grep ^br_netfilter /proc/modules; ! test -e /proc/sys/net/bridge")

			m.Sh(t, "modprobe br_netfilter")
			probe(0, "-iptables 1, -ip6tables 1, -arptables 1; no bridge carries pods\n",
				"\nIPv4    same node   answered  answered\nIPv4    other node  answered  answered\n", ipv6("answered"), "\nworks ")

			m.Sh(t, "sysctl -q net.bridge.bridge-nf-call-iptables=0")
			probe(1, "-iptables 0, -ip6tables 1, ", "\nIPv4    same node   answered  reply from 192.0.2.3:7\n", ipv6("answered"), "\nbroken ")
			if got := m.Sh(t, "ip -o link | wc -l; nft list ruleset"); got != m.Sh(t, "ip -o link show | wc -l") {
				t.Errorf("links and rules that are left: %s", got)
			}
		})
	}
}
