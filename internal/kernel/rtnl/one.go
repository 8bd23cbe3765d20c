package rtnl

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoBridge says that there is no such bridge, or no longer.
var ErrNoBridge = errors.New("no such bridge")

// BridgeNamed returns one bridge without its ports, or an error that is
// [ErrNoBridge] where no device, or one of another kind, has the name. It
// takes a few microseconds whatever else the host has, and waits for nothing
// but rtnl_lock, which others can hold for long.
func BridgeNamed(name string) (Bridge, error) {
	l, err := getBridge(name, 0)
	if err != nil {
		return Bridge{}, err
	}
	return l.bridge(), nil
}

// PortNamed returns the port of that name, and its bridge without its ports. The
// error is [ErrNoBridge] where no device, or none that is a port of a bridge,
// has the name. It takes what [BridgeNamed] does, twice.
func PortNamed(name string) (Port, Bridge, error) {
	l, err := getLink(name, 0)
	switch {
	case err != nil:
		return Port{}, Bridge{}, err
	case l.master == 0:
		return Port{}, Bridge{}, ErrNoBridge
	}
	b, err := getBridge("", l.master)
	if err != nil {
		return Port{}, Bridge{}, err
	}
	return l.port(), b.bridge(), nil
}

// SetHairpin puts a port of a bridge in hairpin mode, by its index, after a look
// whether that still is the port of the name, of that bridge. Where it is not, the
// error is [ErrNoBridge] and nothing was changed.
func SetHairpin(bridge, index int, name string) error {
	l, err := getLink("", index)
	if err == nil && (l.name != name || l.master != bridge) {
		err = ErrNoBridge
	}
	if err != nil {
		return err
	}
	// Of family AF_BRIDGE, only a bridge takes it (rtnl_bridge_setlink), and what
	// it does not name stays as it is (br_setport).
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(unix.IFLA_BRPORT_MODE, []byte{1})
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return gone(err)
	}
	return nil
}

// PortsOf returns the ports of the bridge with that index, by name. The
// kernel picks them out, so it costs what they are and not what the host has.
// ctx is looked at as by [Bridges].
func PortsOf(ctx context.Context, index int) ([]Port, error) {
	msgs, err := uninterrupted(ctx, func() ([][]byte, error) { return dumpLinks(index) })
	if err != nil {
		return nil, fmt.Errorf("list the ports of a bridge: %w", err)
	}
	var ports []Port
	for _, m := range msgs {
		if l := parseLink(m); l.master == index { // before Linux 4.5 all are told
			ports = append(ports, l.port())
		}
	}
	slices.SortFunc(ports, func(a, b Port) int { return cmp.Compare(a.Name, b.Name) })
	return ports, nil
}

// NFCall are the flags nf_call_* of a bridge: for iptables, ip6tables and
// arptables.
type NFCall [3]bool

// SetNFCall turns on, or off, those flags of a bridge that which names, by one
// message. It goes by the index, after a look whether that still belongs to
// the bridge of the name: an index can be used again, and a name, too. Where
// it does not, the error is [ErrNoBridge] and nothing was changed. Equal flags
// may be set; the kernel then changes nothing, and tells listeners all the
// same.
func SetNFCall(index int, name string, which NFCall, on bool) error {
	l, err := getBridge("", index)
	if err == nil && l.name != name {
		err = ErrNoBridge
	}
	if err != nil {
		return err
	}
	// Without NLM_F_CREATE it can change only; with the kind, only a bridge
	// (rtnl_newlink: EOPNOTSUPP for another). A name in it would rename.
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
	var value byte
	if on {
		value = 1
	}
	for i, attr := range []int{unix.IFLA_BR_NF_CALL_IPTABLES, unix.IFLA_BR_NF_CALL_IP6TABLES, unix.IFLA_BR_NF_CALL_ARPTABLES} {
		if which[i] {
			data.AddRtAttr(attr, []byte{value})
		}
	}
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return gone(err)
	}
	return nil
}

// getBridge asks for one bridge, by its name or, where that is "", its index.
func getBridge(name string, index int) (link, error) {
	l, err := getLink(name, index)
	if err == nil && l.kind != "bridge" {
		return link{}, ErrNoBridge
	}
	return l, err
}

// getLink asks for one device, by its name or, where that is "", its index.
func getLink(name string, index int) (link, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	if name != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return link{}, gone(err)
	}
	if len(msgs) != 1 {
		return link{}, fmt.Errorf("%d answers to a question for one device", len(msgs))
	}
	return parseLink(msgs[0]), nil
}

// Index returns the index of the device with that name, or 0 where there is
// none. It waits for no lock.
func Index(name string) int {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req) != nil {
		return 0
	}
	return int(req.Uint32())
}

func gone(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return ErrNoBridge
	}
	return err
}

// Addresses returns the IP addresses of all devices with their prefixes, by
// the device's index. ctx is looked at as by [Bridges].
func Addresses(ctx context.Context) (map[int][]netip.Prefix, error) {
	msgs, err := uninterrupted(ctx, func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	all := make(map[int][]netip.Prefix)
	for _, m := range msgs {
		if index, p, ok := parseAddress(m); ok {
			all[index] = append(all[index], p)
		}
	}
	return all, nil
}

// SpaceOf returns the id that the network namespace of a process has in ours, or
// -1 where it has none, as ours does and one that no device of ours leads into.
// It takes no right over the process.
func SpaceOf(pid int) (id int, err error) {
	const netnsaNSID, netnsaPID = 1, 2 // linux/net_namespace.h
	req := nl.NewNetlinkRequest(unix.RTM_GETNSID, 0)
	req.AddData(&nl.RtGenMsg{})
	req.AddData(nl.NewRtAttr(netnsaPID, nl.Uint32Attr(uint32(pid))))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNSID)
	if err != nil {
		return -1, fmt.Errorf("ask for the network namespace of process %d: %w", pid, err)
	}
	const rtgenmsg = 4 // struct rtgenmsg, with its padding
	for _, m := range msgs {
		for t, v := range Attrs(m[min(rtgenmsg, len(m)):]) {
			if t == netnsaNSID && len(v) == 4 {
				return int(int32(binary.NativeEndian.Uint32(v))), nil
			}
		}
	}
	return -1, fmt.Errorf("no answer about the network namespace of process %d", pid)
}

// NameOf returns the name of the device with that index, or "" where there is
// none. It waits for no lock.
func NameOf(index int) string {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var req [unix.IFNAMSIZ + 24]byte // struct ifreq
	binary.NativeEndian.PutUint32(req[unix.IFNAMSIZ:], uint32(index))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&req[0]))); errno != 0 {
		return ""
	}
	return unix.ByteSliceToString(req[:unix.IFNAMSIZ])
}
