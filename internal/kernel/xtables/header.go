package xtables

import (
	"bytes"
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Header is what a rule asks of any packet: a struct ipt_ip or ip6t_ip6. An
// address or a name counts as far as its mask has ones.
type Header struct {
	Source, Destination         []byte
	SourceMask, DestinationMask []byte
	In, Out, InMask, OutMask    []byte // names of devices
	Protocol                    uint16 // 0: any
	More                        bool   // it asks for fragments, or a type of service
	Inverted                    uint8  // Invert*
}

// What a rule asks for the opposite of: IPT_INV_* and IP6T_INV_*, which are the
// same.
const (
	InvertIn          = 1 << 0
	InvertOut         = 1 << 1
	InvertSource      = 1 << 3
	InvertDestination = 1 << 4
	InvertProtocol    = 1 << 6
)

// header reads what an entry begins with.
func (t *Table) header(b []byte) (h Header, jumpsForGood bool) {
	const name = unix.IFNAMSIZ
	size := 4
	if t.layout == ipv6Entry {
		size = 16
	}
	fields := []struct {
		to   *[]byte
		size int
	}{
		{&h.Source, size},
		{&h.Destination, size},
		{&h.SourceMask, size},
		{&h.DestinationMask, size},
		{&h.In, name},
		{&h.Out, name},
		{&h.InMask, name},
		{&h.OutMask, name},
	}
	for _, f := range fields {
		*f.to, b = bytes.Clone(b[:f.size]), b[f.size:]
	}
	h.Protocol = binary.NativeEndian.Uint16(b)
	if size == 16 {
		const service, forGood = 2, 4 // IP6T_F_TOS, IP6T_F_GOTO
		flags := b[3]                 // behind the type of service
		h.Inverted = b[4]
		h.More, jumpsForGood = flags&service != 0, flags&forGood != 0
	} else {
		const fragment, forGood = 1, 2 // IPT_F_FRAG, IPT_F_GOTO
		flags := b[2]
		h.Inverted = b[3]
		h.More, jumpsForGood = flags&fragment != 0, flags&forGood != 0
	}
	return h, jumpsForGood
}

// Match is one of x_tables', with what it is told in the layout of
// linux/netfilter.
type Match struct {
	Name     string
	Revision uint8
	Info     []byte
}

// Matches are those of the rule, in order.
func (r *Rule) Matches() iter.Seq[Match] {
	return func(yield func(Match) bool) {
		for b := r.Asks; len(b) >= targetHeader; {
			size := int(binary.NativeEndian.Uint16(b))
			if size < targetHeader || size > len(b) {
				return
			}
			m := Match{unix.ByteSliceToString(b[targetName : targetHeader-1]), b[targetHeader-1], b[targetHeader:size]}
			if !yield(m) {
				return
			}
			b = b[size:]
		}
	}
}

// Entries is how many entries the table has: its rules, and the heads and ends of
// its chains.
func (t *Table) Entries() int { return t.info.at(11) }
