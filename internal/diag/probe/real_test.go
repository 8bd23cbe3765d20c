package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/services"
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
