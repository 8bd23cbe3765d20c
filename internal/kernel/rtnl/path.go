package rtnl

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Path is what the routes of a network namespace say of an address.
type Path struct {
	Device int        // the index of the one that packets leave by
	Next   netip.Addr // the address that a neighbour is looked for: a gateway's, or the address itself
	Local  bool       // it is an address of the namespace itself
	MTU    int        // of the route, if it has one; 0: the device's
}

// PathTo asks the calling thread's network namespace for the path to an address.
// For a packet that comes from elsewhere, from and the index of the device that it
// comes in by are asked for, too; the zero values ask for one of its own. Without
// a path the error is the kernel's: unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES
// for a route that prohibits, unix.EINVAL for one that is a black hole, and
// unix.EXDEV where rp_filter refuses the source.
func PathTo(to, from netip.Addr, in int) (Path, error) {
	o := &netlink.RouteGetOptions{IifIndex: in}
	if from.IsValid() {
		o.SrcAddr = from.AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), o)
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return Path{}, fmt.Errorf("route to %s: %w", to, err)
	}
	r := routes[0]
	switch r.Type {
	case unix.RTN_UNREACHABLE:
		return Path{}, fmt.Errorf("route to %s: %w", to, unix.EHOSTUNREACH)
	case unix.RTN_PROHIBIT:
		return Path{}, fmt.Errorf("route to %s: %w", to, unix.EACCES)
	case unix.RTN_BLACKHOLE:
		return Path{}, fmt.Errorf("route to %s: %w", to, unix.EINVAL)
	}
	p := Path{Device: r.LinkIndex, Next: to, Local: r.Type == unix.RTN_LOCAL, MTU: r.MTU}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		p.Next = gw.Unmap()
	} else if via, ok := r.Via.(*netlink.Via); ok { // of IPv4, by a router of IPv6
		if gw, ok := netip.AddrFromSlice(via.Addr); ok {
			p.Next = gw
		}
	}
	return p, nil
}

// Neighbour is what a device knows of an address on its link.
type Neighbour struct {
	State string // ip-neighbour(8)'s word: "reachable", "failed", "permanent"; "" where there is no entry
	MAC   string
}

// NeighbourOf looks an address up among the neighbours of a device of the
// calling thread's network namespace.
func NeighbourOf(device int, a netip.Addr) (Neighbour, error) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	list, err := netlink.NeighList(device, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return Neighbour{}, fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range list {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
			return Neighbour{State: neighbourState(n.State), MAC: n.HardwareAddr.String()}, nil
		}
	}
	return Neighbour{}, nil
}

func neighbourState(s int) string {
	for _, known := range []struct {
		bit  int
		word string
	}{
		{netlink.NUD_INCOMPLETE, "incomplete"},
		{netlink.NUD_REACHABLE, "reachable"},
		{netlink.NUD_STALE, "stale"},
		{netlink.NUD_DELAY, "delay"},
		{netlink.NUD_PROBE, "probe"},
		{netlink.NUD_FAILED, "failed"},
		{netlink.NUD_NOARP, "noarp"},
		{netlink.NUD_PERMANENT, "permanent"},
	} {
		if s&known.bit != 0 {
			return known.word
		}
	}
	return "none"
}
