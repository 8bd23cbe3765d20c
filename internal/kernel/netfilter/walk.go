package netfilter

import (
	"context"
	"errors"
	"fmt"
)

// step is what a rule does to a packet.
type step struct {
	match answer // never no
	kind  kind
	chain string // of jumps and goes
	mark  *bits  // what the packet's mark is from then on; nil: as before
	hides bool   // it may keep the packet from conntrack
}

// kind is what a rule does.
type kind uint8

const (
	goesOn kind = iota // counts, logs, marks
	accepts
	drops
	returns
	jumps
	goes  // as jumps, and does not come back
	hands // to a program, or to what is not known here
)

// chainRule is one of a chain.
type chainRule interface {
	// meet returns what the rule does to a packet: nothing if it does not match,
	// and several things if that depends on what is not known.
	meet(ctx context.Context, p *packet) []step
}

// table gives the rules of its chains. It is asked for those of one as often as a
// packet comes by.
type table interface {
	rules(ctx context.Context, chain string) ([]chainRule, error)
}

// ends are the ways in which a packet may leave a chain, together.
type ends uint8

const (
	mayPass ends = 1 << iota // it is accepted
	mayDrop                  // a rule drops it
	mayEnd                   // no rule decides
)

// Bounds on what is met. FORWARD of a host has some hundred rules; beyond these
// it is not known what becomes of a packet.
const (
	maxRules = 10000
	maxDepth = 16 // the kernel's own: NFT_JUMP_STACK_SIZE
)

var (
	errTooMany = fmt.Errorf("it has more than %d rules", maxRules)
	errTooDeep = errors.New("its chains jump too deep")
)

// walk follows one packet.
type walk struct {
	table
	p    *packet
	left int // rules that may still be met

	dropped Spot // the first rule that drops it, or may
	may     bool // of dropped: it only may
	unsure  int  // jumps that it may not have taken to where it is
	depends Spot // the first that decides by what is not known
}

// through says how the packet may leave a chain and those that it jumps to.
func (w *walk) through(ctx context.Context, chain string, depth int) (out ends, err error) {
	if depth > maxDepth {
		return 0, errTooDeep
	}
	rules, err := w.rules(ctx, chain)
	if err != nil {
		return 0, err
	}
	for i, r := range rules {
		if w.left--; w.left < 0 {
			return 0, errTooMany
		}
		steps := r.meet(ctx, w.p)
		if len(steps) == 0 {
			continue
		}
		certain := len(steps) == 1 && steps[0].match == yes
		place := Spot{Chain: chain, Number: i + 1}
		on, mark, after := !certain, w.p.mark, w.p.mark
		for j := range steps {
			w.p.mark = mark
			if !certain {
				w.unsure++
			}
			here, next, err := w.take(ctx, &steps[j], place, depth)
			if !certain {
				w.unsure--
			}
			if err != nil {
				return 0, err
			}
			if after = after.or(w.p.mark); certain {
				after = w.p.mark
			}
			if !certain && here != 0 && w.depends.Chain == "" {
				w.depends = place
			}
			out, on = out|here, on || next
		}
		w.p.mark = after
		if !on {
			return out, nil
		}
	}
	return out | mayEnd, nil
}

// take says how the packet may leave the chain by a rule that it meets, and
// whether it may go on to the next.
func (w *walk) take(ctx context.Context, s *step, place Spot, depth int) (out ends, next bool, err error) {
	if s.mark != nil {
		w.p.mark, w.p.marked = *s.mark, true
	}
	w.p.strange = w.p.strange || s.hides
	switch s.kind {
	case goesOn:
		return 0, true, nil
	case accepts:
		return mayPass, false, nil
	case drops:
		if w.dropped.Chain == "" || w.may && w.unsure == 0 {
			w.dropped, w.may = place, w.unsure > 0
		}
		return mayDrop, false, nil
	case returns:
		return mayEnd, false, nil
	case jumps:
		out, err = w.through(ctx, s.chain, depth+1)
		return out &^ mayEnd, out&mayEnd != 0, err
	case goes:
		out, err = w.through(ctx, s.chain, depth+1)
		return out, false, err
	case hands:
	}
	if w.depends.Chain == "" {
		w.depends = place
	}
	return mayPass | mayDrop, true, nil
}

// Spot is a rule, or the policy of a chain.
type Spot struct {
	Table  string
	Chain  string
	Number int  // from 1 on; 0: the policy
	Legacy bool // in a table of iptables-legacy, and not of nf_tables
}

// String is for people: "rule 3 of KUBE-FORWARD".
func (s Spot) String() string {
	if s.Number == 0 {
		return "the policy of " + s.Chain
	}
	return fmt.Sprintf("rule %d of %s", s.Number, s.Chain)
}
