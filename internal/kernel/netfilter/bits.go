package netfilter

import "bytes"

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

func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

// bits are a value of which some bits are known: those that are 1 in known,
// which is as long. The zero value is one of which nothing is known.
type bits struct{ value, known []byte }

// exactly is a value that is known.
func exactly(v []byte) bits { return bits{v, bytes.Repeat([]byte{0xff}, len(v))} }

// beginning is a value of which so many leading bits are known.
func beginning(v []byte, n int) bits {
	b := bits{bytes.Clone(v), make([]byte, len(v))}
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
	p := bits{make([]byte, n), make([]byte, n)}
	if from < len(b.value) {
		copy(p.value, b.value[from:])
		copy(p.known, b.known[from:])
	}
	return p
}

// masked is (b & mask) ^ xor, as long as the mask.
func (b bits) masked(mask, xor []byte) bits {
	b = b.part(0, len(mask))
	for i, m := range mask {
		b.value[i] &= m
		b.known[i] |= ^m
		if i < len(xor) {
			b.value[i] ^= xor[i]
		}
	}
	return b
}

// equal compares the first bytes of b with v.
func (b bits) equal(v []byte) answer {
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
	switch {
	case bytes.Compare(high.value, first) < 0 || bytes.Compare(low.value, last) > 0:
		return no
	case bytes.Compare(low.value, first) >= 0 && bytes.Compare(high.value, last) <= 0:
		return yes
	}
	return perhaps
}
