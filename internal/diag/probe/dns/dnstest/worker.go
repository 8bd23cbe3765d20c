package dnstest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/nfguard/nfguard/test/lab"
)

// Worker is a node with a pod that asks, a replica of the DNS on the same
// bridge and one on another node, both behind the cluster IP.
type Worker struct {
	Node, Pod *lab.Namespace
	Service   netip.AddrPort            // the cluster IP
	Near, Far netip.AddrPort            // the replicas
	Stop      map[netip.AddrPort]func() // ends the server there
	family    Family
}

// Family is the addresses of a worker, IPv4 or IPv6.
type Family struct {
	Name                string
	nft                 string // in nft's words
	service, kubernetes string // cluster IPs
	pods, remotes       string // "10.200.2.%d/24"
	here, there         string // the default routes
}

// Families are both.
var Families = []Family{
	{"IPv4", "ip", "10.32.0.10", "10.32.0.1", "10.200.2.%d/24", "10.200.1.%d/24", "10.200.2.1", "10.200.1.1"},
	{"IPv6", "ip6", "fd00:32::a", "fd00:32::1", "fd00:200:2::%d/64", "fd00:200:1::%d/64", "fd00:200:2::1", "fd00:200:1::1"},
}

// NewWorker makes one with s as both replicas, and the kernel's keys. It needs
// root and network namespaces.
func NewWorker(t testing.TB, f Family, s *Server) *Worker {
	t.Helper()
	w := &Worker{Node: lab.NewNamespace(t), Pod: lab.NewNamespace(t), Stop: map[netip.AddrPort]func(){}, family: f}
	near, far := lab.NewNamespace(t), lab.NewNamespace(t)
	address := func(pattern string, n int) string { return fmt.Sprintf(pattern, n) }
	at := func(pattern string, n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParsePrefix(address(pattern, n)).Addr(), 53)
	}
	w.Service = netip.AddrPortFrom(netip.MustParseAddr(f.service), 53)
	w.Near, w.Far = at(f.pods, 32), at(f.remotes, 7)

	w.Node.Run(t, "sh", "-ec", fmt.Sprintf(`
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
		ip link set lo up
		ip link add cnio0 type bridge
		ip addr add %[4]s dev cnio0 nodad
		ip link set cnio0 up
		ip link add veth31 up master cnio0 type veth peer name eth0 netns %[1]s
		ip link add veth32 up master cnio0 type veth peer name eth0 netns %[2]s
		ip link add uplink up type veth peer name eth0 netns %[3]s
		ip addr add %[5]s dev uplink nodad`,
		w.Pod.Path(), near.Path(), far.Path(), address(f.pods, 1), address(f.remotes, 1)))
	for _, p := range []struct {
		ns               *lab.Namespace
		address, gateway string
	}{{w.Pod, address(f.pods, 31), f.here}, {near, address(f.pods, 32), f.here}, {far, address(f.remotes, 7), f.there}} {
		p.ns.Run(t, "sh", "-ec", fmt.Sprintf(`ip link set lo up
			ip addr add %s dev eth0 nodad
			ip link set eth0 up
			sysctl -qw net.ipv4.icmp_ratelimit=0 # else the kernel sends six errors, then one a second
			ip route add default via %s`, p.address, p.gateway))
	}
	w.Rules(t, w.Near, w.Far)

	s.Records = Records(f.kubernetes)
	for at, ns := range map[netip.AddrPort]*lab.Namespace{w.Near: near, w.Far: far} {
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
		w.Stop[at] = s.Serve(t, c, l)
	}
	w.await(t)
	return w
}

// await waits until both replicas are reached: a new link drops what it gets
// until the kernel's link watch has run, up to a second later.
func (w *Worker) await(t testing.TB) {
	t.Helper()
	client := dns.Client{Timeout: 100 * time.Millisecond}
	ask := new(dns.Msg).SetQuestion("cluster.local.", dns.TypeSOA)
	for _, at := range []netip.AddrPort{w.Near, w.Far} {
		for deadline := time.Now().Add(20 * time.Second); ; {
			var err error
			w.Pod.Do(func() { _, _, err = client.Exchange(ask, at.String()) })
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the replica %s is not reached: %v", at, err)
			}
		}
	}
}

// Forget empties the node's table of connections: an ask from a port that was
// used a moment ago would go by old rules.
func (w *Worker) Forget(t testing.TB) {
	t.Helper()
	var err error
	w.Node.Do(func() { err = netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	if err != nil {
		t.Fatal(err)
	}
}

// Rules takes asks of the cluster IP to one of replicas, as kube-proxy does.
func (w *Worker) Rules(t testing.TB, replicas ...netip.AddrPort) {
	t.Helper()
	var choice []string
	for i, r := range replicas {
		choice = append(choice, fmt.Sprintf("%d : %s", i, r.Addr()))
	}
	w.Node.Run(t, "nft", fmt.Sprintf(`table %[1]s proxy
		delete table %[1]s proxy
		table %[1]s proxy { chain services { type nat hook prerouting priority -100;
			%[1]s daddr %[2]s meta l4proto { tcp, udp } th dport 53 dnat to numgen random mod %[3]d map { %[4]s };
		}; }`,
		w.family.nft, w.family.service, len(replicas), strings.Join(choice, ", ")))
	w.Forget(t)
}

// Set gives the keys for both families a value.
func (w *Worker) Set(t testing.TB, value string) {
	t.Helper()
	w.Node.Do(func() {
		for _, key := range []string{"iptables", "ip6tables"} {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+key, []byte(value), 0); err != nil {
				t.Error(err)
			}
		}
	})
}
