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
			return among(p.state(), binary.NativeEndian.Uint32(info))
		}
	case "mark": // struct xt_mark_mtinfo1
		if revision == 1 && len(info) >= 9 {
			return inverted(p.mark.masked(info[4:8], nil).equal(info[:4]), info[8] != 0)
		}
	case "multiport":
		return xtMultiport(revision, info, p)
	case "addrtype":
		return xtAddrtype(revision, info, p)
	case "iprange":
		return xtRange(info, p)
	case "pkttype": // struct xt_pkttype_info
		if len(info) >= 8 && !p.frame() {
			return inverted(is(binary.NativeEndian.Uint32(info) == packetHost), binary.NativeEndian.Uint32(info[4:]) != 0)
		}
	case "rpfilter": // struct xt_rpfilter_info
		const invert = 8 // XT_RPFILTER_INVERT
		if len(info) >= 1 {
			return inverted(p.returns(), info[0]&invert != 0)
		}
	case "set": // what each revision begins with is the same
		if revision >= 1 {
			return ipset(info, p)
		}
	case "physdev":
		return xtPhysdev(info, p)
	case "tcp":
		return is(p.protocol == unix.IPPROTO_TCP).and(xtTCP(info, p))
	case "udp":
		return is(p.protocol == unix.IPPROTO_UDP).and(xtUDP(info, p))
	case "icmp", "icmp6", "sctp", "esp", "ah", "dccp", "rt", "frag", "hbh", "dst", "mh": // the latter are headers that usual packets of IPv6 do not have
		return no
	case "ip": // of ebtables
		return ebtIP(info, p, 4)
	case "ip6":
		return ebtIP(info, p, 16)
	}
	return perhaps
}

func inverted(a answer, invert bool) answer {
	if invert {
		return a.not()
	}
	return a
}

// among says whether one bit of several is set in a value of which one is.
func among(v bits, mask uint32) answer {
	if v.value == nil {
		return perhaps
	}
	return is(mask&binary.NativeEndian.Uint32(v.value) != 0)
}

// xtConntrack reads a struct xt_conntrack_mtinfo1, 2 or 3, of which the state, the
// status, the direction and the protocol are known here.
func xtConntrack(revision uint8, info []byte, p *packet) answer {
	const (
		addresses   = 8 * 16
		byState     = 1 << 0 // XT_CONNTRACK_*
		byProtocol  = 1 << 1
		byStatus    = 1 << 6
		byDirection = 1 << 12
		alias       = 1 << 13

		snat, dnat = 1 << 6, 1 << 7 // XT_CONNTRACK_STATE_*
	)
	flags := addresses + 2*4 + 5*2 // behind expires_*, l4proto and the ports
	if revision < 1 || revision > 3 || len(info) < flags+8 {
		return perhaps
	}
	match, invert := binary.NativeEndian.Uint16(info[flags:]), binary.NativeEndian.Uint16(info[flags+2:])
	states, statuses := uint32(binary.NativeEndian.Uint16(info[flags+4:])), uint32(binary.NativeEndian.Uint16(info[flags+6:]))
	if revision == 1 {
		states, statuses = uint32(info[flags+4]), uint32(info[flags+5])
	}
	got, status := yes, p.status()
	for bit := uint16(1); bit != 0; bit <<= 1 {
		if match&bit == 0 {
			continue
		}
		one := perhaps
		switch bit {
		case alias:
			continue
		case byState:
			one = among(p.state(), states)
			if states&dnat != 0 && status.value != nil {
				one = one.or(anyBit(status, statusDNAT))
			}
			if states&snat != 0 {
				one = one.or(perhaps)
			}
		case byStatus:
			one = anyBit(status, statuses)
		case byDirection: // inverted: what comes back
			if p.state().value != nil {
				one = is(p.moment != reply)
			}
		case byProtocol:
			one = is(binary.NativeEndian.Uint16(info[addresses+2*4:]) == uint16(p.protocol))
		}
		got = got.and(inverted(one, invert&bit != 0))
	}
	return got
}

// anyBit says whether one of some bits is set in a value.
func anyBit(v bits, mask uint32) answer {
	if v.value == nil {
		return perhaps
	}
	m := binary.NativeEndian.AppendUint32(nil, mask)
	return v.masked(m, nil).equal(make([]byte, 4)).not()
}

