package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
	"github.com/nfguard/nfguard/internal/services"
	"github.com/nfguard/nfguard/test/lab"
)

func endpoints(texts ...string) (list []netip.AddrPort) {
	for _, t := range texts {
		list = append(list, netip.MustParseAddrPort(t))
	}
	return list
}

func TestNewSubject(t *testing.T) {
	const loopback, bridge, wire = 1, 2, 3
	route := func(a netip.Addr) (int, error) {
		switch {
		case netip.MustParsePrefix("10.1.0.0/24").Contains(a):
			return bridge, nil
		case a.String() == "192.0.2.1":
			return loopback, nil
		case a.String() == "10.9.9.9":
			return 0, unix.ENETUNREACH
		}
		return wire, nil
	}
	s := services.Service{Name: "a", Protocol: "tcp", Endpoints: endpoints("10.1.0.1:80", "10.1.0.2:80", "10.1.1.1:80", "10.9.9.9:80", "192.0.2.1:80")}
	got := NewSubject(s, bridge, loopback, route)
	want := Subject{Service: s, Bridged: endpoints("10.1.0.1:80", "10.1.0.2:80"), Routed: endpoints("10.1.1.1:80")}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
}

func TestTimes(t *testing.T) {
	for _, tt := range []struct{ bridged, all, want int }{{1, 1, 0}, {0, 3, 0}, {3, 3, 0}, {1, 2, 7}, {2, 3, 5}, {1, 10, 44}, {1, 100, 64}} {
		s := Subject{Bridged: make([]netip.AddrPort, tt.bridged)}
		s.Endpoints = make([]netip.AddrPort, tt.all)
		if got := s.times(); got != tt.want {
			t.Errorf("%d of %d behind the bridge: asked %d times, want %d", tt.bridged, tt.all, got, tt.want)
		}
	}
}

func TestChoose(t *testing.T) {
	at := func(i int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("10.96.0.%d:80", i)) }
	service := func(name string, cluster netip.AddrPort, p services.Protocol, bridged, routed int) Subject {
		return Subject{
			Service: services.Service{Name: name, ClusterIP: cluster, Protocol: p, Endpoints: make([]netip.AddrPort, bridged+routed)},
			Bridged: make([]netip.AddrPort, bridged), Routed: make([]netip.AddrPort, routed),
		}
	}
	all := []Subject{
		service("mixed-1", at(1), "tcp", 1, 1),
		service("far-1", at(2), "tcp", 0, 1),
		service("here-1", at(3), "tcp", 1, 0),
		service("sctp", at(4), "sctp", 1, 0),
		service("syslog", netip.MustParseAddrPort("10.96.0.5:514"), "udp", 1, 0),
		service("dns", netip.MustParseAddrPort("10.96.0.10:53"), "udp", 1, 1),
		service("host", at(6), "tcp", 0, 0),
		service("far-2", at(7), "tcp", 0, 2),
		service("far-3", at(8), "tcp", 0, 2),
		service("mixed-2", at(9), "tcp", 1, 1),
		service("here-6", netip.MustParseAddrPort("[fd00::1]:80"), "tcp", 1, 0),
	}
	var got []string
	for _, s := range Choose(all) {
		got = append(got, s.Name)
	}
	if want := []string{"far-1", "here-1", "far-2", "here-6", "mixed-1", "dns"}; !slices.Equal(want, got) {
		t.Errorf("chosen (-want +got):\n%s", cmp.Diff(want, got))
	}
}

func TestCandidates(t *testing.T) {
	for _, tt := range []struct {
		subnet string
		least  int // that many are found, by chance or not
	}{{"10.244.0.254/24", 2}, {"10.0.0.1/30", 0}, {"10.0.0.1/31", 0}, {"fd00::1/64", 8}, {"fd00::1/120", 2}} {
		subnet := netip.MustParsePrefix(tt.subnet)
		list := Candidates(subnet)
		if len(list) < tt.least {
			t.Errorf("%s: %v", subnet, list)
		}
		for _, a := range list {
			if !subnet.Contains(a) || a == subnet.Addr() || a == subnet.Masked().Addr() || !subnet.Contains(a.Next()) {
				t.Errorf("%s: %s", subnet, a)
			}
		}
	}
	// Of a /30 two can be pods' and one is the gateway's.
	for range 100 {
		for _, a := range Candidates(netip.MustParsePrefix("10.0.0.1/30")) {
			if a.String() != "10.0.0.2" {
				t.Fatalf("a candidate of a /30 is %s", a)
			}
		}
	}
}

