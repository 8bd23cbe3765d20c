package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
	"github.com/nfguard/nfguard/internal/trace"
)

// parseRule reads of a rule its comment, and what it does with a packet. What
// it asks of the packet it leaves out: it has matched.
func parseRule(b []byte) (r trace.Rule) {
	r.Comment = userComment(find(b, unix.NFTA_RULE_USERDATA))
	registers := make(map[uint64][]byte)
	var actions []string
	for _, e := range rtnl.Attrs(find(b, unix.NFTA_RULE_EXPRESSIONS)) {
		data := find(e, unix.NFTA_EXPR_DATA)
		switch unix.ByteSliceToString(find(e, unix.NFTA_EXPR_NAME)) {
		case "match":
			if unix.ByteSliceToString(find(data, unix.NFTA_MATCH_NAME)) == "comment" {
				r.Comment = unix.ByteSliceToString(find(data, unix.NFTA_MATCH_INFO)) // struct xt_comment_info
			}
		case "target":
			actions = append(actions, target(
				unix.ByteSliceToString(find(data, unix.NFTA_TARGET_NAME)),
				number(find(data, unix.NFTA_TARGET_REV)),
				find(data, unix.NFTA_TARGET_INFO)))
		case "immediate":
			if v := find(data, unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT); v != nil {
				actions = append(actions, verdict(v))
				break
			}
			registers[number(find(data, unix.NFTA_IMMEDIATE_DREG))] = find(data, unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VALUE)
		case "nat":
			actions = append(actions, translation(data, registers))
		case "lookup":
			if find(data, unix.NFTA_LOOKUP_DREG) != nil {
				actions = append(actions, "look up @"+unix.ByteSliceToString(find(data, unix.NFTA_LOOKUP_SET)))
			}
		case "masq":
			actions = append(actions, "masquerade")
		case "redir":
			actions = append(actions, "redirect")
		case "reject":
			actions = append(actions, "reject")
		case "meta":
			if find(data, unix.NFTA_META_SREG) == nil {
				break
			}
			switch number(find(data, unix.NFTA_META_KEY)) {
			case unix.NFT_META_MARK:
				actions = append(actions, "set the mark")
			case unix.NFT_META_NFTRACE:
				actions = append(actions, "trace")
			}
		}
	}
	r.Action = strings.Join(actions, ", ")
	return r
}

// userComment reads the comment that nft(8) stores with a rule: a type, a
// length and a value each, of which type 0 is the comment (libnftnl's udata.h).
func userComment(b []byte) string {
	for len(b) >= 2 {
		n := int(b[1])
		if len(b) < 2+n {
			return ""
		}
		if b[0] == 0 {
			return unix.ByteSliceToString(b[2 : 2+n])
		}
		b = b[2+n:]
	}
	return ""
}

// translation is a native nat expression: type 0 is of the source, 1 of the
// destination.
func translation(b []byte, registers map[uint64][]byte) string {
	word := "snat"
	if number(find(b, unix.NFTA_NAT_TYPE)) == 1 {
		word = "dnat"
	}
	a, ok := netip.AddrFromSlice(registers[number(find(b, unix.NFTA_NAT_REG_ADDR_MIN))])
	if !ok {
		return word // to what a map says
	}
	if port := registers[number(find(b, unix.NFTA_NAT_REG_PROTO_MIN))]; len(port) == 2 {
		return word + " to " + netip.AddrPortFrom(a, binary.BigEndian.Uint16(port)).String()
	}
	return word + " to " + a.String()
}

// target is one of x_tables', in the words of nft(8) where it has some.
func target(name string, revision uint64, info []byte) string {
	switch name {
	case "DNAT", "SNAT":
		return strings.ToLower(name) + natRange(revision, info)
	case "MASQUERADE", "REDIRECT", "REJECT", "DROP", "ACCEPT", "RETURN":
		return strings.ToLower(name)
	case "MARK", "CONNMARK":
		return "set the mark"
	}
	return name
}

// natRange reads a struct nf_nat_ipv4_multi_range_compat (revision 0), or a
// struct nf_nat_range (from 1 on): " to 10.200.2.32:80".
func natRange(revision uint64, b []byte) string {
	const addresses, ports = 1 << 0, 1 << 1 // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED
	var flags uint32
	var address, port []byte
	switch {
	case revision == 0 && len(b) >= 20:
		flags, address, port = binary.NativeEndian.Uint32(b[4:]), b[8:12], b[16:18]
	case revision > 0 && len(b) >= 40:
		flags, address, port = binary.NativeEndian.Uint32(b), b[4:20], b[36:38]
		if [12]byte(address[4:]) == [12]byte{} { // an IPv4 address has the first four bytes
			address = address[:4]
		}
	default:
		return ""
	}
	a, _ := netip.AddrFromSlice(address)
	switch flags & (addresses | ports) {
	case addresses:
		return " to " + a.String()
	case ports:
		return fmt.Sprintf(" to port %d", binary.BigEndian.Uint16(port))
	case addresses | ports:
		return " to " + netip.AddrPortFrom(a, binary.BigEndian.Uint16(port)).String()
	}
	return ""
}
