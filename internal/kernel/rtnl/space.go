package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddressesIn returns the IP addresses of the devices in another network
// namespace, by the index that the device has there. id is what the calling
// thread's namespace calls it by: see [Port]. The kernel has it from Linux 4.20
// on, and wants CAP_NET_ADMIN over that namespace.
func AddressesIn(ctx context.Context, id int) (map[int][]netip.Prefix, error) {
	fd, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// Without it the attribute below is passed over, and the answer is about our own
	// (inet_dump_ifaddr in net/ipv4/devinet.c).
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		return nil, fmt.Errorf("ask for the addresses in network namespace %d: %w", id, err)
	}
	all := make(map[int][]netip.Prefix)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := addressesIn(fd, id, family, all); err != nil {
			return nil, fmt.Errorf("list the addresses in network namespace %d: %w", id, err)
		}
	}
	return all, nil
}

func addressesIn(fd, id int, family byte, all map[int][]netip.Prefix) error {
	const targetNetnsID = 10 // IFA_TARGET_NETNSID of linux/if_addr.h
	question := make([]byte, unix.NLMSG_HDRLEN+unix.SizeofIfAddrmsg+unix.SizeofRtAttr+4)
	ne := binary.NativeEndian
	ne.PutUint32(question, uint32(len(question)))
	ne.PutUint16(question[4:], unix.RTM_GETADDR)
	ne.PutUint16(question[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	question[unix.NLMSG_HDRLEN] = family
	attr := question[unix.NLMSG_HDRLEN+unix.SizeofIfAddrmsg:]
	ne.PutUint16(attr, uint16(len(attr)))
	ne.PutUint16(attr[2:], targetNetnsID)
	ne.PutUint32(attr[4:], uint32(id))
	if _, err := unix.Write(fd, question); err != nil {
		return err
	}
	b := make([]byte, 32<<10)
	for {
		n, err := Answer(fd, b)
		if err != nil {
			return err
		}
		for part := b[:n]; len(part) >= unix.NLMSG_HDRLEN; {
			size := int(ne.Uint32(part))
			if size < unix.NLMSG_HDRLEN || size > len(part) {
				return errors.New("an answer that is malformed")
			}
			in := part[unix.NLMSG_HDRLEN:size]
			switch ne.Uint16(part[4:]) {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(in) >= 4 && int32(ne.Uint32(in)) < 0 {
					return unix.Errno(-int32(ne.Uint32(in)))
				}
				return nil
			case unix.RTM_NEWADDR:
				if index, p, ok := parseAddress(in); ok {
					all[index] = append(all[index], p)
				}
			}
			part = part[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(part)):]
		}
	}
}

// RouteThrough returns the index of the device by which the kernel would send on
// what comes in by the device in, from one address to another. The errors are those
// of [RouteTo]; unix.EXDEV, or from Linux 6.13 on unix.EINVAL, says that it would be
// dropped for its source, as rp_filter has it, and unix.EHOSTUNREACH also that in
// does not forward.
func RouteThrough(from, to netip.Addr, in string) (index int, err error) {
	routes, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), &netlink.RouteGetOptions{Iif: in, SrcAddr: net.IP(from.AsSlice())})
	if err != nil {
		return 0, fmt.Errorf("route from %s to %s, in by %s: %w", from, to, in, err)
	}
	if len(routes) == 0 {
		return 0, fmt.Errorf("route from %s to %s: %w", from, to, unix.ENETUNREACH)
	}
	return routes[0].LinkIndex, nil
}
