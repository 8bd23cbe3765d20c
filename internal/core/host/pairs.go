package host

import (
	"context"
	"net/netip"
	"slices"

	"github.com/nfguard/nfguard/internal/kernel/netfilter"
)

// otherPairs are pairs of pods of a bridge beside the one of a route. Of two pods
// there is none: what one does not receive, the other gets no reply to.
func otherPairs(pods []netip.Addr, r netfilter.Route) (list []netfilter.Route) {
	pods = slices.DeleteFunc(slices.Clone(pods), func(a netip.Addr) bool { return a.Is4() == r.IPv6 })
	pods = pods[:min(len(pods), maxPods)]
	if len(pods) < 3 || !r.From.IsSingleIP() {
		return nil
	}
	for step := 1; step <= 2; step++ {
		for i, to := range pods {
			from := pods[(i+step)%len(pods)]
			if single(from) != r.From || single(to) != r.To {
				other := r
				other.From, other.To = single(from), single(to)
				list = append(list, other)
			}
		}
	}
	return list
}

// compare makes sure that what is dropped between two pods is so between the others
// of their bridge, too. Where it is not, as by a rule for one pod that a NetworkPolicy
// isolates, the fate of what pods send depends on that rule. others are of each route.
// It returns its findings anew: those that it is given are kept for the next look.
func (l *Linux) compare(ctx context.Context, others [][]netfilter.Route, found []netfilter.Passage) []netfilter.Passage {
	var routes []netfilter.Route
	for i := range found {
		if !slices.ContainsFunc(verdicts(&found[i]), (*netfilter.Verdict).Drops) {
			others[i] = nil
		}
		routes = append(routes, others[i]...)
	}
	if len(routes) == 0 {
		return found
	}
	fates, err := l.pairs.look(ctx, routes)
	if err != nil {
		return found // of these two it is so
	}
	found = slices.Clone(found)
	for i := range found {
		for j, v := range verdicts(&found[i]) {
			if v.Drops() && slices.ContainsFunc(fates[:len(others[i])], func(p netfilter.Passage) bool { return !verdicts(&p)[j].Drops() }) {
				v.Fate, v.Of = netfilter.Depends, ""
			}
		}
		fates = fates[len(others[i]):]
	}
	return found
}

// verdicts are those of a passage, in an order that is always the same.
func verdicts(p *netfilter.Passage) []*netfilter.Verdict {
	return []*netfilter.Verdict{&p.Service.Forward, &p.Direct.Forward, &p.Service.Beside, &p.Direct.Beside}
}
