package rtnl

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Device is a network device of any kind.
type Device struct {
	Index  int
	Master int // the index of the bridge or bond that it is enslaved to, or 0
	Name   string
	Kind   string // see [Port]
	MAC    string // "" where it has none

	// Away says that its other end, as of a veth, is in the network namespace
	// that this one knows as NetnsID.
	Away    bool
	NetnsID int
}

// Devices returns the devices of the calling thread's network namespace, by
// their index. ctx is looked at as by [Bridges].
func Devices(ctx context.Context) ([]Device, error) {
	msgs, err := uninterrupted(ctx, func() ([][]byte, error) { return dumpLinks(0) })
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	list := make([]Device, 0, len(msgs))
	for _, m := range msgs {
		l := parseLink(m)
		list = append(list, Device{Index: l.index, Master: l.master, Name: l.name, Kind: l.kind, MAC: l.mac.String(), Away: l.away, NetnsID: l.netnsID})
	}
	return list, nil
}

// NetnsID returns the id that the calling thread's network namespace has for
// the one that fd, a file of nsfs, stands for. It is false where there is none:
// no device leads from here to there.
func NetnsID(fd int) (id int, ok bool) {
	const netnsaID, netnsaFD = 1, 3 // NETNSA_NSID, NETNSA_FD of linux/net_namespace.h
	req := nl.NewNetlinkRequest(unix.RTM_GETNSID, 0)
	req.AddData(nl.NewRtGenMsg())
	req.AddData(nl.NewRtAttr(netnsaFD, nl.Uint32Attr(uint32(fd))))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNSID)
	if err != nil || len(msgs) != 1 {
		return 0, false
	}
	const header = 4 // struct rtgenmsg, padded
	if len(msgs[0]) < header {
		return 0, false
	}
	for t, v := range Attrs(msgs[0][header:]) {
		if t == netnsaID && len(v) == 4 {
			id := int(int32(binary.NativeEndian.Uint32(v)))
			return id, id >= 0 // NETNSA_NSID_NOT_ASSIGNED is -1
		}
	}
	return 0, false
}
