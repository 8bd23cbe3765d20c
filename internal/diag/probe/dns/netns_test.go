package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/probe/dns/dnstest"
	"github.com/nfguard/nfguard/test/lab"
)

// inside is a namespace of the laboratory that asks.
type inside struct{ *lab.Namespace }

func (i inside) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	i.Do(func() { c, err = Own{}.Dial(ctx, network, address) })
	return c, err
}

func (i inside) ListenPacket(ctx context.Context, network, address string) (c net.PacketConn, err error) {
	i.Do(func() { c, err = Own{}.ListenPacket(ctx, network, address) })
	return c, err
}

// patience is how long asks of these tests wait: on one machine a reply takes
// far less than a millisecond, but for the race detector.
const patience = time.Second

// diagnose asks from ns for the names that every cluster has, and for name.
func diagnose(t *testing.T, w *dnstest.Worker, ns *lab.Namespace, name string, replicas ...netip.AddrPort) (*Report, *Diagnosis) {
	t.Helper()
	search := PodConf("default", "cluster.local", ResolvConf{})
	p := Plan{
		Server: w.Service, Replicas: replicas, Name: name, Search: search, Tries: 20, Timeout: patience,
		Questions: Questions("cluster.local", "kubernetes.io", name, &search),
	}
	var err error
	ns.Do(func() { p.Networks, err = Networks() })
	if err != nil {
		t.Fatal(err)
	}
	w.Forget(t)
	r := Run(context.Background(), inside{ns}, p)
	d := Diagnose(&r)
	return &r, &d
}

// check compares the causes of a diagnosis.
func check(t *testing.T, d *Diagnosis, verdict Verdict, want ...Cause) {
	t.Helper()
	if diff := cmp.Diff(want, causes(d)); diff != "" || d.Verdict != verdict {
		t.Errorf("%s, want %s (-want +got):\n%s\n%+v\n%+v", d.Verdict, verdict, diff, d.Findings, d.Rows)
	}
}

func TestBridge(t *testing.T) {
	for _, f := range dnstest.Families {
		t.Run(f.Name, func(t *testing.T) {
			w := dnstest.NewWorker(t, f, &dnstest.Server{Forward: true})
			w.Set(t, "1")
			_, d := diagnose(t, w, w.Pod, "", w.Near, w.Far)
			check(t, d, Right)

			w.Set(t, "0")
			r, d := diagnose(t, w, w.Pod, "")
			check(t, d, Wrong, BridgeNetfilter)
			if want := []Server{{w.Service, Service, false}, {w.Near, Replica, true}}; !cmp.Equal(want, r.Servers, compareAddrPort) {
				t.Errorf("servers %v, want %v: nobody named the replica, its reply did", r.Servers, want)
			}
			base := r.asked(w.Service, clusterName)
			if base.Replied == 0 || base.count(WrongSource) == 0 || base.Replied+base.count(WrongSource) != base.Asked || !cmp.Equal(base.Sources, []netip.AddrPort{w.Near}, compareAddrPort) {
				t.Errorf("asks that were led to the other node are right, those to this one are not: %+v", base)
			}
			if !strings.Contains(d.Findings[0].Next, key(w.Service.Addr())) {
				t.Errorf("not the key of %s: %s", f.Name, d.Findings[0].Next)
			}

			// The node itself is none the wiser.
			_, d = diagnose(t, w, w.Node, "", w.Near, w.Far)
			check(t, d, Unknown, CannotAsk) // this worker's rules are for pods only, and it has no route
			ip := "ip"
			if w.Service.Addr().Is6() {
				ip = "ip6"
			}
			w.Node.Run(t, "nft", fmt.Sprintf(`table %[1]s proxy { chain own { type nat hook output priority -100;
				%[1]s daddr %[2]s udp dport 53 dnat to %[3]s; }; }`, ip, w.Service.Addr(), w.Near.Addr()))
			w.Node.Run(t, "ip", "route", "add", w.Service.Addr().String(), "dev", "cnio0")
			_, d = diagnose(t, w, w.Node, "", w.Near, w.Far)
			check(t, d, Right)
		})
	}
}

