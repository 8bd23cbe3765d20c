// Package conntrack reads the connections that the kernel tracks (ctnetlink). It works
// in the network namespace of the calling thread, needs CAP_NET_ADMIN there, changes
// nothing and has the kernel load nothing.
package conntrack

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Of linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	messageNew    = 0  // IPCTNL_MSG_CT_NEW
	messageGet    = 1  // IPCTNL_MSG_CT_GET
	messageDelete = 2  // IPCTNL_MSG_CT_DELETE
	statusMask    = 26 // CTA_STATUS_MASK, since 6.0: a kernel before it lists all

	seenReply        = 1 << 1 // IPS_SEEN_REPLY
	sourceNAT        = 1 << 4 // IPS_SRC_NAT
	destinationNAT   = 1 << 5 // IPS_DST_NAT
	interestingParts = seenReply | sourceNAT | destinationNAT
)

// Tuple is where packets of one direction come from and go to. The ports of a ping
// are 0.
type Tuple struct{ Source, Destination netip.AddrPort }

// Connection is one that the kernel tracks.
type Connection struct {
	ID       uint32 // the same for as long as the kernel tracks it; another may have it later
	Protocol uint8  // IPPROTO_*
	Original Tuple  // of who began
	Reply    Tuple  // of the answer, as it comes before the kernel translates it back
	Replied  bool   // a packet of the answer was seen
	Ended    bool   // told that it is not tracked any more

	status uint32
}

// ErrNotLoaded says that the kernel has no ctnetlink loaded, and asking would load it.
var ErrNotLoaded = errors.New("nf_conntrack_netlink is not loaded")

// Translated calls f with each connection whose destination is translated, whose source
// is not, and of which no answer was seen: of IPv4, then of IPv6. The kernel itself
// leaves out the others, since Linux 6.0. It ends when f returns false; what f gets is
// its until then. ctx is checked before each part of the answer.
func Translated(ctx context.Context, f func(*Connection) bool) error {
	if !nfnl.Has("nf_conntrack_netlink") {
		return ErrNotLoaded
	}
	conn, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer conn.Close() // before the end of a list, too
	listing, stop := context.WithCancel(ctx)
	defer stop()
	var c Connection
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		question := nfnl.Request(unix.NFNL_SUBSYS_CTNETLINK<<8|messageGet, unix.NLM_F_DUMP, family,
			nfnl.Attrs{}.U32(nl.CTA_STATUS, destinationNAT).U32(statusMask, interestingParts))
		err := conn.List(listing, question, nil, func(in []byte) {
			if listing.Err() == nil && c.parse(in) && c.status&interestingParts == destinationNAT && !f(&c) {
				stop()
			}
		})
		switch {
		case ctx.Err() == nil && listing.Err() != nil: // f has had enough
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// Parse reads a message of one of conntrack's groups of multicast. It is false for
// what is no message of a connection between two addresses.
func Parse(b []byte) (c Connection, ok bool) {
	kind, _, in := nfnl.Parse(b)
	if kind != unix.NFNL_SUBSYS_CTNETLINK<<8|messageNew && kind != unix.NFNL_SUBSYS_CTNETLINK<<8|messageDelete {
		return Connection{}, false
	}
	ok = c.parse(in)
	c.Ended = kind == unix.NFNL_SUBSYS_CTNETLINK<<8|messageDelete
	return c, ok
}

// parse reads the attributes of a connection.
func (c *Connection) parse(in []byte) bool {
	*c = Connection{}
	var ok1, ok2 bool
	for t, v := range rtnl.Attrs(in) {
		switch t {
		case nl.CTA_TUPLE_ORIG:
			c.Original, c.Protocol, ok1 = tuple(v)
		case nl.CTA_TUPLE_REPLY:
			c.Reply, _, ok2 = tuple(v)
		case nl.CTA_STATUS:
			c.status = uint32(nfnl.Number(v))
			c.Replied = c.status&seenReply != 0
		case nl.CTA_ID:
			c.ID = uint32(nfnl.Number(v))
		}
	}
	return ok1 && ok2
}

func tuple(b []byte) (t Tuple, protocol uint8, ok bool) {
	ip, proto := nfnl.Find(b, nl.CTA_TUPLE_IP), nfnl.Find(b, nl.CTA_TUPLE_PROTO)
	address := func(v4, v6 uint16) netip.Addr {
		a, ok := netip.AddrFromSlice(nfnl.Find(ip, v4))
		if !ok {
			a, _ = netip.AddrFromSlice(nfnl.Find(ip, v6))
		}
		return a
	}
	port := func(attr uint16) uint16 { return uint16(nfnl.Number(nfnl.Find(proto, attr))) }
	t.Source = netip.AddrPortFrom(address(nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC), port(nl.CTA_PROTO_SRC_PORT))
	t.Destination = netip.AddrPortFrom(address(nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST), port(nl.CTA_PROTO_DST_PORT))
	return t, uint8(nfnl.Number(nfnl.Find(proto, nl.CTA_PROTO_NUM))), t.Source.IsValid() && t.Destination.IsValid()
}
