package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/trace"
)

// Of linux/netfilter/nf_tables.h and linux/netfilter.h, where x/sys has no
// name for it.
const (
	tableOwner = 0x2  // NFT_TABLE_F_OWNER: from Linux 5.12 on
	setEval    = 0x20 // NFT_SET_EVAL
	accept     = 1    // NF_ACCEPT
)

// Where our chains are. The first see a packet before anybody else who looks
// at addresses, right after fragments are put together (NF_IP_PRI_CONNTRACK_DEFRAG
// is -400); the last see what became of it (NF_IP_PRI_NAT_SRC is 100); the
// middle is behind conntrack (-200) and before address translation (-100).
const (
	atFirst  = -399
	atMiddle = -150
	atLast   = 1000
)

// hooks of each layer: enum nf_inet_hooks, and NF_BR_PRE_ROUTING and so on,
// which have the same numbers.
var hooks = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

func hookName(n uint64) string {
	if n < uint64(len(hooks)) {
		return hooks[n]
	}
	return ""
}

const (
	prerouting  = 0
	input       = 1
	forward     = 2
	output      = 3
	postrouting = 4
)

// The sets of a table: who asks, with the port it asks from, and who answers.
// An echo's id stands for both ports.
// The kernel fills them while it looks at packets, so that the very first reply
// is known for one.
const (
	clients   = "clients"
	endpoints = "endpoints"
)

// messages is the transaction that makes the tables.
func (m *marks) messages(q trace.Query, tracked bool) [][]byte {
	b := &builder{name: m.name, query: q, owned: m.owned}
	if m.bridge {
		b.table(unix.NFPROTO_BRIDGE)
		b.chain("prerouting", prerouting, atFirst)
		b.seen("prerouting")
		b.chain("input", input, atFirst)
		b.chain("forward", forward, atFirst)
		b.learn("forward")
		b.chain("output", output, atFirst)
		b.learn("output")
		b.seen("output") // the node's own, which it may send to a pod directly
		b.chain("postrouting", postrouting, atFirst)
	}

	b.table(m.ip)
	for _, c := range []struct {
		name string
		hook uint32
	}{{"prerouting", prerouting}, {"output", output}} {
		b.chain(c.name, c.hook, atFirst)
		b.seen(c.name)
		if tracked {
			b.chain(c.name+"-tracked", c.hook, atMiddle)
			b.ofConnection(c.name + "-tracked")
		}
		b.chain(c.name+"-end", c.hook, atLast)
	}
	b.chain("input", input, atFirst)
	b.chain("input-end", input, atLast) // a reply to the node itself is translated there
	b.chain("forward", forward, atFirst)
	b.chain("postrouting", postrouting, atFirst)
	b.chain("postrouting-end", postrouting, atLast)
	if tracked {
		b.learnTracked("postrouting-end")
	} else {
		b.learn("postrouting-end")
	}
	return b.messages
}

// builder collects the messages for one table after the other.
type builder struct {
	name     string
	query    trace.Query
	owned    bool
	family   byte // of the table that is being made
	setID    uint32
	messages [][]byte
}

func (b *builder) add(kind, flags uint16, in attrs) {
	b.messages = append(b.messages, message(kind, unix.NLM_F_CREATE|flags, b.family, in))
}

func (b *builder) table(family byte) {
	b.family = family
	in := attrs{}.text(unix.NFTA_TABLE_NAME, b.name)
	if b.owned {
		in = in.u32(unix.NFTA_TABLE_FLAGS, tableOwner)
	}
	b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_EXCL, in)
	for _, set := range []string{clients, endpoints} {
		b.setID++
		b.add(unix.NFT_MSG_NEWSET, unix.NLM_F_EXCL, attrs{}.
			text(unix.NFTA_SET_TABLE, b.name).
			text(unix.NFTA_SET_NAME, set).
			u32(unix.NFTA_SET_FLAGS, setEval).
			u32(unix.NFTA_SET_KEY_TYPE, 0).
			u32(unix.NFTA_SET_KEY_LEN, uint32(len(b.query.Client.AsSlice())+4)).
			u32(unix.NFTA_SET_ID, b.setID).
			nest(unix.NFTA_SET_DESC, attrs{}.u32(unix.NFTA_SET_DESC_SIZE, MostPackets)))
	}
}

// MostPackets is how many packets a trace can follow. What the kernel learns is
// bounded by it, too: each of them can be of another connection.
const MostPackets = 4096

func (b *builder) chain(name string, hook uint32, priority int32) {
	b.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_EXCL, attrs{}.
		text(unix.NFTA_CHAIN_TABLE, b.name).
		text(unix.NFTA_CHAIN_NAME, name).
		nest(unix.NFTA_CHAIN_HOOK, attrs{}.u32(unix.NFTA_HOOK_HOOKNUM, hook).u32(unix.NFTA_HOOK_PRIORITY, uint32(priority))).
		u32(unix.NFTA_CHAIN_POLICY, accept).
		text(unix.NFTA_CHAIN_TYPE, "filter"))
}