// xtPhysdev reads a struct xt_physdev_info: two names with their masks, and what
// to look at. What two ports of a bridge send each other is bridged; by which
// ports is not known.
func xtPhysdev(info []byte, p *packet) answer {
	const in, out, bridged, isIn, isOut = 1, 2, 4, 8, 16 // XT_PHYSDEV_OP_*
	if len(info) < 4*unix.IFNAMSIZ+2 || p.frame() {
		return perhaps
	}
	invert, which := info[4*unix.IFNAMSIZ], info[4*unix.IFNAMSIZ+1]
	got := yes
	for _, op := range []byte{bridged, isIn, isOut} {
		if which&op == 0 {
			continue
		}
		one := is(invert&op == 0)
		if op != isIn && p.hook.before() {
			one = perhaps
		}
		got = got.and(one)
	}
	if which&(in|out) != 0 {
		got = got.and(perhaps)
	}
	return got
}

// xtPorts reads the two ranges of ports that a struct xt_tcp and a struct xt_udp
// begin with.
func xtPorts(info []byte, p *packet, inversions byte) answer {
	got := yes
	for i := range 2 {
		low, high := int(binary.NativeEndian.Uint16(info[4*i:])), int(binary.NativeEndian.Uint16(info[4*i+2:]))
		one := clientInRange(low, high)
		if 2*i == p.portAt() || low == 0 && high == 0xffff {
			one = p.inRange(low, high)
		}
		got = got.and(inverted(one, inversions&(1<<i) != 0)) // XT_TCP_INV_SRCPT, XT_TCP_INV_DSTPT
	}
	return got
}

// xtTCP reads a struct xt_tcp.
func xtTCP(info []byte, p *packet) answer {
	const option, mask, compare, inversions = 8, 9, 10, 11
	if len(info) < 12 {
		return perhaps
	}
	got := xtPorts(info, p, info[inversions])
	if info[mask] != 0 {
		value, known := p.flags()
		flags := bits{value: []byte{value}, known: []byte{known}}
		got = got.and(inverted(flags.masked(info[mask:compare], nil).equal(info[compare:inversions]), info[inversions]&4 != 0)) // XT_TCP_INV_FLAGS
	}
	if info[option] != 0 {
		got = got.and(perhaps)
	}
	return got
}

// xtUDP reads a struct xt_udp.
func xtUDP(info []byte, p *packet) answer {
	if len(info) < 9 {
		return perhaps
	}
	return xtPorts(info, p, info[8])
}

// xtMultiport reads a struct xt_multiport_v1.
func xtMultiport(revision uint8, info []byte, p *packet) answer {
	const destination, most, ranges, invert = 1, 15, 32, 47 // XT_MULTIPORT_DESTINATION
	if revision != 1 || len(info) < invert+1 || info[1] > most {
		return perhaps
	}
	if info[0] > destination { // either of them
		return perhaps
	}
	client := (info[0] == destination) != (p.portAt() == 2)
	got, n := no, int(info[1])
	for i := 0; i < n; i++ {
		low := int(binary.NativeEndian.Uint16(info[2+2*i:]))
		high := low
		if info[ranges+i] != 0 && i+1 < n {
			i++
			high = int(binary.NativeEndian.Uint16(info[2+2*i:]))
		}
		if client {
			got = got.or(clientInRange(low, high))
		} else {
			got = got.or(p.inRange(low, high))
		}
	}
	return inverted(got, info[invert] != 0)
}

// xtAddrtype reads a struct xt_addrtype_info_v1, or the older one, which inverts
// in another way: the addresses are those of others.
func xtAddrtype(revision uint8, info []byte, p *packet) answer {
	if len(info) < 8 || revision > 1 || p.frame() {
		return perhaps
	}
	source, destination := binary.NativeEndian.Uint16(info), binary.NativeEndian.Uint16(info[2:])
	flags := binary.NativeEndian.Uint32(info[4:])
	not := [2]bool{flags&1 != 0, flags&2 != 0} // XT_ADDRTYPE_INVERT_SOURCE, XT_ADDRTYPE_INVERT_DEST
	if revision == 0 && len(info) >= 12 {
		not = [2]bool{flags != 0, binary.NativeEndian.Uint32(info[8:]) != 0}
		flags = 0
	}
	got := yes
	for i, mask := range []uint16{source, destination} {
		if mask == 0 {
			continue
		}
		one := is(mask&(1<<unix.RTN_UNICAST) != 0)
		if i == 1 && p.untranslated() {
			one = perhaps
		}
		got = got.and(inverted(one, not[i]))
	}
	if flags&^3 != 0 {
		got = got.and(perhaps)
	}
	return got
}

