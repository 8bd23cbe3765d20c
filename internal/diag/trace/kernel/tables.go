package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
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

// The sets of a table: who asks, with the port it asks from, and who answers.
// An echo's id stands for both ports.
// The kernel fills them while it looks at packets, so that the very first reply
// is known for one.
const (
	clients   = "clients"
	endpoints = "endpoints"
)

// messages is the transaction that makes the tables.
func (m *marks) messages(q trace.Query, tracked bool) []nfnl.Message {
	b := &builder{Table: nfnl.Table{Name: m.name}, query: q, owned: m.owned}
	if m.bridge {
		b.begin(unix.NFPROTO_BRIDGE)
		b.chain("prerouting", nfnl.Prerouting, atFirst)
		b.seen("prerouting")
		b.chain("input", nfnl.Input, atFirst)
		b.chain("forward", nfnl.Forward, atFirst)
		b.learn("forward")
		b.chain("output", nfnl.Output, atFirst)
		b.learn("output")
		b.seen("output") // the node's own, which it may send to a pod directly
		b.chain("postrouting", nfnl.Postrouting, atFirst)
	}

	b.begin(m.ip)
	for _, c := range []struct {
		name string
		hook nfnl.Hook
	}{{"prerouting", nfnl.Prerouting}, {"output", nfnl.Output}} {
		b.chain(c.name, c.hook, atFirst)
		b.seen(c.name)
		if tracked {
			b.chain(c.name+"-tracked", c.hook, atMiddle)
			b.ofConnection(c.name + "-tracked")
		}
		b.chain(c.name+"-end", c.hook, atLast)
	}
	b.chain("input", nfnl.Input, atFirst)
	b.chain("input-end", nfnl.Input, atLast) // a reply to the node itself is translated there
	b.chain("forward", nfnl.Forward, atFirst)
	b.chain("postrouting", nfnl.Postrouting, atFirst)
	b.chain("postrouting-end", nfnl.Postrouting, atLast)
	if tracked {
		b.learnTracked("postrouting-end")
	} else {
		b.learn("postrouting-end")
	}
	return b.messages
}

// builder collects the messages for one table after the other.
type builder struct {
	nfnl.Table // that is being made
	query      trace.Query
	owned      bool
	setID      uint32
	messages   []nfnl.Message
}

func (b *builder) add(m nfnl.Message) { b.messages = append(b.messages, m) }

func (b *builder) begin(family byte) {
	b.Family = family
	var flags uint32
	if b.owned {
		flags = nfnl.Owner
	}
	b.add(b.Create(flags))
	for _, set := range []string{clients, endpoints} {
		b.setID++
		b.add(b.CreateSet(set, b.setID, len(b.query.Client.AsSlice())+4, MostPackets))
	}
}

// MostPackets is how many packets a trace can follow. What the kernel learns is
// bounded by it, too: each of them can be of another connection.
const MostPackets = 4096

func (b *builder) chain(name string, at nfnl.Hook, priority int32) {
	b.add(b.CreateChain(name, "filter", at, priority))
}

// seen marks what belongs to the connection by its addresses.
func (b *builder) seen(chain string) {
	q := b.query
	b.each(chain, func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs { // the request, as the client sends it
		e = e.Equal(b.source(), addressOf(q.Client)).Equal(b.destination(), addressOf(q.Server))
		if q.Port != 0 {
			e = e.Equal(to, portOf(q.Port))
		}
		return e.Trace().Learn(clients, b.source(), from)
	})
	b.each(chain, func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs { // the reply of the server itself
		e = e.Equal(b.source(), addressOf(q.Server)).Equal(b.destination(), addressOf(q.Client))
		if q.Port != 0 {
			e = e.Equal(from, portOf(q.Port))
		}
		return e.Known(clients, b.destination(), to).Trace()
	})
	b.each(chain, func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs { // the reply of who the server was translated to
		return e.Known(endpoints, b.source(), from).Known(clients, b.destination(), to).Trace()
	})
	b.each(chain, func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs { // what the client makes of that one: a reset
		return e.Known(clients, b.source(), from).Known(endpoints, b.destination(), to).Trace()
	})
	b.errors(chain, func(e nfnl.Exprs, begin nfnl.Field, _ uint32) nfnl.Exprs { // an error about the request, as the client sent it
		return e.Equal(inside(begin, b.source()), addressOf(q.Client)).Equal(inside(begin, b.destination()), addressOf(q.Server)).Trace()
	})
	b.errors(chain, func(e nfnl.Exprs, begin nfnl.Field, ports uint32) nfnl.Exprs { // and as it was translated
		port := nfnl.Field{Base: begin.Base, Offset: ports + 2, Length: 2}
		return e.Equal(inside(begin, b.source()), addressOf(q.Client)).Known(endpoints, inside(begin, b.destination()), port).Trace()
	})
}

