package netfilter

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// registers are the packet's, by their number in units of four bytes. What an
// expression puts there that is not known here is not known.
type registers map[uint64]bits

func register(b []byte) uint64 {
	n := nfnl.Number(b)
	if n >= unix.NFT_REG_1 && n <= unix.NFT_REG_4 { // of sixteen bytes
		return unix.NFT_REG32_00 + 4*(n-unix.NFT_REG_1)
	}
	return n
}

// get is size bytes from a register on, over those that follow.
func (r registers) get(n uint64, size int) bits {
	if v := r[n]; len(v.value) == size {
		return v
	}
	v := bits{value: make([]byte, size), known: make([]byte, size)}
	for at := uint64(0); at < unix.NFT_REG32_15; at++ {
		from := r[n+at]
		if 4*int(at) >= size {
			break
		}
		copy(v.value[4*at:], from.value)
		copy(v.known[4*at:], from.known)
		if len(from.value) > 4 {
			at += uint64(len(from.value)-1) / 4
		}
	}
	return v
}

// set puts a value into a register, and into those that follow it as far as it
// reaches, which is not known of one that is not: what they had is gone.
func (r registers) set(n uint64, v bits) {
	for i := n + 1; i < n+4; i++ {
		delete(r, i)
	}
	r[n] = v
}

// meta loads what is known of the packet, or returns the mark that it sets.
func (r registers) meta(e *nfnl.Expr, p *packet) (mark *bits) {
	key, dreg := nfnl.Number(e.Find(unix.NFTA_META_KEY)), e.Find(unix.NFTA_META_DREG)
	if dreg == nil {
		if key == unix.NFT_META_MARK {
			v := r.get(register(e.Find(unix.NFTA_META_SREG)), 4)
			return &v
		}
		return nil
	}
	native16 := func(n uint16) bits { return exactly(binary.NativeEndian.AppendUint16(nil, n)) }
	family := byte(unix.NFPROTO_IPV4)
	if p.IPv6 {
		family = unix.NFPROTO_IPV6
	}
	out := false
	var v bits
	switch key {
	case unix.NFT_META_OIFNAME:
		v = p.device(true)
	case unix.NFT_META_IIFNAME:
		v = p.device(false)
	case unix.NFT_META_OIF, unix.NFT_META_OIFTYPE, metaOutKind:
		out = true
		fallthrough
	case unix.NFT_META_IIF, unix.NFT_META_IIFTYPE, metaInKind:
		switch {
		case p.frame(), p.device(out).value == nil:
		case key == unix.NFT_META_IIFTYPE, key == unix.NFT_META_OIFTYPE:
			v = native16(unix.ARPHRD_ETHER)
		case key == metaInKind, key == metaOutKind:
			v = exactly(append([]byte("bridge"), make([]byte, unix.IFNAMSIZ-6)...))
		case p.Index != 0:
			v = exactly(binary.NativeEndian.AppendUint32(nil, uint32(p.Index)))
		}
	case unix.NFT_META_BRI_IIFNAME, unix.NFT_META_BRI_OIFNAME:
		if p.family == unix.NFPROTO_BRIDGE && p.hook == bridgeForward {
			v = p.bridge()
		}
	case unix.NFT_META_NFPROTO:
		switch p.family {
		case unix.NFPROTO_BRIDGE, unix.NFPROTO_NETDEV:
			family = p.family
		}
		v = exactly([]byte{family})
	case unix.NFT_META_PROTOCOL:
		v = exactly(binary.BigEndian.AppendUint16(nil, p.ethertype()))
	case unix.NFT_META_L4PROTO:
		v = exactly([]byte{p.protocol})
	case unix.NFT_META_PKTTYPE:
		if !p.frame() {
			v = exactly([]byte{packetHost})
		}
	case unix.NFT_META_MARK:
		v = p.mark
	}
	r.set(register(dreg), v)
	return nil
}

// Of linux/netfilter/nf_tables.h and linux/if_packet.h, which x/sys does not have.
const (
	metaInKind  = 26 // NFT_META_IIFKIND
	metaOutKind = 27 // NFT_META_OIFKIND
	packetHost  = 0  // PACKET_HOST: br_netfilter has it so (setup_pre_routing)
)

// ct loads what is known of the connection.
func (r registers) ct(e *nfnl.Expr, p *packet) {
	dreg := e.Find(unix.NFTA_CT_DREG)
	if dreg == nil {
		return // it sets
	}
	var v bits
	switch key := nfnl.Number(e.Find(unix.NFTA_CT_KEY)); {
	case key == unix.NFT_CT_STATE:
		v = p.state()
	case p.state().value == nil:
	case key == unix.NFT_CT_STATUS:
		v = p.status()
	case key == unix.NFT_CT_DIRECTION:
		v = exactly([]byte{0}) // IP_CT_DIR_ORIGINAL
		if p.moment == reply {
			v = exactly([]byte{1})
		}
	case key == unix.NFT_CT_PROTOCOL:
		v = exactly([]byte{p.protocol})
	}
	r.set(register(dreg), v)
}

