package host_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/test/lab"
)

// scoped returns a policy with scope "bridges".
func scoped(auto bool) guard.Policy {
	return guard.Policy{Module: "br_netfilter", Bridges: &guard.Selection{
		Match: []string{"cni*"}, Auto: auto, Families: []guard.Family{guard.IPv4, guard.IPv6, guard.ARP},
	}}
}

// flagged returns a host with a memory file, in its own namespace.
func flagged(t *testing.T) (*lab.Namespace, *host.Linux, string) {
	t.Helper()
	memory := filepath.Join(t.TempDir(), "run", "bridges.json")
	ns := lab.NewNamespace(t)
	l := host.NewAt(t.TempDir(), host.Options{Bridges: host.Bridges, Memory: memory})
	t.Cleanup(l.Close)
	return ns, l, memory
}

// carryOut carries out the plan for one bridge, inside the namespace.
func carryOut(t *testing.T, ns *lab.Namespace, l *host.Linux, p guard.Policy, name string) (o guard.Observation) {
	t.Helper()
	ns.Do(func() {
		o = l.SurveyBridge(t.Context(), &p, name)
		for _, it := range guard.PlanFlags(&p, &o) {
			if it.Action != nil {
				if err := l.Do(t.Context(), *it.Action); err != nil {
					t.Error(err)
				}
			}
		}
		o = l.SurveyBridge(t.Context(), &p, name)
		whole := l.Survey(t.Context(), &p, 0)
		o.Remembered, o.RememberedErr = whole.Remembered, whole.RememberedErr
	})
	return o
}

func TestFlags(t *testing.T) {
	ns, l, memory := flagged(t)
	for _, name := range []string{"cni0", "cni1", "virbr0"} {
		ns.Run(t, "ip", "link", "add", name, "type", "bridge", "nf_call_arptables", "1")
	}
	all := guard.Flags{true, true, true}
	for _, name := range []string{"cni0", "cni1", "virbr0", "cni9"} {
		carryOut(t, ns, l, scoped(false), name)
	}
	ns.Run(t, "ip", "link", "del", "cni1")
	ns.Run(t, "ip", "link", "set", "cni0", "type", "bridge", "nf_call_iptables", "0")
	ns.Run(t, "ip", "link", "add", "cni2", "type", "bridge")
	carryOut(t, ns, l, scoped(false), "cni0")
	carryOut(t, ns, l, scoped(false), "cni2")

	p := scoped(false)
	var o guard.Observation
	ns.Do(func() { o = l.Survey(t.Context(), &p, 0) })
	got := make(map[string]guard.Flags)
	for _, b := range o.Bridges {
		got[b.Name] = b.Flags()
	}
	if diff := cmp.Diff(map[string]guard.Flags{"cni0": all, "cni2": all, "virbr0": {2: true}}, got); diff != "" || o.Bridging != nil {
		t.Errorf("flags (-want +got):\n%s%v", diff, o.Bridging)
	}
	o.Remembered = slices.DeleteFunc(o.Remembered, func(r guard.Remembered) bool { return r.Name == "cni1" }) // not yet forgotten
	want := []guard.Remembered{{Name: "cni0", Flags: guard.Flags{true, true, false}}, {Name: "cni2", Flags: all}}
	if diff := cmp.Diff(want, o.Remembered, cmpopts.IgnoreFields(guard.Remembered{}, "Index")); diff != "" || o.RememberedErr != nil {
		t.Errorf("remembered (-want +got):\n%s%v", diff, o.RememberedErr)
	}

	// Only flags that were set are taken back, and then nothing is left to remember.
	hostwide := guard.Policy{Module: "br_netfilter", Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}, {Key: guard.IP6Tables, Value: "1"}}}
	if o := carryOut(t, ns, l, hostwide, "cni0"); o.Bridges[0].Flags() != (guard.Flags{2: true}) {
		t.Errorf("cni0 has %v", o.Bridges[0].Flags())
	}
	carryOut(t, ns, l, hostwide, "cni2")
	if _, err := os.Stat(memory); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the memory is still there: %v", err)
	}
}