// inside is a field of the header of IP that an error of ICMP has in it.
func inside(begin, f nfnl.Field) nfnl.Field {
	return nfnl.Field{Base: begin.Base, Offset: begin.Offset + f.Offset, Length: f.Length}
}

// errors adds a rule for each type of ICMP's errors. begin is where the header of
// IP is that an error is about, ports where the ports are behind it, if it has no
// options.
func (b *builder) errors(chain string, rule func(e nfnl.Exprs, begin nfnl.Field, ports uint32) nfnl.Exprs) {
	protocol, header := trace.ICMP, uint32(20)
	if b.query.Client.Is6() {
		protocol, header = trace.ICMPv6, 40
	}
	begin := nfnl.Field{Base: unix.NFT_PAYLOAD_TRANSPORT_HEADER, Offset: 8}
	for _, kind := range trace.ICMPErrors(protocol) {
		e := b.protocolOfIP().Meta(unix.NFT_META_L4PROTO, []byte{byte(protocol)}).
			Equal(nfnl.Field{Base: unix.NFT_PAYLOAD_TRANSPORT_HEADER, Offset: 0, Length: 1}, []byte{kind})
		b.add(b.CreateRule(chain, rule(e, begin, begin.Offset+header)))
	}
}

// learn takes who the server was translated to from a request on its further
// path.
func (b *builder) learn(chain string) {
	b.each(chain, func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs {
		return e.Equal(b.source(), addressOf(b.query.Client)).
			Differ(b.destination(), addressOf(b.query.Server)).
			Known(clients, b.source(), from).
			Learn(endpoints, b.destination(), to)
	})
}

// ofConnection marks what conntrack has for a part of the connection, the
// replies too, whatever their addresses are here.
func (b *builder) ofConnection(chain string) {
	b.each(chain, func(e nfnl.Exprs, _, _ nfnl.Field) nfnl.Exprs { return b.original(e).Trace() })
	b.errors(chain, func(e nfnl.Exprs, _ nfnl.Field, _ uint32) nfnl.Exprs { return b.original(e).Trace() })
}

// learnTracked takes both ends as the last translation left them, also the
// client's own address where it was masqueraded.
func (b *builder) learnTracked(chain string) {
	b.each(chain, func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs {
		e = b.original(e).Conntrack(unix.NFT_CT_DIRECTION, nfnl.AnyDirection, []byte{0})
		return e.Learn(clients, b.source(), from).Learn(endpoints, b.destination(), to)
	})
}

// original is what conntrack has for the first packet of the connection.
func (b *builder) original(e nfnl.Exprs) nfnl.Exprs {
	q := b.query
	e = e.Conntrack(unix.NFT_CT_SRC, nfnl.Original, addressOf(q.Client)).
		Conntrack(unix.NFT_CT_DST, nfnl.Original, addressOf(q.Server))
	if q.Port != 0 {
		e = e.Conntrack(unix.NFT_CT_PROTO_DST, nfnl.Original, portOf(q.Port))
	}
	return e
}

// each adds a rule for each protocol that is asked for, with what tells the two
// ends' connections apart: the ports, or the id of an echo. It begins with what
// has to be known before anything else of a packet is looked at.
func (b *builder) each(chain string, rule func(e nfnl.Exprs, from, to nfnl.Field) nfnl.Exprs) {
	echo := trace.ICMP
	if b.query.Client.Is6() {
		echo = trace.ICMPv6
	}
	for _, p := range []trace.Protocol{trace.TCP, trace.UDP, echo} {
		if b.query.Protocol != 0 && b.query.Protocol != p || p == echo && b.query.Port != 0 {
			continue
		}
		from, to := nfnl.SourcePort, nfnl.DestinationPort
		if p == echo {
			from, to = nfnl.EchoID, nfnl.EchoID
		}
		e := b.protocolOfIP().Meta(unix.NFT_META_L4PROTO, []byte{byte(p)})
		b.add(b.CreateRule(chain, rule(e, from, to)))
	}
}

// protocolOfIP begins a rule: on a bridge there are others than IP.
func (b *builder) protocolOfIP() (e nfnl.Exprs) {
	if b.Family != unix.NFPROTO_BRIDGE {
		return nil
	}
	protocol := uint16(unix.ETH_P_IP)
	if b.query.Client.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	return e.Meta(unix.NFT_META_PROTOCOL, portOf(protocol))
}

func (b *builder) source() nfnl.Field      { return nfnl.Source(b.query.Client.Is6()) }
func (b *builder) destination() nfnl.Field { return nfnl.Destination(b.query.Client.Is6()) }

func addressOf(a netip.Addr) []byte { return a.AsSlice() }
func portOf(n uint16) []byte        { return binary.BigEndian.AppendUint16(nil, n) }
