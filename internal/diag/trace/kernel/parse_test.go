package kernel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// ipv4Header is one without options, of a protocol.
func ipv4Header(protocol byte, id uint16, source, destination string) []byte {
	b := make([]byte, 20)
	b[0], b[9] = 0x45, protocol
	binary.BigEndian.PutUint16(b[4:], id)
	copy(b[12:], netip.MustParseAddr(source).AsSlice())
	copy(b[16:], netip.MustParseAddr(destination).AsSlice())
	return b
}

func tcpHeader(source, destination uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, source)
	binary.BigEndian.PutUint16(b[2:], destination)
	b[7], b[13] = 9, flags
	return b
}

func TestHeaders(t *testing.T) {
	link := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	ipv6Header := make([]byte, 40)
	ipv6Header[0], ipv6Header[6] = 0x60, unix.IPPROTO_UDP
	copy(ipv6Header[8:], netip.MustParseAddr("fd00::1").AsSlice())
	copy(ipv6Header[24:], netip.MustParseAddr("fd00::2").AsSlice())
	fragment := ipv4Header(unix.IPPROTO_TCP, 1, "10.0.0.1", "10.0.0.2")
	fragment[7] = 185 // times eight bytes
	udp := []byte{0x9c, 0x40, 0, 53, 0, 12, 0xab, 0xcd, 'a', 's', 'k', '?'}
	for name, tt := range map[string]struct {
		link, network, transport []byte
		want                     *trace.Headers
	}{
		"TCP": {
			link, ipv4Header(unix.IPPROTO_TCP, 0x1234, "10.0.0.1", "10.0.0.2"), tcpHeader(40000, 80, 0x12),
			&trace.Headers{
				Source: netip.MustParseAddrPort("10.0.0.1:40000"), Destination: netip.MustParseAddrPort("10.0.0.2:80"), Protocol: trace.TCP,
				SourceMAC: "02:00:00:00:00:02", DestinationMAC: "02:00:00:00:00:01", Flags: "SYN ACK", Identity: "tcp/1234/00000009000000000012",
			},
		},
		"UDP over IPv6, without a link": { // the checksum is not of the identity: addresses change it
			nil, ipv6Header, udp,
			&trace.Headers{
				Source: netip.MustParseAddrPort("[fd00::1]:40000"), Destination: netip.MustParseAddrPort("[fd00::2]:53"), Protocol: trace.UDP,
				Identity: "udp/000000/000c61736b3f",
			},
		},
		"ICMP": { // neither checksum nor id: both can be changed on the way
			link, ipv4Header(unix.IPPROTO_ICMP, 1, "10.0.0.1", "10.0.0.2"),
			[]byte{8, 0, 0xab, 0xcd, 0, 7, 0, 3, 'p', 'i', 'n', 'g'},
			&trace.Headers{
				Source: netip.MustParseAddrPort("10.0.0.1:0"), Destination: netip.MustParseAddrPort("10.0.0.2:0"), Protocol: trace.ICMP,
				SourceMAC: "02:00:00:00:00:02", DestinationMAC: "02:00:00:00:00:01", Flags: "echo request", Identity: "icmp/0001/0800000370696e67",
			},
		},
		"an error of ICMP": {
			link, ipv4Header(unix.IPPROTO_ICMP, 1, "10.0.0.1", "10.0.0.2"),
			[]byte{3, 3, 0, 0, 0, 0, 0, 0},
			&trace.Headers{
				Source: netip.MustParseAddrPort("10.0.0.1:0"), Destination: netip.MustParseAddrPort("10.0.0.2:0"), Protocol: trace.ICMP,
				SourceMAC: "02:00:00:00:00:02", DestinationMAC: "02:00:00:00:00:01", Flags: "port unreachable", Identity: "icmp/0001/03030000",
			},
		},
		"neither echo nor error": {link, ipv4Header(unix.IPPROTO_ICMP, 1, "10.0.0.1", "10.0.0.2"), []byte{5, 1, 0, 0, 0, 0, 0, 0}, nil},
		"cut off":                {link, ipv4Header(unix.IPPROTO_TCP, 1, "10.0.0.1", "10.0.0.2")[:19], tcpHeader(1, 2, 2), nil},
		"a later fragment":       {link, fragment, tcpHeader(1, 2, 2), nil},
		"no ports":               {link, ipv4Header(unix.IPPROTO_TCP, 1, "10.0.0.1", "10.0.0.2"), nil, nil},
		"a TCP header cut off":   {link, ipv4Header(unix.IPPROTO_TCP, 1, "10.0.0.1", "10.0.0.2"), tcpHeader(1, 2, 2)[:13], nil},
		"neither IPv4 nor 6":     {link, make([]byte, 40), tcpHeader(1, 2, 2), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, headers(tt.link, tt.network, tt.transport), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// ruleMessage is an event of a rule.
func ruleMessage() []byte {
	return nfnl.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE, 0, unix.NFPROTO_IPV4, nfnl.Attrs{}.
		Text(unix.NFTA_TRACE_TABLE, "nat").Text(unix.NFTA_TRACE_CHAIN, "KUBE-SERVICES").
		Bytes(unix.NFTA_TRACE_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, 7)).
		U32(unix.NFTA_TRACE_TYPE, kindRule).U32(unix.NFTA_TRACE_ID, 99).U32(unix.NFTA_TRACE_IIF, 3).
		Nest(unix.NFTA_TRACE_VERDICT, nfnl.Attrs{}.U32(unix.NFTA_VERDICT_CODE, 0xfffffffd).Text(unix.NFTA_VERDICT_CHAIN, "KUBE-SVC-X")))
}

func TestParseTrace(t *testing.T) {
	got, ok := parseTrace(ruleMessage())
	want := traceMessage{
		Event: trace.Event{
			ID: 99, Layer: trace.IP, Backend: "nf_tables", Table: "ip nat", Chain: "KUBE-SERVICES",
			Rule: &trace.Rule{Handle: 7}, Verdict: "jump KUBE-SVC-X", In: 3,
		},
		family: unix.NFPROTO_IPV4, table: "nat",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(traceMessage{})); diff != "" || !ok {
		t.Errorf("%t (-want +got):\n%s", ok, diff)
	}
	if v := verdict(nfnl.Attrs{}.Text(unix.NFTA_VERDICT_CHAIN, "X")); v != "" {
		t.Errorf("a verdict without a code is %q", v)
	}
	if _, ok := parseTrace(nfnl.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE, 0, unix.NFPROTO_IPV4, nil)); ok {
		t.Error("a message about a rule was taken for a trace")
	}
}