// seen marks what belongs to the connection by its addresses.
func (b *builder) seen(chain string) {
	q := b.query
	b.each(chain, func(e exprs, from, to field) exprs { // the request, as the client sends it
		e = e.compare(b.source(), addressOf(q.Client)).compare(b.destination(), addressOf(q.Server))
		if q.Port != 0 {
			e = e.compare(to, portOf(q.Port))
		}
		return e.trace().learn(clients, b.source(), from)
	})
	b.each(chain, func(e exprs, from, to field) exprs { // the reply of the server itself
		e = e.compare(b.source(), addressOf(q.Server)).compare(b.destination(), addressOf(q.Client))
		if q.Port != 0 {
			e = e.compare(from, portOf(q.Port))
		}
		return e.known(clients, b.destination(), to).trace()
	})
	b.each(chain, func(e exprs, from, to field) exprs { // the reply of who the server was translated to
		return e.known(endpoints, b.source(), from).known(clients, b.destination(), to).trace()
	})
	b.each(chain, func(e exprs, from, to field) exprs { // what the client makes of that one: a reset
		return e.known(clients, b.source(), from).known(endpoints, b.destination(), to).trace()
	})
}

// learn takes who the server was translated to from a request on its further
// way.
func (b *builder) learn(chain string) {
	b.each(chain, func(e exprs, from, to field) exprs {
		return e.compare(b.source(), addressOf(b.query.Client)).
			differ(b.destination(), addressOf(b.query.Server)).
			known(clients, b.source(), from).
			learn(endpoints, b.destination(), to)
	})
}

// ofConnection marks what conntrack has for a part of the connection, the
// replies too, whatever their addresses are here.
func (b *builder) ofConnection(chain string) {
	b.each(chain, func(e exprs, _, _ field) exprs { return b.original(e).trace() })
}

// learnTracked takes both ends as the last translation left them, also the
// client's own address where it was masqueraded.
func (b *builder) learnTracked(chain string) {
	b.each(chain, func(e exprs, from, to field) exprs {
		e = b.original(e).ct(unix.NFT_CT_DIRECTION, noDirection).compareRegister([]byte{0})
		return e.learn(clients, b.source(), from).learn(endpoints, b.destination(), to)
	})
}

// original is what conntrack has for the first packet of the connection.
func (b *builder) original(e exprs) exprs {
	q := b.query
	e = e.ct(unix.NFT_CT_SRC, original).compareRegister(addressOf(q.Client)).
		ct(unix.NFT_CT_DST, original).compareRegister(addressOf(q.Server))
	if q.Port != 0 {
		e = e.ct(unix.NFT_CT_PROTO_DST, original).compareRegister(portOf(q.Port))
	}
	return e
}

// each adds a rule for each protocol that is asked for, with what tells the two
// ends' connections apart: the ports, or the id of an echo. It begins with what
// has to be known before anything else of a packet is looked at.
func (b *builder) each(chain string, rule func(e exprs, from, to field) exprs) {
	echo := trace.ICMP
	if b.query.Client.Is6() {
		echo = trace.ICMPv6
	}
	for _, p := range []trace.Protocol{trace.TCP, trace.UDP, echo} {
		if b.query.Protocol != 0 && b.query.Protocol != p || p == echo && b.query.Port != 0 {
			continue
		}
		from, to := sourcePort, destinationPort
		if p == echo {
			from, to = echoID, echoID
		}
		var e exprs
		if b.family == unix.NFPROTO_BRIDGE {
			protocol := uint16(unix.ETH_P_IP)
			if b.query.Client.Is6() {
				protocol = unix.ETH_P_IPV6
			}
			e = e.meta(unix.NFT_META_PROTOCOL).compareRegister(portOf(protocol))
		}
		e = e.meta(unix.NFT_META_L4PROTO).compareRegister([]byte{byte(p)})
		b.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND, attrs{}.
			text(unix.NFTA_RULE_TABLE, b.name).
			text(unix.NFTA_RULE_CHAIN, chain).
			nest(unix.NFTA_RULE_EXPRESSIONS, attrs(rule(e, from, to))))
	}
}

func (b *builder) source() field {
	if b.query.Client.Is6() {
		return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16}
	}
	return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4}
}

func (b *builder) destination() field {
	if b.query.Client.Is6() {
		return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16}
	}
	return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4}
}

func addressOf(a netip.Addr) []byte { return a.AsSlice() }
func portOf(n uint16) []byte        { return binary.BigEndian.AppendUint16(nil, n) }
