package netfilter

import (
	"bytes"
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// legacyRules is a table of iptables-legacy.
type legacyRules map[string][]chainRule

func (t legacyRules) rules(_ context.Context, chain string) ([]chainRule, error) {
	return t[chain], nil
}

// readLegacy reads a table that is there. Its policies, by the built-in chains,
// are the last rules of these, and not in it.
func readLegacy(ctx context.Context, ipv6 bool, name string) (t legacyRules, policies map[string]string, err error) {
	_, err = xtables.Of(ipv6).Read(ctx, name, xtables.Info{}, func(x *xtables.Table) (err error) {
		if x.Entries() > maxRules {
			return errTooMany
		}
		list, err := x.Rules()
		if err != nil {
			return err
		}
		t, policies = legacyRules{}, make(map[string]string)
		for i := range list {
			t[list[i].Chain] = append(t[list[i].Chain], legacyRule{list[i]})
		}
		for _, chain := range []string{"PREROUTING", "FORWARD", "POSTROUTING"} {
			if n := len(t[chain]); n > 0 {
				if policies[chain], _, err = x.Builtin(chain); err != nil {
					return err
				}
				t[chain] = t[chain][:n-1]
			}
		}
		return nil
	})
	return t, policies, err
}

type legacyRule struct{ xtables.Rule }

func (r legacyRule) meet(_ context.Context, p *packet) []step {
	match := r.about(p)
	for m := range r.Matches() {
		match = match.and(xtMatch(m.Name, m.Revision, m.Info, p))
	}
	if match == no {
		return nil
	}
	s := xtTarget(r.Target, r.Revision, r.Info, p)
	if r.Target == "" {
		verdict, chain, _ := strings.Cut(r.Verdict, " ")
		s.chain = chain
		switch verdict {
		case "accept":
			s.kind = accepts
		case "drop":
			s.kind = drops
		case "return":
			s.kind = returns
		case "jump":
			s.kind = jumps
			if r.Goto {
				s.kind = goes
			}
			if chain == "" { // to the next rule: one without a target
				s.kind = goesOn
			}
		default:
			s.kind = hands
		}
	}
	s.match = match
	return []step{s}
}

// about says whether the packet is one of those that the rule's header asks for:
// a struct ipt_ip or ip6t_ip6.
func (r legacyRule) about(p *packet) answer {
	h := &r.Header
	got := yes
	both := func(b answer, inverted bool) {
		if inverted {
			b = b.not()
		}
		got = got.and(b)
	}
	both(p.address(false).masked(h.SourceMask, nil).equal(h.Source), h.Inverted&xtables.InvertSource != 0)
	both(p.address(true).masked(h.DestinationMask, nil).equal(h.Destination), h.Inverted&xtables.InvertDestination != 0)
	for i, d := range []struct{ name, mask []byte }{{h.In, h.InMask}, {h.Out, h.OutMask}} {
		if !bytes.Equal(d.mask, make([]byte, unix.IFNAMSIZ)) {
			name := exactly(d.name).masked(d.mask, nil).value // "cni+" has the mask of cni
			both(p.device(i == 1).masked(d.mask, nil).equal(name), h.Inverted&(xtables.InvertIn<<i) != 0)
		}
	}
	if h.Protocol != 0 {
		both(is(h.Protocol == uint16(p.protocol)), h.Inverted&xtables.InvertProtocol != 0)
	}
	if h.More {
		both(perhaps, false)
	}
	return got
}
