package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

// worker is a node with a pod that asks, a replica of the DNS on the same
// bridge and one on another node, both behind the cluster IP.
type worker struct {
	node, pod  *lab.Namespace
	service    netip.AddrPort
	near, far  netip.AddrPort
	stop       map[netip.AddrPort]func() // ends the server there
	kubernetes string                    // the address of clusterName
}

// family is the addresses of a worker, IPv4 or IPv6.
type family struct {
	name, nft           string
	service, kubernetes string
	pods, remotes       string // "10.200.2.%d/24"
	here, there         string // the default routes
}

var families = []family{
	{"IPv4", "ip", "10.32.0.10", "10.32.0.1", "10.200.2.%d/24", "10.200.1.%d/24", "10.200.2.1", "10.200.1.1"},
	{"IPv6", "ip6", "fd00:32::a", "fd00:32::1", "fd00:200:2::%d/64", "fd00:200:1::%d/64", "fd00:200:2::1", "fd00:200:1::1"},
}

func newWorker(t *testing.T, f family, s *server) *worker {
	t.Helper()
	w := &worker{node: lab.NewNamespace(t), pod: lab.NewNamespace(t), kubernetes: f.kubernetes, stop: map[netip.AddrPort]func(){}}
	near, far := lab.NewNamespace(t), lab.NewNamespace(t)
	address := func(pattern string, n int) string { return fmt.Sprintf(pattern, n) }
	at := func(pattern string, n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParsePrefix(address(pattern, n)).Addr(), 53)
	}
	w.service = netip.AddrPortFrom(netip.MustParseAddr(f.service), 53)
	w.near, w.far = at(f.pods, 32), at(f.remotes, 7)

	w.node.Run(t, "sh", "-ec", fmt.Sprintf(`
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
		ip link set lo up
		ip link add cnio0 type bridge
		ip addr add %[4]s dev cnio0 nodad
		ip link set cnio0 up
		ip link add veth31 up master cnio0 type veth peer name eth0 netns %[1]s
		ip link add veth32 up master cnio0 type veth peer name eth0 netns %[2]s
		ip link add uplink up type veth peer name eth0 netns %[3]s
		ip addr add %[5]s dev uplink nodad`,
		w.pod.Path(), near.Path(), far.Path(), address(f.pods, 1), address(f.remotes, 1)))
	for _, p := range []struct {
		ns               *lab.Namespace
		address, gateway string
	}{{w.pod, address(f.pods, 31), f.here}, {near, address(f.pods, 32), f.here}, {far, address(f.remotes, 7), f.there}} {
		p.ns.Run(t, "sh", "-ec", fmt.Sprintf(`ip link set lo up
			ip addr add %s dev eth0 nodad
			ip link set eth0 up
			sysctl -qw net.ipv4.icmp_ratelimit=0 # else the kernel sends six errors, then one a second
			ip route add default via %s`, p.address, p.gateway))
	}
	w.rules(t, f, w.near, w.far)

	s.records = records(f.kubernetes)
	for at, ns := range map[netip.AddrPort]*lab.Namespace{w.near: near, w.far: far} {
		var c net.PacketConn
		var l net.Listener
		var udp, tcp error
		ns.Do(func() {
			c, udp = net.ListenPacket("udp", at.String())
			l, tcp = net.Listen("tcp", at.String())
		})
		if udp != nil || tcp != nil {
			t.Fatal(udp, tcp)
		}
		w.stop[at] = s.serve(t, c, l)
	}
	return w
}

// rules takes asks of the cluster IP to one of replicas, as kube-proxy does.
func (w *worker) rules(t *testing.T, f family, replicas ...netip.AddrPort) {
	t.Helper()
	var choice []string
	for i, r := range replicas {
		choice = append(choice, fmt.Sprintf("%d : %s", i, r.Addr()))
	}
	w.node.Run(t, "nft", fmt.Sprintf(`table %[1]s proxy
		delete table %[1]s proxy
		table %[1]s proxy { chain services { type nat hook prerouting priority -100;
			%[1]s daddr %[2]s meta l4proto { tcp, udp } th dport 53 dnat to numgen random mod %[3]d map { %[4]s };
		}; }`,
		f.nft, f.service, len(replicas), strings.Join(choice, ", ")))
}

// set gives the keys for both families a value.
func (w *worker) set(t *testing.T, value string) {
	t.Helper()
	w.node.Do(func() {
		for _, key := range []string{"iptables", "ip6tables"} {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte(value), 0); err != nil {
				t.Error(err)
			}
		}
	})
}

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
const patience = 500 * time.Millisecond