// A renamed bridge is still known as the one whose flags were set.
func TestRenamedBridgeIsRemembered(t *testing.T) {
	ns, l, memory := flagged(t)
	ns.Run(t, "ip", "link", "add", "cni0", "index", "70", "type", "bridge")
	ns.Run(t, "ip", "link", "add", "cni1", "index", "71", "type", "bridge")
	carryOut(t, ns, l, scoped(false), "cni0")
	carryOut(t, ns, l, scoped(false), "cni1")
	ns.Run(t, "ip", "link", "set", "cni0", "name", "cnio0")
	ns.Run(t, "ip", "link", "del", "cni1")
	ns.Run(t, "ip", "link", "add", "other", "index", "71", "type", "bridge")
	p := scoped(false)
	var o guard.Observation
	ns.Do(func() { o = l.Survey(t.Context(), &p, 0) })
	names := make(map[string]int)
	for _, r := range o.Remembered {
		names[r.Name] = r.Index
	}
	if names["cnio0"] != 70 || names["cni0"] != 0 || names["other"] != 0 || o.RememberedErr != nil {
		t.Errorf("remembered: %+v, %v", o.Remembered, o.RememberedErr)
	}
	hostwide := guard.Policy{Module: "br_netfilter", Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}, {Key: guard.IP6Tables, Value: "1"}}}
	if o := carryOut(t, ns, l, hostwide, "cnio0"); o.Bridges[0].Flags() != (guard.Flags{}) {
		t.Errorf("cnio0 has %v", o.Bridges[0].Flags())
	}
	if _, err := os.Stat(memory); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the memory is still there: %v", err)
	}
}

// Bridges that are gone are forgotten before the file grows large, and a bridge whose
// flags were fought over is in it once.
func TestMemoryStaysSmall(t *testing.T) {
	ns, l, memory := flagged(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	longest := 0
	for range 50 {
		ns.Run(t, "ip", "link", "add", "cni1", "type", "bridge")
		ns.Run(t, "ip", "link", "set", "cni0", "type", "bridge", "nf_call_iptables", "0")
		carryOut(t, ns, l, scoped(false), "cni1")
		o := carryOut(t, ns, l, scoped(false), "cni0")
		ns.Run(t, "ip", "link", "del", "cni1")
		longest = max(longest, len(o.Remembered))
		if n := len(o.Remembered); n < 1 || o.RememberedErr != nil {
			t.Fatalf("remembered: %v, %v", o.Remembered, o.RememberedErr)
		}
	}
	info, err := os.Stat(memory)
	if err != nil || info.Size() > 8<<10 || longest < 10 || longest > 64 {
		t.Errorf("after 100 notes %v, %v; at most %d bridges in it", info, err, longest)
	}
}

// A sysctl that is not in effect keeps the flag.
func TestFlagsStayWithoutSysctls(t *testing.T) {
	ns, l, _ := flagged(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	carryOut(t, ns, l, scoped(false), "cni0")
	ns.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	p := guard.Policy{Module: "br_netfilter", Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}}}
	if o := carryOut(t, ns, l, p, "cni0"); o.Bridges[0].Flags() != (guard.Flags{0: true}) {
		t.Errorf("cni0 has %v", o.Bridges[0].Flags())
	}
}

