package netfilter

import (
	"bytes"
	"testing"
)

// FuzzBits: what is said of a value of which some bits are known is so of each
// that has them.
func FuzzBits(f *testing.F) {
	f.Add([]byte{10, 200, 2, 0}, []byte{255, 255, 255, 0}, []byte{0, 0, 0, 41}, []byte{10, 200, 2, 41}, []byte{255, 255, 0, 0})
	f.Add([]byte{1}, []byte{0}, []byte{7}, []byte{6}, []byte{0xf0})
	f.Fuzz(func(t *testing.T, value, known, rest, other, mask []byte) {
		n := min(len(value), len(known), len(rest), len(other), len(mask))
		if n == 0 {
			return
		}
		value, known, rest, other, mask = value[:n], known[:n], rest[:n], other[:n], mask[:n]
		one := make([]byte, n) // that has the known bits
		masked := make([]byte, n)
		for i := range one {
			one[i] = value[i]&known[i] | rest[i]&^known[i]
			masked[i] = one[i] & mask[i]
		}
		b := bits{value: bytes.Clone(value), known: known}
		holds := func(what string, got answer, is bool) {
			if got == yes && !is || got == no && is {
				t.Errorf("%s: %d, and it is %t", what, got, is)
			}
		}
		holds("equal", b.equal(other), bytes.Equal(one, other))
		holds("masked", b.masked(mask, nil).equal(other), bytes.Equal(masked, other))
		first, last := other, rest
		if bytes.Compare(first, last) > 0 {
			first, last = last, first
		}
		holds("within", b.within(first, last), bytes.Compare(one, first) >= 0 && bytes.Compare(one, last) <= 0)
		if all := exactly(one); all.equal(one) != yes || all.within(one, one) != yes {
			t.Error("what is known is not what it is")
		}
	})
}

func TestBeginning(t *testing.T) {
	b := beginning([]byte{10, 200, 2, 41}, 20)
	for _, tt := range []struct {
		with []byte
		want answer
	}{{[]byte{10, 200, 9, 9}, perhaps}, {[]byte{10, 200, 15, 9}, perhaps}, {[]byte{10, 200, 16, 9}, no}, {[]byte{10, 201, 0, 0}, no}, {[]byte{10, 200}, yes}} {
		if got := b.equal(tt.with); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.with, got, tt.want)
		}
	}
	if !bytes.Equal(b.part(1, 2).known, []byte{0xff, 0xf0}) || b.part(3, 4).known[3] != 0 {
		t.Errorf("parts: %v, %v", b.part(1, 2), b.part(3, 4))
	}
}
