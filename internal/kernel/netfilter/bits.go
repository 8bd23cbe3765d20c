package netfilter

import (
	"bytes"
	"net/netip"
	"slices"
)

// answer is what a rule says to a packet of which not everything is known. The
// zero value is that it depends on what is not.
type answer uint8

const (
	perhaps answer = iota
	no
	yes
)

func (a answer) not() answer {
	switch a {
	case yes:
		return no
	case no:
		return yes
	case perhaps:
	}
	return perhaps
}

// and is what two conditions say together.
func (a answer) and(b answer) answer {
	switch {
	case a == no || b == no:
		return no
	case a == yes && b == yes:
		return yes
	}
	return perhaps
}

// or is what one of two conditions says.
func (a answer) or(b answer) answer { return a.not().and(b.not()).not() }

func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

// bits are a value of which some bits are known: those that are 1 in known,
// which is as long. The zero value is one of which nothing is known. Nobody
// changes the bytes of one that another has.
type bits struct {
	value, known []byte

	port   bool // it is the port that a connection is for
	client bool // it is the port of who began the connection

	outside []netip.Prefix // it is an address in none of them
}

// ephemeral is the first port that the kernel gives to who begins a connection:
// the lower end of net.ipv4.ip_local_port_range, unless a pod has another.
const ephemeral = 32768

// exactly is a value that is known.
func exactly(v []byte) bits { return bits{value: v, known: bytes.Repeat([]byte{0xff}, len(v))} }

// beginning is a value of which so many leading bits are known.
func beginning(v []byte, n int) bits {
	b := bits{value: bytes.Clone(v), known: make([]byte, len(v))}
	for i := range b.known {
		switch {
		case n >= 8*(i+1):
			b.known[i] = 0xff
		case n > 8*i:
			b.known[i] = 0xff << (8 - (n - 8*i))
		}
		b.value[i] &= b.known[i]
	}
	return b
}

// part is n bytes of b, of which nothing is known beyond its end.
func (b bits) part(from, n int) bits {
	p := bits{value: make([]byte, n), known: make([]byte, n)}
	if from < len(b.value) {
		copy(p.value, b.value[from:])
		copy(p.known, b.known[from:])
	}
	return p
}

// masked is (b & mask) ^ xor, as long as the mask.
func (b bits) masked(mask, xor []byte) bits {
	outside := b.outside
	b = b.part(0, len(mask))
	for i, m := range mask {
		b.value[i] &= m
		b.known[i] |= ^m
		if i < len(xor) {
			b.value[i] ^= xor[i]
		}
	}
	if whole(mask) && len(xor) == 0 {
		b.outside = outside
	}
	return b
}

// whole reports whether a mask leaves everything as it is.
func whole(mask []byte) bool {
	return !slices.ContainsFunc(mask, func(m byte) bool { return m != 0xff })
}

// forget is b with those bits not known.
func (b bits) forget(mask []byte) bits {
	b = b.part(0, max(len(b.value), len(mask)))
	for i, m := range mask {
		b.known[i] &^= m
		b.value[i] &^= m
	}
	return b
}

// or is what is known of a value that is one of two.
func (b bits) or(other bits) bits {
	n := max(len(b.value), len(other.value))
	x, y := b.part(0, n), other.part(0, n)
	for i := range x.value {
		x.known[i] &= y.known[i] &^ (x.value[i] ^ y.value[i])
		x.value[i] &= x.known[i]
	}
	return x
}

// equal compares the first bytes of b with v.
func (b bits) equal(v []byte) answer {
	if b.client && len(v) == 2 {
		if v[0] < ephemeral>>8 {
			return no
		}
		return perhaps
	}
	if a, ok := netip.AddrFromSlice(v); ok && slices.ContainsFunc(b.outside, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return no
	}
	all := yes
	b = b.part(0, len(v))
	for i := range v {
		if (b.value[i]^v[i])&b.known[i] != 0 {
			return no
		}
		if b.known[i] != 0xff {
			all = perhaps
		}
	}
	return all
}

// within says whether the first bytes of b are between two values, as numbers in
// network byte order.
func (b bits) within(first, last []byte) answer {
	low, high := b.part(0, len(first)), b.part(0, len(first))
	for i := range low.value {
		low.value[i] &= low.known[i]
		high.value[i] = low.value[i] | ^low.known[i]
	}
	if b.client && len(first) == 2 {
		low.value = []byte{ephemeral >> 8, 0}
	}
	switch {
	case bytes.Compare(high.value, first) < 0 || bytes.Compare(low.value, last) > 0:
		return no
	case bytes.Compare(low.value, first) >= 0 && bytes.Compare(high.value, last) <= 0:
		return yes
	}
	return perhaps
}
