package host

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// endpointsAge is how old an answer of Options.Endpoints can be and still be used. A
// bridge whose containers are not pods stays undecided for ever, each start of a
// container causes a look at it, and 10,000 Services take some 0.1 s of processor
// time.
const endpointsAge = time.Minute

// asked is the last answer of Options.Endpoints.
type asked struct {
	turn chan struct{} // one slot, taken by the caller who asks
	at   time.Time     // zero: there is none to use again
	list []netip.Addr
	err  error
}

// endpoints calls look, unless the last answer is recent enough. An empty answer
// never is: the look was cheap then, and new rules should count at once. Nor is one
// that ctx has cut short.
func (a *asked) endpoints(ctx context.Context, look func(context.Context) ([]netip.Addr, error)) ([]netip.Addr, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !a.at.IsZero() && time.Since(a.at) < endpointsAge {
		return a.list, a.err
	}
	*a = asked{turn: a.turn}
	list, err := look(ctx)
	if ctx.Err() == nil && (len(list) > 0 || err != nil) {
		a.at, a.list, a.err = time.Now(), list, err
	}
	return list, err
}

// last is the last answer, however old. ok is false if there is none, or if somebody
// is just getting a new one.
func (a *asked) last() (list []netip.Addr, ok bool, err error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
		return a.list, !a.at.IsZero(), a.err
	default:
		return nil, false, nil
	}
}

// endpoints adds to the evidence where kube-proxy's rules send, if it depends
// on them which bridges are kept. addresses are those of this host. Without ask
// nobody is waited for: what was told last has to do, or nothing.
func (l *Linux) endpoints(ctx context.Context, p *guard.Policy, o *guard.Observation, addresses map[int][]netip.Prefix, ask bool) {
	var networks []netip.Prefix
	for i := range o.Bridges {
		if b := &o.Bridges[i]; p.Selected().Undecided(b, o.Evidence) {
			networks = append(networks, b.Addresses...)
		}
	}
	if len(networks) == 0 || l.o.Endpoints == nil {
		return
	}
	list, ok, err := l.asked.last()
	if ask {
		step.Begin(ctx, "asking the kernel where kube-proxy's rules send")
		list, err = l.asked.endpoints(ctx, l.o.Endpoints)
	} else if !ok {
		return
	}
	e := &guard.Endpoints{Err: err}
	for _, to := range list {
		if slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(to) }) {
			e.Addresses = append(e.Addresses, to)
		}
	}
	if len(e.Addresses) > 0 && l.o.PodSpaces != nil {
		e.Pods.IDs, e.Pods.Err = l.o.PodSpaces()
	}
	for _, of := range addresses {
		e.Host = append(e.Host, of...)
	}
	o.Evidence.Endpoints = e
}

// PodSpaces lists the network namespaces of the pods on this node, for
// [Options.PodSpaces]. Pods that are in ours are in none of those.
func PodSpaces() (ids []int, err error) {
	running, err := pods.Running("/sys/fs/cgroup")
	for _, p := range running {
		id, gone := rtnl.SpaceOf(p.PID)
		if gone == nil && id >= 0 { // a process that has ended leaves its pod to the next look
			ids = append(ids, id)
		}
	}
	return ids, err
}
