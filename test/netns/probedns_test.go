package netns_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/probe/dns/dnstest"
	"github.com/nfguard/nfguard/test/lab"
)

// The command as a person runs it in a pod, with the pod's own resolv.conf: its text,
// its JSON, its exit codes and how long it takes.
func TestProbeDNS(t *testing.T) {
	w := dnstest.NewWorker(t, dnstest.Families[0], &dnstest.Server{Forward: true})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.32.0.10\noptions ndots:5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	probe := func(args ...string) (int, string) {
		t.Helper()
		began := time.Now()
		cmd := w.Pod.Command(binary, append([]string{"probe", "dns", "--resolv-conf", conf}, args...)...)
		cmd.Env = append(os.Environ(), "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		if took := time.Since(began); took > atMost {
			t.Errorf("%v took %v", args, took)
		}
		return code(err), string(out)
	}
	says := func(out string, lines ...string) {
		t.Helper()
		for _, l := range lines {
			if !strings.Contains(out, l) {
				t.Errorf("not said: %s\n%s", l, out)
			}
		}
	}

	w.Set(t, "1")
	got, out := probe("--replica", "10.200.2.32", "--replica", "10.200.1.7:53", "web")
	if got != 0 {
		t.Errorf("all is right: exit %d", got)
	}
	says(out, "10.32.0.10:53 answers, from its own address\n",
		"ok       10.200.1.7:53   replica  kubernetes.default.svc.cluster.local.  3 asked   NOERROR  ",
		"ok       10.32.0.10:53   service  web.shop.svc.cluster.local.            3 asked   NOERROR  ")

	w.Set(t, "0")
	got, out = probe("--tries", "20")
	if got != 1 {
		t.Errorf("keys at 0: exit %d", got)
	}
	says(out, "10.32.0.10:53: replies bypass netfilter on the bridge\n", "wrong source (10.200.2.32:53)",
		"why net.bridge.bridge-nf-call-iptables is not in effect on this node")
	var d struct {
		Schema   int
		Verdict  string
		Servers  []struct{ Address, Role string }
		Findings []struct{ Cause string }
		Asks     []struct{ Outcome, Source string }
	}
	got, out = probe("--tries", "20", "--external=", "-o", "json")
	lab.Schema(t, "probe-dns", []byte(out))
	if err := json.Unmarshal([]byte(out), &d); err != nil || got != 1 || d.Schema != 1 || d.Verdict != "wrong" || len(d.Asks) != 23 {
		t.Errorf("exit %d, %v: %s", got, err, out)
	}
	if want := []struct{ Address, Role string }{{"10.32.0.10:53", "service"}, {"10.200.2.32:53", "replica"}}; !cmp.Equal(want, d.Servers) {
		t.Errorf("servers %v, want %v", d.Servers, want)
	}
	if len(d.Findings) != 1 || d.Findings[0].Cause != "bridge_netfilter" {
		t.Errorf("findings %v", d.Findings)
	}

	w.Stop[w.Near]()
	w.Stop[w.Far]()
	w.Rules(t, w.Far) // a refused connection is fast; only silence takes time
	if got, out = probe(); got != 1 {
		t.Errorf("nobody listens: exit %d\n%s", got, out)
	}
	w.Node.Run(t, "nft", "flush chain ip proxy services; add rule ip proxy services ip daddr 10.32.0.10 drop")
	if got, out = probe(); got != 1 {
		t.Errorf("silence: exit %d\n%s", got, out)
	}
	says(out, "10.32.0.10:53 does not answer (timeout); without the addresses of its replicas")
	w.Pod.Run(t, "ip", "link", "set", "eth0", "down")
	if got, out = probe(); got != 2 {
		t.Errorf("no way there: exit %d\n%s", got, out)
	}
	says(out, "unknown  10.32.0.10:53 could not be asked from here: network is unreachable\n")
}

// The command as a person runs it on the node: a pod on the bridge asks the servers in
// kube-proxy's rules, and nothing is left behind.
func TestProbeDNSBridge(t *testing.T) {
	for _, f := range dnstest.Families {
		t.Run(f.Name, func(t *testing.T) { probeDNSBridge(t, f) })
	}
}

func probeDNSBridge(t *testing.T, f dnstest.Family) {
	w := dnstest.NewWorker(t, f, &dnstest.Server{Forward: true})
	w.KubeProxy(t)
	probe := func(args ...string) (int, string) {
		t.Helper()
		cmd := w.Node.Command(binary, append([]string{"probe", "dns", "--bridge", "cnio0", "--config", "/nonexistent"}, args...)...)
		cmd.Env = append(os.Environ(), "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		return code(err), string(out)
	}
	links := func() string { return w.Node.Run(t, "ip", "-o", "link") }
	before := links()
	in := netip.MustParsePrefix("10.200.2.0/24") // the subnet of the bridge
	mine, nobody := "10.200.2.250", "10.32.0.99"
	if w.Service.Addr().Is6() {
		in, mine, nobody = netip.MustParsePrefix("fd00:200:2::/64"), "fd00:200:2::250", "fd00:32::99"
	}

	w.Set(t, "1")
	got, out := probe("--yes", "-o", "json", "--tries", "20")
	lab.Schema(t, "probe-dns", []byte(out))
	var d struct {
		Verdict, Bridge string
		Addresses       []netip.Prefix
		Servers         []struct{ Address, Role string }
		Findings        []struct{ Cause string }
	}
	if err := json.Unmarshal([]byte(out), &d); err != nil || got != 0 || d.Verdict != "right" || d.Bridge != "cnio0" || len(d.Findings) != 0 {
		t.Errorf("keys at 1: exit %d, %v: %s", got, err, out)
	}
	want := []struct{ Address, Role string }{{w.Service.String(), "service"}, {w.Far.String(), "replica"}, {w.Near.String(), "replica"}}
	if diff := cmp.Diff(want, d.Servers); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	if len(d.Addresses) != 1 || d.Addresses[0].Masked() != in {
		t.Errorf("addresses %v, want one in %v", d.Addresses, in)
	}

	w.Set(t, "0")
	got, out = probe("--yes", "--tries", "20", "--address", mine)
	for _, l := range []string{
		w.Service.String() + ": replies bypass netfilter on the bridge\nasked by a pod on cnio0 with the address " + mine + ", given back\n",
		"wrong source (" + w.Near.String() + ")",
	} {
		if got != 1 || !strings.Contains(out, l) {
			t.Errorf("keys at 0: exit %d, not said: %s\n%s", got, l, out)
		}
	}
	if got, out = probe("--server", w.Service.String()); got != 2 || !strings.Contains(out, "say --yes") {
		t.Errorf("nobody to ask: exit %d, %s", got, out)
	}
	nobody = netip.AddrPortFrom(netip.MustParseAddr(nobody), 53).String()
	if got, out = probe("--yes", "--server", nobody, "--timeout", "200ms"); got != 1 || !strings.Contains(out, nobody+" does not answer") {
		t.Errorf("no such Service: exit %d, %s", got, out)
	}
	for start := time.Now(); links() != before; time.Sleep(10 * time.Millisecond) { // the kernel takes its time
		if time.Since(start) > 5*time.Second {
			t.Fatalf("left behind:\nbefore %s\nafter  %s", before, links())
		}
	}
}
