package netfilter

import (
	"bytes"
	"context"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// nftTable is a table of nf_tables, read chain by chain, each once.
type nftTable struct {
	nfnl.Table
	conn   *nfnl.Conn
	chains map[string][]chainRule
	sets   map[string]*set // nil: nothing can be told of it
}

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

// nftRule is a rule with its table, in which its sets are.
type nftRule struct {
	*nftTable
	raw []byte
}

func (r nftRule) meet(ctx context.Context, p *packet) []step {
	s, regs := step{match: yes}, registers{}
	marked := no // whether it has set the mark
	for e := range nfnl.Expressions(r.raw) {
		got := yes
		switch string(e.Name) {
		case "counter", "log", "last", "dup", "flow_offload":
		case "notrack":
			s.hides = true
		case "objref":
			const counter, quota, limit = 1, 2, 4 // NFT_OBJECT_*
			switch nfnl.Number(e.Find(unix.NFTA_OBJREF_IMM_TYPE)) {
			case 0, quota, limit: // by a map, or while there is something left
				got = perhaps
			}
		case "meta":
			if mark := regs.meta(&e, p); mark != nil {
				s.mark, marked = mark, s.match
			}
		case "ct":
			regs.ct(&e, p)
		case "fib":
			regs.fib(&e, p)
		case "payload":
			regs.payload(&e, p)
		case "exthdr":
			got = regs.exthdr(&e)
		case "immediate":
			if v := e.Verdict(); v != nil {
				return s.decided(v)
			}
			regs.set(register(e.Find(unix.NFTA_IMMEDIATE_DREG)), exactly(e.Find(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VALUE)))
		case "bitwise":
			regs.bitwise(&e)
		case "cmp":
			got = regs.compare(&e, p)
		case "range":
			first, last := e.Find(unix.NFTA_RANGE_FROM_DATA, unix.NFTA_DATA_VALUE), e.Find(unix.NFTA_RANGE_TO_DATA, unix.NFTA_DATA_VALUE)
			v := regs.get(register(e.Find(unix.NFTA_RANGE_SREG)), len(first))
			v.cut(p, first, last)
			got = v.within(first, last)
			if nfnl.Number(e.Find(unix.NFTA_RANGE_OP)) == unix.NFT_RANGE_NEQ {
				got = got.not()
			}
		case "lookup":
			if e.Find(unix.NFTA_LOOKUP_DREG) != nil {
				if nfnl.Number(e.Find(unix.NFTA_LOOKUP_DREG)) == unix.NFT_REG_VERDICT {
					return r.verdicts(ctx, &e, regs, p, s)
				}
				got = perhaps // what is not in the map ends the rule
				clear(regs)
				break
			}
			got = r.among(ctx, &e, regs, p)
		case "match":
			name, revision, info := e.Match()
			got = xtMatch(name, revision, info, p)
		case "target":
			name, revision, info := e.Target()
			t := xtTarget(name, revision, info, p)
			t.match = s.match
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
			if marked != no { // before it came to what does not match
				return []step{{match: marked, mark: s.mark}}
			}
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
func (r nftRule) among(ctx context.Context, e *nfnl.Expr, regs registers, p *packet) answer {
	hits, known := r.find(ctx, e, regs, p)
	if !known {
		return perhaps
	}
	got := no
	for _, h := range hits {
		got = got.or(h.answer)
	}
	if nfnl.Number(e.Find(unix.NFTA_LOOKUP_FLAGS))&1 != 0 { // NFT_LOOKUP_F_INV
		return got.not()
	}
	return got
}

// verdicts are those of a map.
func (r nftRule) verdicts(ctx context.Context, e *nfnl.Expr, regs registers, p *packet, s step) []step {
	hits, known := r.find(ctx, e, regs, p)
	if !known {
		s.match, s.kind = perhaps, hands
		return []step{s}
	}
	var list []step
	for _, h := range hits {
		one := s
		one.match = s.match.and(h.answer)
		list = append(list, one.decided(h.verdict)...)
	}
	return list
}
