package netfilter

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// xtMatch is what a match of x_tables says, by its name, its revision and what
// it is told, in the layout of linux/netfilter: in a rule of iptables-legacy, or
// of iptables-nft. What is not known here depends.
func xtMatch(name string, revision uint8, info []byte, p *packet) answer {
	switch name {
	case "comment":
		return yes
	case "conntrack":
		return xtConntrack(revision, info, p)
	case "state": // struct xt_state_info
		if len(info) >= 4 {
			return is(binary.NativeEndian.Uint32(info)&p.state != 0)
		}
	case "mark": // struct xt_mark_mtinfo1
		if revision == 1 && len(info) >= 9 {
			got := p.mark.masked(info[4:8], nil).equal(info[:4])
			if info[8] != 0 {
				return got.not()
			}
			return got
		}
	case "physdev":
		return xtPhysdev(info, p)
	case "tcp":
		return is(p.protocol == unix.IPPROTO_TCP).and(xtPorts(info))
	case "udp":
		return is(p.protocol == unix.IPPROTO_UDP).and(xtPorts(info))
	case "icmp", "icmp6", "sctp", "esp", "ah", "dccp":
		return no
	}
	return perhaps
}

// xtConntrack reads a struct xt_conntrack_mtinfo1, 2 or 3, of which only the
// state is known here.
func xtConntrack(revision uint8, info []byte, p *packet) answer {
	const (
		addresses = 8 * 16
		byState   = 1 << 0             // XT_CONNTRACK_STATE
		virtual   = 1<<6 | 1<<7 | 1<<8 // XT_CONNTRACK_STATE_SNAT, _DNAT, _UNTRACKED
	)
	flags := addresses + 2*4 + 5*2 // behind expires_*, l4proto and the ports
	if revision < 1 || revision > 3 || len(info) < flags+8 {
		return perhaps
	}
	match, invert := binary.NativeEndian.Uint16(info[flags:]), binary.NativeEndian.Uint16(info[flags+2:])
	if match != byState {
		return perhaps
	}
	mask := uint32(binary.NativeEndian.Uint16(info[flags+4:]))
	if revision == 1 {
		mask = uint32(info[flags+4])
	}
	got := is(mask&p.state != 0)
	if got == no && mask&virtual != 0 {
		got = perhaps
	}
	if invert&byState != 0 {
		return got.not()
	}
	return got
}

// xtPhysdev reads a struct xt_physdev_info: two names with their masks, and what
// to look at. What two ports of a bridge send each other is bridged; by which
// ports is not known.
func xtPhysdev(info []byte, p *packet) answer {
	const in, out, bridged, isIn, isOut = 1, 2, 4, 8, 16 // XT_PHYSDEV_OP_*
	if len(info) < 4*unix.IFNAMSIZ+2 || p.frame {
		return perhaps
	}
	invert, which := info[4*unix.IFNAMSIZ], info[4*unix.IFNAMSIZ+1]
	got := yes
	for _, op := range []byte{bridged, isIn, isOut} {
		if which&op != 0 {
			got = got.and(is(invert&op == 0))
		}
	}
	if which&(in|out) != 0 {
		got = got.and(perhaps)
	}
	return got
}

// xtPorts reads the two ranges of ports that a struct xt_tcp and a struct xt_udp
// begin with. Any port matches the widest.
func xtPorts(info []byte) answer {
	if len(info) < 8 {
		return perhaps
	}
	port := func(i int) uint16 { return binary.NativeEndian.Uint16(info[2*i:]) }
	for _, b := range info[8:min(len(info), 12)] { // flags, options, inversions: of one or the other
		if b != 0 {
			return perhaps
		}
	}
	if port(0) == 0 && port(1) == 0xffff && port(2) == 0 && port(3) == 0xffff {
		return yes
	}
	return perhaps
}

// xtTarget is what a target of x_tables does, by its name.
func xtTarget(name string) step {
	switch name {
	case "ACCEPT":
		return step{kind: accepts}
	case "DROP", "REJECT":
		return step{kind: drops}
	case "RETURN":
		return step{kind: returns}
	case "MARK", "CONNMARK", "SET":
		return step{kind: goesOn, marks: name != "SET"}
	case "LOG", "NFLOG", "TRACE", "TCPMSS", "CT", "AUDIT", "CLASSIFY", "DSCP", "TOS", "SECMARK", "CONNSECMARK", "CHECKSUM", "TTL", "HL", "":
		return step{kind: goesOn}
	}
	return step{kind: hands}
}
