package kernel

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Of linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h, where the
// library has no name for it.
const (
	conntrackNew    = 0      // IPCTNL_MSG_CT_NEW: new, and changed
	conntrackDelete = 2      // IPCTNL_MSG_CT_DELETE
	seenReply       = 1 << 1 // IPS_SEEN_REPLY
)

// parseConntrack reads a message of one of conntrack's groups. It is false for
// what is of another protocol than can be followed.
func parseConntrack(b []byte) (c trace.Connection, ok bool) {
	kind, _, in := nfnl.Parse(b)
	switch kind {
	case unix.NFNL_SUBSYS_CTNETLINK<<8 | conntrackNew:
	case unix.NFNL_SUBSYS_CTNETLINK<<8 | conntrackDelete:
		c.Ended = true
	default:
		return trace.Connection{}, false
	}
	var ok1, ok2 bool
	for t, v := range rtnl.Attrs(in) {
		switch t {
		case nl.CTA_TUPLE_ORIG:
			c.Original, c.Protocol, ok1 = tuple(v)
		case nl.CTA_TUPLE_REPLY:
			c.Reply, _, ok2 = tuple(v)
		case nl.CTA_STATUS:
			c.Replied = nfnl.Number(v)&seenReply != 0
		case nl.CTA_ID:
			c.ID = uint32(nfnl.Number(v))
		}
	}
	return c, ok1 && ok2
}

func tuple(b []byte) (t trace.Tuple, p trace.Protocol, ok bool) {
	ip, proto := nfnl.Find(b, nl.CTA_TUPLE_IP), nfnl.Find(b, nl.CTA_TUPLE_PROTO)
	address := func(v4, v6 uint16) netip.Addr {
		a, ok := netip.AddrFromSlice(nfnl.Find(ip, v4))
		if !ok {
			a, _ = netip.AddrFromSlice(nfnl.Find(ip, v6))
		}
		return a
	}
	p = trace.Protocol(nfnl.Number(nfnl.Find(proto, nl.CTA_PROTO_NUM)))
	t.Source = netip.AddrPortFrom(address(nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC), uint16(nfnl.Number(nfnl.Find(proto, nl.CTA_PROTO_SRC_PORT))))
	t.Destination = netip.AddrPortFrom(address(nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST), uint16(nfnl.Number(nfnl.Find(proto, nl.CTA_PROTO_DST_PORT))))
	return t, p, t.Source.IsValid() && t.Destination.IsValid() && (p == trace.TCP || p == trace.UDP || p.Echo())
}