// xtRange reads a struct xt_iprange_mtinfo.
func xtRange(info []byte, p *packet) answer {
	const address, flags = 16, 4 * 16 // IPRANGE_SRC, IPRANGE_DST, and their inversions
	if len(info) < flags+1 {
		return perhaps
	}
	size := 4
	if p.IPv6 {
		size = 16
	}
	got := yes
	for i := range 2 {
		if info[flags]&(1<<i) == 0 {
			continue
		}
		low, high := info[2*i*address:][:size], info[(2*i+1)*address:][:size]
		got = got.and(inverted(p.address(i == 1).within(low, high), info[flags]&(0x10<<i) != 0))
	}
	return got
}

// ebtIP reads a struct ebt_ip_info, or with addresses of 16 bytes a struct
// ebt_ip6_info.
func ebtIP(info []byte, p *packet, size int) answer {
	const source, destination, protocol, sports, dports = 1, 2, 8, 16, 32 // EBT_IP_*, and EBT_IP6_*
	if p.IPv6 != (size == 16) {
		return no
	}
	if len(info) < 4*size+12 {
		return perhaps
	}
	parts := info[4*size:] // the kind of service, the protocol, what is asked for, what is inverted, the ports
	got := yes
	for flag := byte(1); flag != 0; flag <<= 1 {
		if parts[2]&flag == 0 {
			continue
		}
		one := perhaps
		switch flag {
		case source:
			one = p.address(false).masked(info[2*size:3*size], nil).equal(info[:size])
		case destination:
			one = p.address(true).masked(info[3*size:4*size], nil).equal(info[size : 2*size])
		case protocol:
			one = is(parts[1] == p.protocol)
		case sports, dports:
			at := 4
			if flag == dports {
				at = 8
			}
			low, high := int(binary.NativeEndian.Uint16(parts[at:])), int(binary.NativeEndian.Uint16(parts[at+2:]))
			if one = clientInRange(low, high); (flag == dports) == (p.portAt() == 2) {
				one = p.inRange(low, high)
			}
		}
		got = got.and(inverted(one, parts[3]&flag != 0))
	}
	return got
}

// xtTarget is what a target of x_tables does.
func xtTarget(name string, revision uint8, info []byte, p *packet) step {
	unmarked := step{kind: goesOn, mark: &bits{}}
	switch name {
	case "ACCEPT":
		return step{kind: accepts}
	case "DROP", "REJECT":
		return step{kind: drops}
	case "RETURN":
		return step{kind: returns}
	case "MARK": // struct xt_mark_tginfo2
		if revision != 2 || len(info) < 8 {
			return unmarked
		}
		keep := []byte{^info[4], ^info[5], ^info[6], ^info[7]}
		mark := p.mark.masked(keep, info[:4])
		return step{kind: goesOn, mark: &mark}
	case "CONNMARK": // struct xt_connmark_tginfo1
		const mode, restore = 12, 2 // XT_CONNMARK_RESTORE
		if len(info) <= mode || info[mode] == restore {
			return unmarked
		}
		return step{kind: goesOn}
	case "SET":
		if revision >= 3 { // which can take the mark from the set
			return unmarked
		}
		return step{kind: goesOn}
	case "CT", "NOTRACK":
		return step{kind: goesOn, hides: true}
	case "LOG", "NFLOG", "TRACE", "TCPMSS", "AUDIT", "CLASSIFY", "DSCP", "TOS", "SECMARK", "CONNSECMARK", "CHECKSUM", "TTL", "HL", "RATEEST", "IDLETIMER", "LED", "":
		return step{kind: goesOn}
	}
	return step{kind: hands}
}