func TestClaims(t *testing.T) {
	addr := netip.MustParseAddr("10.200.2.7")
	const head = "ffffffffffff020000000001" + "0806" + "0001080006" + "04"
	for _, tt := range []struct{ name, frame, want string }{
		{"a reply", head + "0002" + "020000000001" + "0ac80207" + "026e66670001" + "00000000", "02:00:00:00:00:01"},
		{"an announcement", head + "0001" + "020000000001" + "0ac80207" + "000000000000" + "0ac80207", "02:00:00:00:00:01"},
		{"a probe for the same", head + "0001" + "020000000001" + "00000000" + "000000000000" + "0ac80207", "02:00:00:00:00:01"},
		{"the owner asks for another", head + "0001" + "020000000001" + "0ac80207" + "000000000000" + "0ac80201", "02:00:00:00:00:01"},
		{"a question for it", head + "0001" + "020000000001" + "0ac80201" + "000000000000" + "0ac80207", ""},
		{"a probe for another", head + "0001" + "020000000001" + "00000000" + "000000000000" + "0ac80208", ""},
		{"cut off", head + "0002" + "020000000001" + "0ac80207" + "026e66670001" + "000000", ""},
		{"not of Ethernet", "ffffffffffff020000000001" + "0806" + "0006080006" + "04" + "0002" + "020000000001" + "0ac80207" + "026e66670001" + "00000000", ""},
	} {
		b, err := hex.DecodeString(tt.frame)
		if err != nil {
			t.Fatal(err)
		}
		got := claims(b, addr)
		if got.String() != tt.want {
			t.Errorf("%s: claimed by %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := claims(arpProbe([]byte{2, 0, 0, 0, 0, 1}, addr), addr); got.String() != "02:00:00:00:00:01" {
		t.Errorf("our own probe is read as %q", got)
	}
}

// FuzzFrames proves that no frame and no segment, however broken, is more than
// no answer.
func FuzzFrames(f *testing.F) {
	addr := netip.MustParseAddr("10.200.2.7")
	f.Add(arpProbe([]byte{2, 0, 0, 0, 0, 1}, addr))
	f.Add(append([]byte{0x45, 19: 0}, 0, 80, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := claims(b, addr); c != nil && len(c) != 6 {
			t.Errorf("claimed by %v", c)
		}
		for _, from := range []unix.Sockaddr{&unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}}, &unix.SockaddrInet6{}} {
			if source, ok := reply(b, from, 0x1234); ok != source.IsValid() {
				t.Errorf("from %v: %v", source, ok)
			}
		}
	})
}

