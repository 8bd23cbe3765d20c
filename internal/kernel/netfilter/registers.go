package netfilter

import (
	"bytes"
	"encoding/binary"
	"slices"

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
	v := bits{make([]byte, size), make([]byte, size)}
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

// meta loads what is known of the packet, and reports whether it sets the mark
// instead.
func (r registers) meta(e *nfnl.Expr, p *packet) (marks bool) {
	key, dreg := nfnl.Number(e.Find(unix.NFTA_META_KEY)), e.Find(unix.NFTA_META_DREG)
	if dreg == nil {
		return key == unix.NFT_META_MARK
	}
	native16 := func(n uint16) bits { return exactly(binary.NativeEndian.AppendUint16(nil, n)) }
	family := byte(unix.NFPROTO_IPV4)
	if p.IPv6 {
		family = unix.NFPROTO_IPV6
	}
	if p.frame {
		family = unix.NFPROTO_BRIDGE
	}
	var v bits
	switch key {
	case unix.NFT_META_IIFNAME, unix.NFT_META_OIFNAME:
		v = p.device()
	case unix.NFT_META_IIF, unix.NFT_META_OIF:
		if !p.frame && p.Index != 0 {
			v = exactly(binary.NativeEndian.AppendUint32(nil, uint32(p.Index)))
		}
	case unix.NFT_META_IIFTYPE, unix.NFT_META_OIFTYPE:
		v = native16(unix.ARPHRD_ETHER)
	case unix.NFT_META_BRI_IIFNAME, unix.NFT_META_BRI_OIFNAME:
		v = p.bridge()
	case unix.NFT_META_NFPROTO:
		v = exactly([]byte{family})
	case unix.NFT_META_PROTOCOL:
		v = exactly(binary.BigEndian.AppendUint16(nil, p.ethertype()))
	case unix.NFT_META_L4PROTO:
		v = exactly([]byte{p.protocol})
	case unix.NFT_META_MARK:
		v = p.mark
	}
	r.set(register(dreg), v)
	return false
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
	case base == unix.NFT_PAYLOAD_LL_HEADER && offset == 12 && size == 2:
		v = exactly(binary.BigEndian.AppendUint16(nil, p.ethertype()))
	}
	r.set(register(dreg), v)
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

func (r registers) compare(e *nfnl.Expr) answer {
	with := e.Find(unix.NFTA_CMP_DATA, unix.NFTA_DATA_VALUE)
	v := r.get(register(e.Find(unix.NFTA_CMP_SREG)), len(with))
	switch op := nfnl.Number(e.Find(unix.NFTA_CMP_OP)); op {
	case unix.NFT_CMP_EQ:
		return v.equal(with)
	case unix.NFT_CMP_NEQ:
		return v.equal(with).not()
	case unix.NFT_CMP_LTE, unix.NFT_CMP_GT: // of what is in network byte order
		got := v.within(make([]byte, len(with)), with)
		if op == unix.NFT_CMP_GT {
			return got.not()
		}
		return got
	case unix.NFT_CMP_GTE, unix.NFT_CMP_LT:
		got := v.within(with, bytes.Repeat([]byte{0xff}, len(with)))
		if op == unix.NFT_CMP_LT {
			return got.not()
		}
		return got
	}
	return perhaps
}

// is says whether what is looked up is the i-th of elements, or in the interval
// that begins with it.
func (r registers) is(e *nfnl.Expr, elements []nfnl.Element, i int) answer {
	key := elements[i].Key
	v := r.get(register(e.Find(unix.NFTA_LOOKUP_SREG)), len(key))
	intervals := slices.ContainsFunc(elements, func(e nfnl.Element) bool { return e.End })
	switch {
	case elements[i].End:
		return no
	case !intervals:
		return v.equal(key)
	}
	last := bytes.Repeat([]byte{0xff}, len(key))
	if i+1 < len(elements) {
		last = before(elements[i+1].Key)
	}
	return v.within(key, last)
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
