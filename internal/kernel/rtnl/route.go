package rtnl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteTo returns the index of the device by which packets of the calling
// thread's network namespace leave for to. It is that of the loopback for an
// address of this host itself. Without a route the error is
// unix.ENETUNREACH, or EHOSTUNREACH and EACCES for those that say so.
func RouteTo(to netip.Addr) (index int, err error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		return 0, fmt.Errorf("route to %s: %w", to, err)
	}
	if len(routes) == 0 {
		return 0, fmt.Errorf("route to %s: %w", to, unix.ENETUNREACH)
	}
	return routes[0].LinkIndex, nil
}
