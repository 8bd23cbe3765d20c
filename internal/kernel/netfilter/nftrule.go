package netfilter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// nftTable is a table of nf_tables, read chain by chain, each once.
type nftTable struct {
	nfnl.Table
	conn   *nfnl.Conn
	chains map[string][]chainRule
	sets   map[string][]nfnl.Element // nil: too large, or not to be read
}

// maxElements is how many elements of a set are compared.
const maxElements = 256

func (t *nftTable) rules(ctx context.Context, chain string) ([]chainRule, error) {
	list, known := t.chains[chain]
	if known {
		return list, nil
	}
	over := false
	err := t.conn.List(ctx, t.Rules(chain), func() { list, over = nil, false }, func(in []byte) {
		if len(list) > maxRules {
			over = true
			return
		}
		list = append(list, nftRule{t, bytes.Clone(in)})
	})
	if over {
		err = errTooMany
	}
	if err == nil {
		t.chains[chain] = list
	}
	return list, err
}

// elements are those of a set, if it is a small one. Of one with intervals they
// are in order, and each that begins one is followed by the one that ends it.
func (t *nftTable) elements(ctx context.Context, set string) []nfnl.Element {
	list, known := t.sets[set]
	if known {
		return list
	}
	over := false
	err := t.conn.List(ctx, t.Elements(set), func() { list, over = nil, false }, func(in []byte) {
		for e := range nfnl.Elements(in) {
			if len(list) >= maxElements || len(e.KeyEnd) > 0 {
				over = true
				return
			}
			list = append(list, nfnl.Element{Key: bytes.Clone(e.Key), Verdict: bytes.Clone(e.Verdict), End: e.End})
		}
	})
	if over || err != nil {
		list = nil
	}
	slices.SortFunc(list, func(a, b nfnl.Element) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), endFirst(a, b))
	})
	t.sets[set] = list
	return list
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

// nftRule is a rule with its table, in which its sets are.
type nftRule struct {
	*nftTable
	raw []byte
}

func (r nftRule) meet(ctx context.Context, p *packet) []step {
	s, regs := step{match: yes}, registers{}
	for e := range nfnl.Expressions(r.raw) {
		got := yes
		switch string(e.Name) {
		case "counter", "log", "objref", "last", "notrack", "dup":
		case "meta":
			s.marks = regs.meta(&e, p) || s.marks
		case "ct":
			if dreg := e.Find(unix.NFTA_CT_DREG); dreg != nil {
				v := bits{}
				if nfnl.Number(e.Find(unix.NFTA_CT_KEY)) == unix.NFT_CT_STATE {
					v = exactly(binary.NativeEndian.AppendUint32(nil, p.state))
				}
				regs.set(register(dreg), v)
			}
		case "payload":
			regs.payload(&e, p)
		case "immediate":
			if v := e.Verdict(); v != nil {
				return s.decided(v)
			}
			regs.set(register(e.Find(unix.NFTA_IMMEDIATE_DREG)), exactly(e.Find(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VALUE)))
		case "bitwise":
			regs.bitwise(&e)
		case "cmp":
			got = regs.compare(&e)
		case "range":
			first, last := e.Find(unix.NFTA_RANGE_FROM_DATA, unix.NFTA_DATA_VALUE), e.Find(unix.NFTA_RANGE_TO_DATA, unix.NFTA_DATA_VALUE)
			got = regs.get(register(e.Find(unix.NFTA_RANGE_SREG)), len(first)).within(first, last)
			if nfnl.Number(e.Find(unix.NFTA_RANGE_OP)) == unix.NFT_RANGE_NEQ {
				got = got.not()
			}
		case "lookup":
			if e.Find(unix.NFTA_LOOKUP_DREG) != nil {
				if nfnl.Number(e.Find(unix.NFTA_LOOKUP_DREG)) == unix.NFT_REG_VERDICT {
					return r.verdicts(ctx, &e, regs, s)
				}
				clear(regs)
				break
			}
			got = r.among(ctx, &e, regs)
		case "match":
			name, revision, info := e.Match()
			got = xtMatch(name, revision, info, p)
		case "target":
			name, _, _ := e.Target()
			t := xtTarget(name)
			t.match, t.marks = s.match, t.marks || s.marks
			return []step{t}
		case "reject":
			s.kind = drops
			return []step{s}
		case "queue":
			s.kind = hands
			return []step{s}
		default: // limits, and what is looked up elsewhere
			got = perhaps
			clear(regs)
		}
		if s.match = s.match.and(got); s.match == no {
			return nil
		}
	}
	return []step{s}
}

// decided is s with a verdict.
func (s step) decided(verdict []byte) []step {
	code, chain, ok := nfnl.Verdict(verdict)
	s.chain = chain
	switch {
	case !ok:
		s.kind = hands
	case code == unix.NFT_JUMP:
		s.kind = jumps
	case code == unix.NFT_GOTO:
		s.kind = goes
	case code == unix.NFT_RETURN:
		s.kind = returns
	case code == unix.NFT_CONTINUE:
		s.kind = goesOn
	case code == 1: // NF_ACCEPT
		s.kind = accepts
	case code == 0: // NF_DROP
		s.kind = drops
	default:
		s.kind = hands
	}
	return []step{s}
}

// among says whether what is looked up is in a set.
func (r nftRule) among(ctx context.Context, e *nfnl.Expr, regs registers) answer {
	got, elements := no, r.elements(ctx, nfnl.Text(e.Find(unix.NFTA_LOOKUP_SET)))
	if elements == nil {
		return perhaps
	}
	for i := range elements {
		switch regs.is(e, elements, i) {
		case yes:
			got = yes
		case perhaps:
			if got == no {
				got = perhaps
			}
		case no:
		}
	}
	if nfnl.Number(e.Find(unix.NFTA_LOOKUP_FLAGS))&1 != 0 { // NFT_LOOKUP_F_INV
		return got.not()
	}
	return got
}

// verdicts are those of a map.
func (r nftRule) verdicts(ctx context.Context, e *nfnl.Expr, regs registers, s step) []step {
	elements := r.elements(ctx, nfnl.Text(e.Find(unix.NFTA_LOOKUP_SET)))
	if elements == nil {
		s.match, s.kind = perhaps, hands
		return []step{s}
	}
	var list []step
	for i := range elements {
		got := s.match.and(regs.is(e, elements, i))
		if got != no {
			one := s
			one.match = got
			list = append(list, one.decided(elements[i].Verdict)...)
		}
	}
	return list
}
