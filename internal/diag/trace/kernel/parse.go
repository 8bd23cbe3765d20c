package kernel

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// kindRule is NFT_TRACETYPE_RULE of enum nft_trace_types: not a chain's end.
const kindRule = 3

// traceMessage is a message NFT_MSG_TRACE as it is; what its chain and its rule are is
// still to be looked up.
type traceMessage struct {
	trace.Event
	family byte // of the table
	table  string
	begins bool // the packet's headers are told: it has come to a base chain
}

// parseTrace reads a message of the group NFNLGRP_NFTRACE. It is false for
// another, for one that says nothing of a chain, and for one of a device's own
// hooks, whose numbers mean something else (enum nf_dev_hooks).
func parseTrace(b []byte) (t traceMessage, ok bool) {
	message, family, in := nfnl.Parse(b)
	if message != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE {
		return traceMessage{}, false
	}
	t.family = family
	t.Backend = "nf_tables"
	t.Layer = layerOf(t.family)
	var kind, handle uint64
	var link, network, transport []byte
	for a, v := range rtnl.Attrs(in) {
		switch a {
		case unix.NFTA_TRACE_TABLE:
			t.table = nfnl.Text(v)
		case unix.NFTA_TRACE_CHAIN:
			t.Chain = nfnl.Text(v)
		case unix.NFTA_TRACE_RULE_HANDLE:
			handle = nfnl.Number(v)
		case unix.NFTA_TRACE_TYPE:
			kind = nfnl.Number(v)
		case unix.NFTA_TRACE_VERDICT:
			t.Verdict = verdict(v)
		case unix.NFTA_TRACE_POLICY:
			t.Verdict = verdictWord(int32(nfnl.Number(v)))
		case unix.NFTA_TRACE_ID:
			t.ID = uint32(nfnl.Number(v))
		case unix.NFTA_TRACE_IIF:
			t.In = int(nfnl.Number(v))
		case unix.NFTA_TRACE_OIF:
			t.Out = int(nfnl.Number(v))
		case unix.NFTA_TRACE_LL_HEADER:
			link = v
		case unix.NFTA_TRACE_NETWORK_HEADER:
			network = v
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			transport = v
		}
	}
	t.Table = familyWord(t.family) + " " + t.table
	// The end of a chain that was jumped to is told like a rule without a handle.
	if kind == kindRule && handle != 0 {
		t.Rule = &trace.Rule{Handle: handle}
	}
	t.begins, t.Headers = network != nil, headers(link, network, transport)
	return t, t.Chain != "" && kind != 0 && t.family != unix.NFPROTO_NETDEV
}

// verdict reads the nested attributes of a verdict.
func verdict(b []byte) string {
	code, chain, ok := nfnl.Verdict(b)
	if !ok {
		return "" // which zero is not: that is to drop
	}
	word := verdictWord(code)
	if chain != "" {
		word += " " + chain
	}
	return word
}

// familyWord is nft(8)'s word for a family, or its number.
func familyWord(n byte) string {
	return cmp.Or(nfnl.FamilyWord(n), fmt.Sprintf("family %d", n))
}

func layerOf(family byte) trace.Layer {
	if family == unix.NFPROTO_BRIDGE {
		return trace.Bridge
	}
	return trace.IP
}

// verdictWord is nft(8)'s word for NF_DROP and so on and enum nft_verdicts.
func verdictWord(code int32) string {
	switch code & 0xff {
	case 0:
		return "drop"
	case 1:
		return "accept"
	case 2:
		return "stolen"
	case 3:
		return "queue"
	case 4:
		return "repeat"
	}
	switch code {
	case -1:
		return "continue"
	case -2:
		return "break"
	case -3:
		return "jump"
	case -4:
		return "goto"
	case -5:
		return "return"
	}
	return fmt.Sprintf("verdict %d", code)
}

// headers reads the parts of a packet that the kernel tells with the first
// event in a base chain: at most 14, 40 and 20 bytes. It returns nil where they
// are missing or of another protocol.
func headers(link, network, transport []byte) *trace.Headers {
	if len(network) < 20 || len(transport) < 8 {
		return nil
	}
	h := &trace.Headers{}
	var source, destination netip.Addr
	var id string
	switch network[0] >> 4 {
	case 4:
		if binary.BigEndian.Uint16(network[6:])&0x1fff != 0 {
			return nil // a later fragment: what follows is no header
		}
		h.Protocol = trace.Protocol(network[9])
		source, _ = netip.AddrFromSlice(network[12:16])
		destination, _ = netip.AddrFromSlice(network[16:20])
		id = hex.EncodeToString(network[4:6])
	case 6:
		if len(network) < 40 {
			return nil
		}
		// Only without extension headers is this the transport protocol. The
		// flow label stays the same, and tells one flow from another.
		h.Protocol = trace.Protocol(network[6])
		source, _ = netip.AddrFromSlice(network[8:24])
		destination, _ = netip.AddrFromSlice(network[24:40])
		id = hex.EncodeToString(network[1:4])
	default:
		return nil
	}
	var from, to uint16
	if !h.Protocol.Echo() {
		from, to = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	h.Source, h.Destination = netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to)
	switch h.Protocol {
	case trace.TCP:
		if len(transport) < 14 {
			return nil
		}
		h.Flags = flags(transport[13])
		id += "/" + hex.EncodeToString(transport[4:14]) // sequence numbers, offset, flags
	case trace.UDP:
		id += "/" + hex.EncodeToString(transport[4:6]) + hex.EncodeToString(transport[8:]) // length, payload
	case trace.ICMP, trace.ICMPv6:
		if h.Flags = trace.ICMPName(h.Protocol, transport[0], transport[1]); h.Flags == "" {
			return nil
		}
		id += "/" + hex.EncodeToString(transport[:2]) + hex.EncodeToString(transport[6:]) // type, code, number, payload
	default:
		return nil
	}
	h.Identity = h.Protocol.String() + "/" + id
	if len(link) >= 12 {
		h.DestinationMAC, h.SourceMAC = net.HardwareAddr(link[:6]).String(), net.HardwareAddr(link[6:12]).String()
	}
	return h
}

// flags is the names of TCP's flags that are set, the one that says most first.
func flags(b byte) string {
	var names []string
	for _, f := range []struct {
		bit  byte
		name string
	}{{1 << 1, "SYN"}, {1 << 0, "FIN"}, {1 << 2, "RST"}, {1 << 3, "PSH"}, {1 << 4, "ACK"}, {1 << 5, "URG"}} {
		if b&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, " ")
}