// conntrackMessage is the news of a connection through a Service.
func conntrackMessage(kind uint16) []byte {
	tuple := func(source, destination string, from, to uint16) nfnl.Attrs {
		return nfnl.Attrs{}.
			Nest(nl.CTA_TUPLE_IP, nfnl.Attrs{}.Bytes(nl.CTA_IP_V4_SRC, netip.MustParseAddr(source).AsSlice()).Bytes(nl.CTA_IP_V4_DST, netip.MustParseAddr(destination).AsSlice())).
			Nest(nl.CTA_TUPLE_PROTO, nfnl.Attrs{}.U8(nl.CTA_PROTO_NUM, unix.IPPROTO_TCP).
				Bytes(nl.CTA_PROTO_SRC_PORT, portOf(from)).Bytes(nl.CTA_PROTO_DST_PORT, portOf(to)))
	}
	return nfnl.Request(unix.NFNL_SUBSYS_CTNETLINK<<8|kind, 0, unix.NFPROTO_IPV4, nfnl.Attrs{}.
		Nest(nl.CTA_TUPLE_ORIG, tuple("10.0.0.31", "10.96.0.1", 40000, 80)).
		Nest(nl.CTA_TUPLE_REPLY, tuple("10.0.0.32", "10.0.0.31", 8080, 40000)).
		U32(nl.CTA_ID, 5).U32(nl.CTA_STATUS, 1<<1)) // IPS_SEEN_REPLY
}

func TestParseConntrack(t *testing.T) {
	got, ok := parseConntrack(conntrackMessage(2)) // IPCTNL_MSG_CT_DELETE
	want := trace.Connection{
		ID: 5, Protocol: trace.TCP,
		Original: trace.Tuple{Source: netip.MustParseAddrPort("10.0.0.31:40000"), Destination: netip.MustParseAddrPort("10.96.0.1:80")},
		Reply:    trace.Tuple{Source: netip.MustParseAddrPort("10.0.0.32:8080"), Destination: netip.MustParseAddrPort("10.0.0.31:40000")},
		Replied:  true, Ended: true,
	}
	if got != want || !ok {
		t.Errorf("%t, %+v; want %+v", ok, got, want)
	}
	if _, ok := parseConntrack(ruleMessage()); ok {
		t.Error("a trace was taken for a connection")
	}
}