// TestAttach plugs a pod in, without a command around it: an address that is
// free is given, one in use is not, and nothing of it is left.
func TestAttach(t *testing.T) {
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	ns.Run(t, "ip", "addr", "add", "10.1.0.1/24", "dev", "cni0")
	ns.Run(t, "ip", "link", "set", "cni0", "up")
	ns.Run(t, "ip", "link", "add", "veth0", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	ns.Run(t, "ip", "link", "set", "veth0", "up")
	pod.Run(t, "ip", "addr", "add", "10.1.0.7/24", "dev", "eth0")
	pod.Run(t, "ip", "link", "set", "eth0", "up")
	ns.Run(t, "ip", "link", "set", "cni0", "mtu", "1400")
	for !strings.Contains(ns.Run(t, "ip", "link", "show", "dev", "cni0"), " state UP ") {
		time.Sleep(time.Millisecond)
	}
	before := ns.Run(t, "ip", "-o", "link") + ns.Run(t, "ip", "neigh")

	attach := func(ctx context.Context, bridge, want string) (mtu int, own []netip.Prefix, err error) {
		ns.Do(func() {
			var subnets []netip.Prefix
			if subnets, err = Subnets(ctx, bridge); err != nil {
				return
			}
			var a *Attachment
			if a, err = Attach(ctx, bridge, subnets, []netip.Addr{netip.MustParseAddr(want)}); err != nil {
				return
			}
			own, mtu = a.Addresses, a.port.Attrs().MTU
			err = a.Close()
		})
		return mtu, own, err
	}
	mtu, own, err := attach(t.Context(), "cni0", "10.1.0.9")
	if err != nil || mtu != 1400 || len(own) != 1 || own[0].String() != "10.1.0.9/24" {
		t.Errorf("attached as %v with an MTU of %d, error %v", own, mtu, err)
	}
	if _, _, err := attach(t.Context(), "cni0", "10.1.0.7"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("an address in use: %v", err)
	}
	if _, _, err := attach(t.Context(), "veth0", "10.1.0.7"); !errors.Is(err, rtnl.ErrNoBridge) {
		t.Errorf("no bridge: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := attach(ctx, "cni0", "10.1.0.9"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if diff := cmp.Diff(before, ns.Run(t, "ip", "-o", "link")+ns.Run(t, "ip", "neigh")); diff != "" {
		t.Errorf("what is left (-before +after):\n%s", diff)
	}
	ns.Run(t, "ip", "link", "set", "cni0", "down")
	if _, _, err := attach(t.Context(), "cni0", "10.1.0.9"); err == nil || err.Error() != "bridge cni0 is down" {
		t.Errorf("a bridge that is down: %v", err)
	}
}

// TestAttachKeepsTheGateway: a bridge without a hardware address of its own has
// the lowest of its ports, and pods send to that.
func TestAttachKeepsTheGateway(t *testing.T) {
	const highish = "fe:ff:fe:ff:ff:ff"
	ns := lab.NewNamespace(t)
	ns.Run(t, "sh", "-ec", `ip link add cni0 type bridge
		ip addr add 10.1.0.1/24 dev cni0
		ip link add veth0 address `+highish+` type veth peer name pod0
		ip link set veth0 master cni0
		ip link set cni0 up
		ip link set veth0 up
		ip link set pod0 up`)
	var during string
	var err error
	ns.Do(func() {
		a, aerr := Attach(t.Context(), "cni0", []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, nil)
		if err = aerr; err != nil {
			return
		}
		var link netlink.Link
		if link, err = netlink.LinkByName("cni0"); err == nil {
			during = link.Attrs().HardwareAddr.String()
		}
		err = errors.Join(err, a.Close())
	})
	if err != nil || during != highish {
		t.Errorf("with our port the bridge has the address %s, without it %s; error %v", during, highish, err)
	}
}

// TestAttachUnheard: on a port that the spanning tree does not let through yet,
// nobody answers, and that says nothing of an address.
func TestAttachUnheard(t *testing.T) {
	for subnet, want := range map[string]string{
		"10.1.0.1/24": "the gateway 10.1.0.1 does not answer by ARP: whether an address is free can't be told",
		"fd00::1/64":  "the gateway fd00::1 does not answer: whether an address is free can't be told",
	} {
		ns := lab.NewNamespace(t)
		ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge", "stp_state", "1")
		ns.Run(t, "ip", "addr", "add", subnet, "dev", "cni0")
		ns.Run(t, "ip", "link", "set", "cni0", "up")
		var err error
		ns.Do(func() {
			var subnets []netip.Prefix
			if subnets, err = Subnets(t.Context(), "cni0"); err != nil {
				return
			}
			var a *Attachment
			if a, err = Attach(t.Context(), "cni0", subnets, nil); err == nil {
				_ = a.Close() // the test fails anyway
			}
		})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", subnet, err, want)
		}
		if left := ns.Run(t, "ip", "-o", "link"); strings.Contains(left, "nfprobe") {
			t.Errorf("%s: what is left:\n%s", subnet, left)
		}
	}
}