// A memory file that is broken or cannot be written keeps no flag from being set.
func TestBadMemory(t *testing.T) {
	ns, l, memory := flagged(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	if err := os.MkdirAll(memory, 0o755); err != nil {
		t.Fatal(err)
	}
	o := carryOut(t, ns, l, scoped(false), "cni0")
	if o.Bridges[0].Flags() != (guard.Flags{true, true, true}) || o.RememberedErr == nil || !strings.Contains(o.RememberedErr.Error(), memory) {
		t.Errorf("a directory: %+v", o)
	}
	os.Remove(memory)
	if err := os.WriteFile(memory, []byte(`{"schema": 1, "brid`), 0o644); err != nil {
		t.Fatal(err)
	}
	ns.Run(t, "ip", "link", "add", "cni1", "type", "bridge")
	o = carryOut(t, ns, l, scoped(false), "cni1")
	if o.Bridges[0].Flags() != (guard.Flags{true, true, true}) || o.RememberedErr != nil || len(o.Remembered) != 1 {
		t.Errorf("half a file: %+v", o)
	}
}

func TestEvidence(t *testing.T) {
	const etc, k3s = "/etc/cni/net.d/", "/var/lib/rancher/k3s/agent/etc/cni/net.d/"
	root := t.TempDir()
	for path, text := range map[string]string{
		etc + "05-loopback.conf": `{"cniVersion": "0.3.1", "name": "lo", "type": "loopback"}`,
		etc + "10-containerd.conflist": `{"cniVersion": "1.0.0", "name": "k8s", "plugins": [
			{"type": "bridge", "isGateway": true, "ipam": {"type": "host-local",
				"ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:1::/64"}]]}},
			{"type": "portmap"}]}`,
		etc + "20-old.conf":  `{"name": "old", "type": "bridge", "bridge": "mynet0", "ipam": {"type": "host-local", "subnet": "usePodCidr"}}`,
		etc + "25-dhcp.conf": `{"name": "dhcp", "type": "bridge", "bridge": "br9", "ipam": {"type": "dhcp", "subnet": "10.9.0.0/24"}}`,
		k3s + "26-flannel.conflist": `{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
			{"type": "flannel", "delegate": {"hairpinMode": true, "forceAddress": true, "isDefaultGateway": true}},
			{"type": "portmap", "capabilities": {"portMappings": true}}]}`,
		etc + "27-flannel.conf": `{"name": "other", "type": "flannel", "delegate": {"type": "bridge", "bridge": "kube0"}}`,
		etc + "28-flannel.conf": `{"name": "none", "type": "flannel", "delegate": {"type": "ipvlan", "master": "eth0", "bridge": "br8"}}`,
		etc + "30-bad.conf":     `{"name": "bad"`,
		etc + "40-backup.bak":   `{"name": "gone", "type": "bridge"}`,
	} {
		path := filepath.Join(root, path)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, k3s, "50-fifo.conf"), 0o644); err != nil {
		t.Fatal(err)
	}
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	l := host.NewAt(root, host.Options{Bridges: host.Bridges})
	ns.Run(t, "ip", "link", "add", "podbr", "type", "bridge")
	ns.Run(t, "ip", "addr", "add", "10.244.1.1/24", "dev", "podbr")
	ns.Run(t, "ip", "link", "add", "veth0", "master", "podbr", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	o := carryOut(t, ns, l, scoped(true), "podbr")
	prefix := netip.MustParsePrefix
	want := []guard.Network{
		{Name: "k8s", Place: "/etc/cni/net.d/10-containerd.conflist", Bridge: "cni0", Subnets: []netip.Prefix{prefix("10.244.1.0/24"), prefix("fd00:1::/64")}},
		{Name: "old", Place: "/etc/cni/net.d/20-old.conf", Bridge: "mynet0"},
		{Name: "dhcp", Place: "/etc/cni/net.d/25-dhcp.conf", Bridge: "br9"},
		{Name: "other", Place: "/etc/cni/net.d/27-flannel.conf", Bridge: "kube0"},
		{Name: "cbr0", Place: "/var/lib/rancher/k3s/agent/etc/cni/net.d/26-flannel.conflist", Bridge: "cni0"},
	}
	if diff := cmp.Diff(want, o.Evidence.CNI.Networks, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
	const unread = "read /etc/cni/net.d/30-bad.conf: unexpected end of JSON input\n" + "read " + k3s + "50-fifo.conf: is a FIFO, not a regular file"
	if o.Evidence.CNI.Err == nil || o.Evidence.CNI.Err.Error() != unread {
		t.Errorf("error: %v", o.Evidence.CNI.Err)
	}
	if o.Bridges[0].Flags() != (guard.Flags{true, true, true}) {
		t.Errorf("not kept by evidence: %+v", o.Bridges)
	}
}