func TestReplicas(t *testing.T) {
	w := dnstest.NewWorker(t, dnstest.Families[0], &dnstest.Server{Forward: true})
	w.Set(t, "1")
	w.Stop[w.Far]()
	_, d := diagnose(t, w, w.Pod, "", w.Near, w.Far)
	check(t, d, Wrong, DeadReplica)
	if want := "the replica 10.200.1.7:53 does not answer (refused), and 10.200.2.32:53 does: "; !strings.HasPrefix(d.Findings[0].Sentence, want) {
		t.Errorf("%s", d.Findings[0].Sentence)
	}
	_, d = diagnose(t, w, w.Pod, "")
	check(t, d, Wrong, Lossy)

	// A pod that is gone: nobody says that there is nobody.
	w.Node.Run(t, "ip", "link", "set", "uplink", "down")
	w.Node.Run(t, "ip", "route", "add", "blackhole", "10.200.1.0/24")
	_, d = diagnose(t, w, w.Pod, "", w.Near, w.Far)
	check(t, d, Wrong, DeadReplica)

	w.Rules(t, w.Far)
	_, d = diagnose(t, w, w.Pod, "", w.Near)
	check(t, d, Wrong, NoPath)
	w.Stop[w.Near]()
	_, d = diagnose(t, w, w.Pod, "", w.Near)
	check(t, d, Wrong, Down)

	// kube-proxy refuses for a Service without endpoints: in FORWARD to pods,
	// and in OUTPUT to the node itself.
	w.Node.Run(t, "nft", `delete table ip proxy; table ip filter {
		chain forward { type filter hook forward priority 0; ip daddr 10.32.0.10 reject; };
		chain output { type filter hook output priority 0; ip daddr 10.32.0.10 reject; }; }`)
	w.Node.Run(t, "sh", "-ec", "ip link add elsewhere up type bridge; ip route add 10.32.0.0/24 dev elsewhere")
	for _, ns := range []*lab.Namespace{w.Pod, w.Node} {
		_, d = diagnose(t, w, ns, "")
		check(t, d, Wrong, NoEndpoints)
	}
	w.Node.Run(t, "nft", `flush chain ip filter output; add rule ip filter output ip daddr 10.32.0.10 drop`)
	_, d = diagnose(t, w, w.Node, "")
	check(t, d, Unknown, CannotAsk)
	w.Pod.Run(t, "ip", "route", "del", "default")
	_, d = diagnose(t, w, w.Pod, "")
	check(t, d, Unknown, CannotAsk)
}

func TestNames(t *testing.T) {
	w := dnstest.NewWorker(t, dnstest.Families[0], &dnstest.Server{})
	w.Set(t, "1")
	_, d := diagnose(t, w, w.Pod, "web.shop", w.Near, w.Far)
	check(t, d, Wrong, NoForward, SearchList)
	if want := `"web.shop" has fewer than 5 dots (ndots), so the search list goes first; asked for, in this order: ` +
		"web.shop.default.svc.cluster.local. (NXDOMAIN), web.shop.svc.cluster.local. (NOERROR)"; d.Findings[1].Sentence != want {
		t.Errorf("got  %s\nwant %s", d.Findings[1].Sentence, want)
	}
	_, d = diagnose(t, w, w.Pod, "docs.example.net")
	check(t, d, Wrong, NoForward, NameFails)

	// With both faults both are told: the replica is judged by its own address.
	w.Set(t, "0")
	_, d = diagnose(t, w, w.Pod, "")
	check(t, d, Wrong, BridgeNetfilter, NoForward)
}

// A reply that is too long for UDP is asked for over TCP, through the same
// rules.
func TestLongReply(t *testing.T) {
	w := dnstest.NewWorker(t, dnstest.Families[0], &dnstest.Server{Forward: true, Long: true})
	w.Set(t, "1")
	r, d := diagnose(t, w, w.Pod, "", w.Near, w.Far)
	check(t, d, Right)
	if a := r.Asks[0]; !a.TCP || len(a.Answers) != 100 {
		t.Errorf("not over TCP: %+v", a)
	}
	w.Node.Run(t, "nft", `table ip filter { chain forward { type filter hook forward priority 0; tcp dport 53 drop; }; }`)
	_, d = diagnose(t, w, w.Pod, "")
	check(t, d, Wrong, Broken)
}