// fib loads what the host's routes say: whether the way back to the source is by
// the bridge, and that the addresses are those of others.
func (r registers) fib(e *nfnl.Expr, p *packet) {
	const source, destination, mark, in, present = 1, 2, 4, 8, 0x20 // NFTA_FIB_F_*
	flags := nfnl.Number(e.Find(unix.NFTA_FIB_FLAGS))
	var v bits
	switch result := nfnl.Number(e.Find(unix.NFTA_FIB_RESULT)); {
	case p.frame():
	case result == unix.NFT_FIB_RESULT_ADDRTYPE && flags&^(mark|in) == source, result == unix.NFT_FIB_RESULT_ADDRTYPE && flags&^(mark|in) == destination && !p.untranslated():
		v = exactly(binary.NativeEndian.AppendUint32(nil, unix.RTN_UNICAST))
	case flags&^(mark|present) != source|in || p.returns() != yes:
	case flags&present != 0:
		v = exactly([]byte{1})
	case result == unix.NFT_FIB_RESULT_OIF:
		v = exactly(binary.NativeEndian.AppendUint32(nil, uint32(p.Index)))
	case result == unix.NFT_FIB_RESULT_OIFNAME:
		v = p.bridge()
	}
	r.set(register(e.Find(unix.NFTA_FIB_DREG)), v)
}

// payload loads a part of the packet.
func (r registers) payload(e *nfnl.Expr, p *packet) {
	dreg := e.Find(unix.NFTA_PAYLOAD_DREG)
	if dreg == nil {
		return // it writes
	}
	var v bits
	offset, size := int(nfnl.Number(e.Find(unix.NFTA_PAYLOAD_OFFSET))), int(nfnl.Number(e.Find(unix.NFTA_PAYLOAD_LEN)))
	switch base := nfnl.Number(e.Find(unix.NFTA_PAYLOAD_BASE)); {
	case size > 64:
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER:
		v = p.header().part(offset, size)
		if d := nfnl.Destination(p.IPv6); p.untranslated() && offset == int(d.Offset) && size == int(d.Length) {
			v.outside = p.Connected
		}
	case base == unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		v = p.transport().part(offset, size)
		v.port = offset == p.portAt() && size == 2 && !p.untranslated()
		v.client = offset == 2-p.portAt() && size == 2
	case base == unix.NFT_PAYLOAD_LL_HEADER && offset == 12 && size == 2:
		v = exactly(binary.BigEndian.AppendUint16(nil, p.ethertype()))
	}
	r.set(register(dreg), v)
}

// exthdr looks for a header between IPv6's and TCP's or UDP's: usual packets have
// none. The options of TCP, and of IPv4, are not known.
func (r registers) exthdr(e *nfnl.Expr) answer {
	const operation, flags, present = 6, 5, 1 // NFTA_EXTHDR_OP, NFTA_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT
	dreg := e.Find(unix.NFTA_EXTHDR_DREG)
	if nfnl.Number(e.Find(operation)) != 0 || dreg == nil { // NFT_EXTHDR_OP_IPV6
		clear(r)
		return perhaps
	}
	if nfnl.Number(e.Find(flags))&present == 0 {
		return no
	}
	r.set(register(dreg), exactly([]byte{0}))
	return yes
}

// cut notes that a rule asks whether a value is between two, where it is the port.
func (v *bits) cut(p *packet, low, high []byte) {
	if v.port && p.port == 0 && len(low) == 2 && len(high) == 2 {
		p.ports.add(int(binary.BigEndian.Uint16(low)), int(binary.BigEndian.Uint16(high)))
	}
}

func (r registers) bitwise(e *nfnl.Expr) {
	to, size := register(e.Find(unix.NFTA_BITWISE_DREG)), int(nfnl.Number(e.Find(unix.NFTA_BITWISE_LEN)))
	mask, xor := e.Find(unix.NFTA_BITWISE_MASK, unix.NFTA_DATA_VALUE), e.Find(unix.NFTA_BITWISE_XOR, unix.NFTA_DATA_VALUE)
	v := bits{}
	if len(mask) == size && len(xor) == size { // NFT_BITWISE_BOOL
		v = r.get(register(e.Find(unix.NFTA_BITWISE_SREG)), size).masked(mask, xor)
	}
	r.set(to, v)
}

func (r registers) compare(e *nfnl.Expr, p *packet) answer {
	with := e.Find(unix.NFTA_CMP_DATA, unix.NFTA_DATA_VALUE)
	v := r.get(register(e.Find(unix.NFTA_CMP_SREG)), len(with))
	switch op := nfnl.Number(e.Find(unix.NFTA_CMP_OP)); op {
	case unix.NFT_CMP_EQ, unix.NFT_CMP_NEQ:
		v.cut(p, with, with)
		if op == unix.NFT_CMP_NEQ {
			return v.equal(with).not()
		}
		return v.equal(with)
	case unix.NFT_CMP_LTE, unix.NFT_CMP_GT: // of what is in network byte order
		v.cut(p, make([]byte, len(with)), with)
		got := v.within(make([]byte, len(with)), with)
		if op == unix.NFT_CMP_GT {
			return got.not()
		}
		return got
	case unix.NFT_CMP_GTE, unix.NFT_CMP_LT:
		v.cut(p, with, bytes.Repeat([]byte{0xff}, len(with)))
		got := v.within(with, bytes.Repeat([]byte{0xff}, len(with)))
		if op == unix.NFT_CMP_LT {
			return got.not()
		}
		return got
	}
	return perhaps
}

// before is the number before one, in network byte order.
func before(key []byte) []byte {
	key = bytes.Clone(key)
	for i := len(key) - 1; i >= 0; i-- {
		if key[i]--; key[i] != 0xff {
			break
		}
	}
	return key
}
