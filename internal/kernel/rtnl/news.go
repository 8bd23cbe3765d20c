package rtnl

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Change is what happened to a device.
type Change string

// The changes that the kernel tells of.
const (
	Appeared Change = "appeared" // created
	Changed  Change = "changed"  // its name, state, flags or addresses; often nothing that shows
	Went     Change = "went"     // deleted
)

// News is one message about a device. A renamed one has changed, and has its
// new name.
type News struct {
	Name   string
	Bridge bool // it is one
	Port   bool // it is a port of one, not in hairpin mode
	Change Change
}

// Subscription is the news of the bridges, and of some other devices, of one
// network namespace. It is for one goroutine.
type Subscription struct {
	group *Group
	buf   [16 << 10]byte // a message is about 2 kB
}

// maxNames of devices are told of: what a filter has room for (BPF_MAXINSNS).
const maxNames = 400

// Subscribe joins RTNLGRP_LINK in the calling thread's network namespace, with
// the buffer of [Join]. It tells of bridges and of the devices that are called
// one of names, at most 400; with ports also of ports that are added or changed
// and are not in hairpin mode. Others are refused in the kernel.
func Subscribe(buffer int, ports bool, names ...string) (*Subscription, error) {
	g, err := Join(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, bridgesAnd(ports, names[:min(len(names), maxNames)]), buffer)
	if err != nil {
		return nil, err
	}
	return &Subscription{group: g}, nil
}

// Next waits for news. Its errors, and what they leave usable, are those of
// [Group.Receive].
func (s *Subscription) Next(ctx context.Context) (News, error) {
	for {
		n, err := s.group.Receive(ctx, s.buf[:])
		if err != nil {
			return News{}, err
		}
		if news, ok := parseNews(s.buf[:n]); ok {
			return news, nil
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() error { return s.group.Close() }

// parseNews reads a datagram of RTNLGRP_LINK: one message, as the kernel
// multicasts them.
func parseNews(b []byte) (News, bool) {
	if len(b) < unix.SizeofNlMsghdr {
		return News{}, false
	}
	l := parseLink(b[unix.SizeofNlMsghdr:])
	if len(b) > unix.SizeofNlMsghdr && b[unix.SizeofNlMsghdr] == unix.AF_BRIDGE {
		return News{Name: l.name, Port: true, Change: Changed}, l.name != "" && !l.hairpin
	}
	switch binary.NativeEndian.Uint16(b[4:]) { // nlmsg_type
	case unix.RTM_DELLINK:
		return News{Name: l.name, Bridge: l.kind == "bridge", Change: Went}, true
	case unix.RTM_NEWLINK:
		// ~0 says that all is new: rtnl_configure_link and register_netdevice.
		if l.change == 0xffffffff {
			return News{Name: l.name, Bridge: l.kind == "bridge", Change: Appeared}, true
		}
		return News{Name: l.name, Bridge: l.kind == "bridge", Change: Changed}, true
	}
	return News{}, false
}