func TestParseRule(t *testing.T) {
	nat := func(revision uint32, info []byte) []byte {
		return nfnl.Exprs{}.Add("target", nfnl.Attrs{}.Text(unix.NFTA_TARGET_NAME, "DNAT").U32(unix.NFTA_TARGET_REV, revision).Bytes(unix.NFTA_TARGET_INFO, info))
	}
	natRange := make([]byte, 44) // struct nf_nat_range2
	binary.NativeEndian.PutUint32(natRange, 3)
	copy(natRange[4:], []byte{10, 0, 0, 32})
	copy(natRange[36:], []byte{0x1f, 0x90})
	onlyPort := bytes.Clone(natRange)
	binary.NativeEndian.PutUint32(onlyPort, 2)
	old := make([]byte, 20) // struct nf_nat_ipv4_multi_range_compat
	binary.NativeEndian.PutUint32(old[4:], 1)
	copy(old[8:], []byte{10, 0, 0, 32})
	comment := append([]byte("default/web:http cluster IP"), make([]byte, 229)...)
	verdictOf := func(code uint32, chain string) []byte {
		v := nfnl.Attrs{}.U32(unix.NFTA_VERDICT_CODE, code)
		if chain != "" {
			v = v.Text(unix.NFTA_VERDICT_CHAIN, chain)
		}
		return nfnl.Exprs{}.Add("immediate", nfnl.Attrs{}.Nest(unix.NFTA_IMMEDIATE_DATA, nfnl.Attrs{}.Nest(unix.NFTA_DATA_VERDICT, v)))
	}
	load := func(register uint32, v []byte) []byte {
		return nfnl.Exprs{}.Add("immediate", nfnl.Attrs{}.U32(unix.NFTA_IMMEDIATE_DREG, register).Nest(unix.NFTA_IMMEDIATE_DATA, nfnl.Attrs{}.Bytes(unix.NFTA_DATA_VALUE, v)))
	}
	for name, tt := range map[string]struct {
		expressions [][]byte
		userdata    []byte
		want        trace.Rule
	}{
		"iptables-nft, a Service": {
			[][]byte{nfnl.Exprs{}.Add("match", nfnl.Attrs{}.Text(unix.NFTA_MATCH_NAME, "comment").Bytes(unix.NFTA_MATCH_INFO, comment)), verdictOf(0xfffffffd, "KUBE-SVC-X")},
			nil,
			trace.Rule{Comment: "default/web:http cluster IP", Action: "jump KUBE-SVC-X"},
		},
		"iptables-nft, an endpoint": {[][]byte{nat(2, natRange)}, nil, trace.Rule{Action: "dnat to 10.0.0.32:8080"}},
		"only a port":               {[][]byte{nat(2, onlyPort)}, nil, trace.Rule{Action: "dnat to port 8080"}},
		"an old iptables":           {[][]byte{nat(0, old)}, nil, trace.Rule{Action: "dnat to 10.0.0.32"}},
		"nft, with a comment": {
			[][]byte{
				load(1, []byte{10, 0, 0, 32}), load(2, []byte{0x1f, 0x90}),
				nfnl.Exprs{}.Add("nat", nfnl.Attrs{}.U32(unix.NFTA_NAT_TYPE, 1).U32(unix.NFTA_NAT_REG_ADDR_MIN, 1).U32(unix.NFTA_NAT_REG_PROTO_MIN, 2)),
			},
			append([]byte{9, 1, 'x', 0, 6}, "mine!\x00"...),
			trace.Rule{Comment: "mine!", Action: "dnat to 10.0.0.32:8080"},
		},
		"nft, by a map":   {[][]byte{nfnl.Exprs{}.Add("lookup", nfnl.Attrs{}.Text(unix.NFTA_LOOKUP_SET, "service-ips").U32(unix.NFTA_LOOKUP_DREG, 0))}, nil, trace.Rule{Action: "look up @service-ips"}},
		"drop":            {[][]byte{verdictOf(0, "")}, nil, trace.Rule{Action: "drop"}},
		"masquerade":      {[][]byte{nfnl.Exprs{}.Add("masq", nil)}, nil, trace.Rule{Action: "masquerade"}},
		"nothing told":    {nil, nil, trace.Rule{}},
		"comment cut off": {nil, []byte{0, 200, 'x'}, trace.Rule{}},
	} {
		t.Run(name, func(t *testing.T) {
			var list nfnl.Attrs
			for _, e := range tt.expressions {
				list = append(list, e...)
			}
			b := nfnl.Attrs{}.Nest(unix.NFTA_RULE_EXPRESSIONS, list).Bytes(unix.NFTA_RULE_USERDATA, tt.userdata)
			if diff := cmp.Diff(tt.want, parseRule(false, b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzParse: no bytes, however broken, are worse than no event.
func FuzzParse(f *testing.F) {
	f.Add(ruleMessage())
	f.Add(conntrackMessage(0)) // IPCTNL_MSG_CT_NEW
	header := append(ipv4Header(unix.IPPROTO_TCP, 1, "10.0.0.1", "10.0.0.2"), tcpHeader(1, 2, 2)...)
	f.Add([]byte(nfnl.Request(logPacket, 0, unix.NFPROTO_IPV4, nfnl.Attrs{}.Bytes(logHeader, []byte{8, 0, 2, 0}).
		Text(logPrefix, "TRACE: filter:FORWARD:rule:1 ").Bytes(logPayload, header))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseTrace(b); ok && e.Chain == "" {
			t.Errorf("an event of no chain: %+v", e)
		}
		if c, ok := parseConntrack(b); ok && (!c.Original.Source.IsValid() || !c.Reply.Source.IsValid()) {
			t.Errorf("a connection of nobody: %+v", c)
		}
		for _, ipv6 := range []bool{false, true} {
			if e, _, ok := parseLog(b, ipv6); ok && (e.Headers == nil || e.Hook == "") {
				t.Errorf("a packet without headers or hook: %+v", e)
			}
		}
		_, _, in := nfnl.Parse(b)
		parseRule(false, in)
		parseRule(true, in)
	})
}
