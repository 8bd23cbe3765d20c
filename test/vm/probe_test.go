package vm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

// nfguardBinary is built once for the machines that need no package.
var nfguardBinary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "nfguard-vm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, root+"/cmd/nfguard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build nfguard: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "nfguard"))
})

// probes sends packets on a kernel that has br_netfilter as a module that is not loaded.
// probe never loads it.
func probes(t *testing.T, m *vm.Machine, hasIPv6 bool) {
	bin, err := nfguardBinary()
	if err != nil {
		t.Fatal(err)
	}
	m.Write(t, "/srv/nfguard", bin, 0o755)
	probe := func(exit int, parts ...string) {
		t.Helper()
		r := m.Run(t, "/srv/nfguard", "probe")
		t.Logf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		for _, part := range parts {
			if r.Code != exit || !strings.Contains(r.Stdout, part) {
				t.Errorf("want exit %d, and %q", exit, part)
			}
		}
	}
	ipv6 := func(outcome string) string {
		if !hasIPv6 {
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
	m.Sh(t, "rmmod br_netfilter")
}
