package netfilter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// set is a set or a map of nf_tables.
type set struct {
	elements  []nfnl.Element // in order; nil where there are too many, or they change
	intervals bool
	fields    []int // sizes of the parts of a key; none for one of one part
	asks      bool  // the kernel is to be asked for each
}

// maxElements is how many elements of a set are kept.
const maxElements = 1024

// set reads a set, or returns nil where nothing can be told of it: it could not be
// read, or packets put into it what they will.
func (t *nftTable) set(ctx context.Context, name string) *set {
	if s, known := t.sets[name]; known {
		return s
	}
	s := t.readSet(ctx, name)
	t.sets[name] = s
	return s
}

func (t *nftTable) readSet(ctx context.Context, name string) *set {
	const byRules, intervals = 0x20, 0x4 // NFT_SET_EVAL, NFT_SET_INTERVAL
	const concat, length = 2, 1          // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	about, err := t.conn.Get(t.Set(name))
	flags := nfnl.Number(nfnl.Find(about, unix.NFTA_SET_FLAGS))
	if err != nil || flags&byRules != 0 {
		return nil
	}
	s := &set{intervals: flags&intervals != 0, fields: nfnl.Numbers(nfnl.Find(about, unix.NFTA_SET_DESC, concat), length)}
	over := false
	err = t.conn.List(ctx, t.Elements(name), func() { s.elements, over = nil, false }, func(in []byte) {
		for e := range nfnl.Elements(in) {
			if over = over || len(s.elements) >= maxElements; !over {
				s.elements = append(s.elements, nfnl.Element{
					Key: bytes.Clone(e.Key), KeyEnd: bytes.Clone(e.KeyEnd), Verdict: bytes.Clone(e.Verdict), End: e.End, CatchAll: e.CatchAll,
				})
			}
		}
	})
	switch {
	case err != nil, over && s.intervals:
		return nil
	case over:
		s.elements, s.asks = nil, true
	}
	slices.SortFunc(s.elements, func(a, b nfnl.Element) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), endFirst(a, b))
	})
	return s
}

// endFirst puts the end of an interval before the next one.
func endFirst(a, b nfnl.Element) int {
	switch {
	case a.End == b.End:
		return 0
	case a.End:
		return -1
	}
	return 1
}

// hit is an element that a packet may have.
type hit struct {
	answer  answer // never no
	verdict []byte // of a map
}

// find returns the elements that what is looked up may be; known is false where
// nothing can be told of the set.
func (t *nftTable) find(ctx context.Context, e *nfnl.Expr, regs registers, p *packet) (hits []hit, known bool) {
	name := nfnl.Text(e.Find(unix.NFTA_LOOKUP_SET))
	s := t.set(ctx, name)
	if s == nil {
		return nil, false
	}
	from := register(e.Find(unix.NFTA_LOOKUP_SREG))
	if s.asks {
		return t.ask(name, regs[from])
	}
	var rest *nfnl.Element
	some := no
	for i := range s.elements {
		if s.elements[i].CatchAll {
			rest = &s.elements[i]
			continue
		}
		if got := s.is(i, regs.get(from, len(s.elements[i].Key)), p); got != no {
			hits = append(hits, hit{got, s.elements[i].Verdict})
			some = some.or(got)
		}
	}
	if rest != nil && some != yes {
		hits = append(hits, hit{some.not(), rest.Verdict})
	}
	return hits, true
}

// ask has the kernel look for one of many.
func (t *nftTable) ask(name string, v bits) (hits []hit, known bool) {
	if len(v.value) == 0 || !bytes.Equal(v.known, bytes.Repeat([]byte{0xff}, len(v.known))) {
		return nil, false
	}
	in, err := t.conn.Get(t.Element(name, v.value))
	if errors.Is(err, unix.ENOENT) {
		return nil, true
	}
	if err != nil {
		return nil, false
	}
	for one := range nfnl.Elements(in) {
		hits = append(hits, hit{yes, bytes.Clone(one.Verdict)})
	}
	return hits, true
}

// is says whether a value is the i-th element, or in the interval that begins with it.
func (s *set) is(i int, v bits, p *packet) answer {
	e := &s.elements[i]
	switch {
	case e.End:
		return no
	case len(e.KeyEnd) > 0:
		return s.inFields(e, v)
	case !s.intervals:
		v.cut(p, e.Key, e.Key)
		return v.equal(e.Key)
	case len(s.fields) > 1:
		return v.equal(e.Key)
	}
	last := bytes.Repeat([]byte{0xff}, len(e.Key))
	if i+1 < len(s.elements) && !s.elements[i+1].CatchAll {
		last = before(s.elements[i+1].Key)
	}
	v.cut(p, e.Key, last)
	return v.within(e.Key, last)
}

// inFields compares each part of a key with its interval.
func (s *set) inFields(e *nfnl.Element, v bits) answer {
	if len(s.fields) < 2 {
		return perhaps
	}
	got, at := yes, 0
	for _, size := range s.fields {
		if at+size > min(len(e.Key), len(e.KeyEnd)) {
			return perhaps
		}
		got = got.and(v.part(at, size).within(e.Key[at:at+size], e.KeyEnd[at:at+size]))
		at += (size + 3) &^ 3 // each has registers of its own
	}
	return got
}

// ipset says whether an address of the packet is in a set of ip_set, of which
// info is a struct xt_set_info: an index, how many parts a key has, and flags.
func ipset(info []byte, p *packet) answer {
	const inverted, source = 1, 2 // IPSET_INV_MATCH, IPSET_DIM_ONE_SRC
	if len(info) < 4 || info[2] != 1 {
		return perhaps // of several parts
	}
	address := p.address(info[3]&source == 0)
	if len(address.value) == 0 || address.equal(address.value) != yes {
		return perhaps
	}
	c, err := nfnl.Dial()
	if err != nil {
		return perhaps
	}
	defer c.Close()
	name, err := c.Get(nfnl.SetByIndex(binary.NativeEndian.Uint16(info)))
	if err != nil {
		return perhaps
	}
	got := perhaps
	switch err := c.Commanded(nfnl.TestInSet(nfnl.Text(nfnl.Find(name, nfnl.SetName)), address.value)); {
	case err == nil:
		got = yes
	case errors.Is(err, nfnl.ErrNotInSet):
		got = no
	}
	if info[3]&inverted != 0 {
		return got.not()
	}
	return got
}
