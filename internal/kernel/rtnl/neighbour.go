package rtnl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbours returns the hardware addresses of what is behind a device of the calling
// thread's network namespace, as far as they are known.
func Neighbours(index int) (map[netip.Addr]string, error) {
	list, err := netlink.NeighList(index, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	known := make(map[netip.Addr]string, len(list))
	const resolved = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT | netlink.NUD_NOARP
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.State&resolved != 0 {
			known[a.Unmap()] = n.HardwareAddr.String()
		}
	}
	return known, nil
}
