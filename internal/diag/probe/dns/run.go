package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Plan is what to ask.
type Plan struct {
	Server    netip.AddrPort   // that pods ask: the cluster IP
	Replicas  []netip.AddrPort // behind it, as far as they are known
	Questions []Question
	Networks  []netip.Prefix // on the links of those who ask; see [Networks]
	Bridges   []string       // of those who ask: a pod has none
	Name      string         // that the user gave, or ""; the candidates are in Questions
	Search    ResolvConf     // by which they were made
	Tries     int            // how often the Service is asked for each name
	Timeout   time.Duration
}

// fewTries is how often a replica is asked for each name, and the Service for
// each candidate of a search: a lost datagram alone makes nobody dead.
const fewTries = 3

// Run asks all that the plan has at once, each ask from a port of its own, so
// that kube-proxy's rules take each to a replica of their choice. Who replied in
// the place of the server is then asked by its own address, and who has an error
// for the external name for others that are in no cache. It takes four times
// plan.Timeout at most.
func Run(ctx context.Context, ns Namespace, plan Plan) Report {
	r := Report{
		Servers: []Server{{Address: plan.Server, Role: Service}}, Questions: plan.Questions,
		Networks: append([]netip.Prefix{}, plan.Networks...), Bridges: append([]string{}, plan.Bridges...),
		Name: plan.Name, Search: plan.Search,
	}
	r.Search.Domains = append([]string{}, plan.Search.Domains...)
	for _, a := range plan.Replicas {
		r.Servers = append(r.Servers, Server{Address: a, Role: Replica})
	}
	ctx, cancel := context.WithTimeout(ctx, 4*plan.Timeout)
	defer cancel()
	r.Asks = askAll(ctx, ns, requests(&plan, r.Servers), plan.Timeout)

	var found []Server
	for _, a := range r.Asks {
		known := func(s Server) bool { return s.Address == a.Source }
		if a.Outcome == WrongSource && !slices.ContainsFunc(r.Servers, known) && !slices.ContainsFunc(found, known) {
			found = append(found, Server{Address: a.Source, Role: Replica, Found: true})
		}
	}
	r.Servers = append(r.Servers, found...)
	r.Asks = append(r.Asks, askAll(ctx, ns, requests(&plan, found), plan.Timeout)...)
	for _, q := range plan.Questions {
		if q.Purpose == External {
			r.freshen(ctx, ns, q.Name, plan.Timeout)
		}
	}
	return r
}

// Names that no cache has are asked for one after the other, so that none waits
// for another, until the server has shown that it takes its time.
const (
	freshNames = 10
	itsTime    = 100 * time.Millisecond
)

// freshen asks each server that has an error for an external name for names
// beside it that are in no cache.
func (r *Report) freshen(ctx context.Context, ns Namespace, external string, timeout time.Duration) {
	names := make([]string, freshNames)
	for i := range names {
		names[i] = "nfguard-" + strconv.FormatUint(rand.Uint64(), 36) + "." + external
	}
	var wg sync.WaitGroup
	asks := make([][]Ask, len(r.Servers))
	for i, s := range r.Servers {
		switch r.heard(s.Address, external).rcode() {
		case "", noError, nxDomain:
			continue
		}
		r.Fresh = names
		wg.Go(func() {
			for _, name := range names {
				a := ask(ctx, ns, s.Address, name, timeout)
				asks[i] = append(asks[i], a)
				if a.Rcode == "" || a.Usec > itsTime.Microseconds() {
					return
				}
			}
		})
	}
	wg.Wait()
	r.Asks = append(r.Asks, slices.Concat(asks...)...)
}

// times is how often a server is asked for a name. What a resolver makes of one
// is asked of the Service only.
func (p *Plan) times(r Role, u Purpose) int {
	switch {
	case r == Replica && u == Given:
		return 0
	case r == Replica || u == Given:
		return min(p.Tries, fewTries)
	}
	return p.Tries
}

// requests are the asks of each of servers for each of its questions, to be made.
func requests(plan *Plan, servers []Server) []Ask {
	var list []Ask
	for _, s := range servers {
		for _, q := range plan.Questions {
			list = append(list, slices.Repeat([]Ask{{Server: s.Address, Name: q.Name}}, plan.times(s.Role, q.Purpose))...)
		}
	}
	return list
}

// askAll makes the asks, all at once, and returns what came of them.
func askAll(ctx context.Context, ns Namespace, list []Ask, timeout time.Duration) []Ask {
	var wg sync.WaitGroup
	for i, a := range list {
		wg.Go(func() { list[i] = ask(ctx, ns, a.Server, a.Name, timeout) })
	}
	wg.Wait()
	return list
}
