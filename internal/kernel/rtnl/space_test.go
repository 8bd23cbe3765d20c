package rtnl

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// TestAddressesIn looks into the namespace behind a port, and asks for ways
// through the bridge.
func TestAddressesIn(t *testing.T) {
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	link := func(ns *lab.Namespace, script string) {
		t.Helper()
		for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
			ns.Run(t, "ip", strings.Fields(line)...)
		}
	}
	link(ns, `
		link add br-x type bridge
		addr add 10.9.0.1/24 dev br-x
		link add veth0 type veth peer name eth0 netns `+pod.Path()+`
		link set veth0 master br-x up
		link set br-x up`)
	link(pod, `
		addr add 10.9.0.7/24 dev eth0
		addr add fd00:9::7/64 dev eth0 nodad
		link set eth0 up`)
	var index int
	ns.Do(func() {
		list, err := Bridges(t.Context())
		if err != nil || len(list) != 1 || len(list[0].Ports) != 1 {
			t.Errorf("%+v, %v", list, err)
			return
		}
		index = list[0].Index
		if got := NameOf(index); got != "br-x" {
			t.Errorf("device %d is called %q", index, got)
		}
		port := list[0].Ports[0]
		all, err := AddressesIn(t.Context(), port.ID)
		if got := all[port.Peer]; err != nil || len(got) < 2 || got[0] != netip.MustParsePrefix("10.9.0.7/24") || got[1].Addr().Is4() {
			t.Errorf("%v, %v", all, err)
		}
		if all, err := AddressesIn(t.Context(), 4711); err == nil {
			t.Errorf("a namespace that is not there has addresses: %v", all)
		}
	})
	way := func(from string) (got int, err error) {
		ns.Do(func() { got, err = RouteThrough(netip.MustParseAddr(from), netip.MustParseAddr("10.9.0.8"), "br-x") })
		return got, err
	}
	sysctl := func(setting string) { ns.Run(t, "sysctl", "-qw", "net.ipv4.conf.br-x."+setting) }
	sysctl("forwarding=1")
	if got, err := way("10.9.0.7"); err != nil || got != index {
		t.Errorf("device %d, %v", got, err)
	}
	sysctl("forwarding=0")
	if _, err := way("10.9.0.7"); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Error(err)
	}
	sysctl("forwarding=1")
	sysctl("rp_filter=1")
	if _, err := way("10.8.0.7"); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}