// diagnose asks from ns for the names that every cluster has, and for name.
func (w *worker) diagnose(t *testing.T, ns *lab.Namespace, name string, replicas ...netip.AddrPort) (*Report, *Diagnosis) {
	t.Helper()
	search := PodConf("default", "cluster.local", ResolvConf{})
	p := Plan{
		Server: w.service, Replicas: replicas, Name: name, Search: search, Tries: 20, Timeout: patience,
		Questions: Questions("cluster.local", "kubernetes.io", name, &search),
	}
	var err error
	ns.Do(func() { p.Networks, err = Networks() })
	if err != nil {
		t.Fatal(err)
	}
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
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorker(t, f, &server{forward: true})
			w.set(t, "1")
			_, d := w.diagnose(t, w.pod, "", w.near, w.far)
			check(t, d, Right)

			w.set(t, "0")
			r, d := w.diagnose(t, w.pod, "")
			check(t, d, Wrong, BridgeNetfilter)
			if want := []Server{{w.service, Service, false}, {w.near, Replica, true}}; !cmp.Equal(want, r.Servers, compareAddrPort) {
				t.Errorf("servers %v, want %v: nobody named the replica, its reply did", r.Servers, want)
			}
			base := r.asked(w.service, clusterName)
			if base.Replied == 0 || base.count(WrongSource) == 0 || base.Replied+base.count(WrongSource) != base.Asked || !cmp.Equal(base.Sources, []netip.AddrPort{w.near}, compareAddrPort) {
				t.Errorf("asks that were led to the other node are right, those to this one are not: %+v", base)
			}
			if !strings.Contains(d.Findings[0].Next, key(w.service.Addr())) {
				t.Errorf("not the key of %s: %s", f.name, d.Findings[0].Next)
			}

			// The node itself is none the wiser.
			_, d = w.diagnose(t, w.node, "", w.near, w.far)
			check(t, d, Unknown, CannotAsk) // this worker's rules are for pods only, and it has no route
			w.node.Run(t, "nft", fmt.Sprintf(`table %[1]s proxy { chain own { type nat hook output priority -100;
				%[1]s daddr %[2]s udp dport 53 dnat to %[3]s; }; }`, f.nft, f.service, w.near.Addr()))
			w.node.Run(t, "ip", "route", "add", f.service, "dev", "cnio0")
			_, d = w.diagnose(t, w.node, "", w.near, w.far)
			check(t, d, Right)
		})
	}
}

func TestReplicas(t *testing.T) {
	f := families[0]
	w := newWorker(t, f, &server{forward: true})
	w.set(t, "1")
	w.stop[w.far]()
	_, d := w.diagnose(t, w.pod, "", w.near, w.far)
	check(t, d, Wrong, DeadReplica)
	if want := "the replica 10.200.1.7:53 does not answer (refused), and 10.200.2.32:53 does: "; !strings.HasPrefix(d.Findings[0].Sentence, want) {
		t.Errorf("%s", d.Findings[0].Sentence)
	}
	_, d = w.diagnose(t, w.pod, "")
	check(t, d, Wrong, Lossy)

	// A pod that is gone: nobody says that there is nobody.
	w.node.Run(t, "ip", "link", "set", "uplink", "down")
	w.node.Run(t, "ip", "route", "add", "blackhole", "10.200.1.0/24")
	_, d = w.diagnose(t, w.pod, "", w.near, w.far)
	check(t, d, Wrong, DeadReplica)

	w.rules(t, f, w.far)
	_, d = w.diagnose(t, w.pod, "", w.near)
	check(t, d, Wrong, NoPath)
	w.stop[w.near]()
	_, d = w.diagnose(t, w.pod, "", w.near)
	check(t, d, Wrong, Down)

	// kube-proxy refuses for a Service without endpoints: in FORWARD to pods,
	// and in OUTPUT to the node itself.
	w.node.Run(t, "nft", `delete table ip proxy; table ip filter {
		chain forward { type filter hook forward priority 0; ip daddr 10.32.0.10 reject; };
		chain output { type filter hook output priority 0; ip daddr 10.32.0.10 reject; }; }`)
	w.node.Run(t, "sh", "-ec", "ip link add elsewhere up type bridge; ip route add 10.32.0.0/24 dev elsewhere")
	for _, ns := range []*lab.Namespace{w.pod, w.node} {
		_, d = w.diagnose(t, ns, "")
		check(t, d, Wrong, NoEndpoints)
	}
	w.node.Run(t, "nft", `flush chain ip filter output; add rule ip filter output ip daddr 10.32.0.10 drop`)
	_, d = w.diagnose(t, w.node, "")
	check(t, d, Unknown, CannotAsk)
	w.pod.Run(t, "ip", "route", "del", "default")
	_, d = w.diagnose(t, w.pod, "")
	check(t, d, Unknown, CannotAsk)
}

func TestNames(t *testing.T) {
	w := newWorker(t, families[0], &server{})
	w.set(t, "1")
	_, d := w.diagnose(t, w.pod, "web.shop", w.near, w.far)
	check(t, d, Wrong, NoForward, SearchList)
	if want := `"web.shop" has fewer than 5 dots (ndots), so the search list goes first; asked for, in this order: ` +
		"web.shop.default.svc.cluster.local. (NXDOMAIN), web.shop.svc.cluster.local. (NOERROR)"; d.Findings[1].Sentence != want {
		t.Errorf("got  %s\nwant %s", d.Findings[1].Sentence, want)
	}
	_, d = w.diagnose(t, w.pod, "docs.example.net")
	check(t, d, Wrong, NoForward, NameFails)

	// With both faults both are told: the replica is judged by its own address.
	w.set(t, "0")
	_, d = w.diagnose(t, w.pod, "")
	check(t, d, Wrong, BridgeNetfilter, NoForward)
}

// A reply that is too long for UDP is asked for over TCP, through the same
// rules.
func TestLongReply(t *testing.T) {
	w := newWorker(t, families[0], &server{forward: true, long: true})
	w.set(t, "1")
	r, d := w.diagnose(t, w.pod, "", w.near, w.far)
	check(t, d, Right)
	if a := r.Asks[0]; !a.TCP || len(a.Answers) != 100 {
		t.Errorf("not over TCP: %+v", a)
	}
	w.node.Run(t, "nft", `table ip filter { chain forward { type filter hook forward priority 0; tcp dport 53 drop; }; }`)
	_, d = w.diagnose(t, w.pod, "")
	check(t, d, Wrong, Broken)
}
