package probe

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/diag/services"
)

// Subject is a Service with its endpoints by the way to them.
type Subject struct {
	services.Service
	Bridged []netip.AddrPort // behind the bridge
	Routed  []netip.AddrPort // elsewhere; those that are this host itself are in neither
}

// NewSubject looks at the routes to the endpoints of a Service. An endpoint is
// behind the bridge if packets to it leave by the bridge; loopback is the index
// of the device by which the host reaches itself.
func NewSubject(s services.Service, bridge, loopback int, route func(netip.Addr) (int, error)) Subject {
	subject := Subject{Service: s}
	for _, e := range s.Endpoints {
		switch index, err := route(e.Addr()); {
		case err != nil, index == loopback:
		case index == bridge:
			subject.Bridged = append(subject.Bridged, e)
		default:
			subject.Routed = append(subject.Routed, e)
		}
	}
	return subject
}

// protocol is that of s in our words; ok is false where it can't be asked.
func (s *Subject) protocol() (p Protocol, ok bool) {
	switch s.Protocol {
	case "tcp":
		return TCP, true
	case "udp":
		return UDP, true
	}
	return "", false
}

// times is how often the cluster IP is to be asked until an endpoint behind
// the bridge was among those that it was translated to, which kube-proxy
// chooses by chance, in 99 of 100 cases; 64 times at most. It is 0 where all
// are alike, and once is enough.
func (s *Subject) times() int {
	share := float64(len(s.Bridged)) / float64(len(s.Endpoints))
	if share == 0 || share == 1 {
		return 0
	}
	return min(64, int(math.Ceil(math.Log(0.01)/math.Log(1-share))))
}

// Choose returns the Services to ask where nobody said which: of each family,
// at most three with an endpoint behind the bridge and two with none there,
// those with the surest answer first. Of UDP only DNS is asked: what else
// answers is not known.
func Choose(all []Subject) []Subject {
	var chosen []Subject
	count := map[Family][2]int{}
	for _, sure := range []bool{true, false} {
		for i := range all {
			s := &all[i]
			bridged := len(s.Bridged) > 0
			mixed := bridged && len(s.Bridged) < len(s.Endpoints)
			p, ok := s.protocol()
			if !ok || mixed == sure || !bridged && len(s.Routed) == 0 || p == UDP && s.ClusterIP.Port() != dnsPort {
				continue
			}
			f := familyOf(s.ClusterIP.Addr())
			n := count[f]
			if bridged && n[0] < 3 {
				n[0]++
			} else if !bridged && n[1] < 2 {
				n[1]++
			} else {
				continue
			}
			count[f] = n
			chosen = append(chosen, *s)
		}
	}
	return chosen
}

// mostPods is how many pods behind a Service are asked on each path. One more
// that is dead can pass for a broken Service, where chance led there twice.
const mostPods = 8

// Ask asks each Service by the pod IPs of endpoints behind the bridge and of
// those elsewhere, and by its cluster IP, all at once. What stayed silent for a
// second is asked once more, and that takes another second at most. Families of
// which the pod has no address are left out.
func (a *Attachment) Ask(ctx context.Context, subjects []Subject) []Cell {
	cells := []Cell{}
	for i := range subjects {
		s := &subjects[i]
		p, ok := s.protocol()
		if !ok || !a.has(familyOf(s.ClusterIP.Addr())) {
			continue
		}
		add := func(path Path, to Target, times int, asked ...netip.AddrPort) {
			for _, at := range asked {
				c := Cell{Path: path, To: to, Family: familyOf(at.Addr()), Protocol: p, Service: s.Name, Asked: at}
				c.Times = times
				cells = append(cells, c)
			}
		}
		path := Routed
		if len(s.Bridged) > 0 {
			path = Bridged
		}
		add(Bridged, PodIP, 0, s.Bridged[:min(mostPods, len(s.Bridged))]...)
		add(path, ClusterIP, s.times(), s.ClusterIP)
		add(Routed, PodIP, 0, s.Routed[:min(mostPods, len(s.Routed))]...)
	}
	round(ctx, realPatience, cells, a.askTimes, func(*Cell) bool { return true })
	round(ctx, lastPatience, cells, a.askTimes, (*Cell).silent)
	return cells
}

func (a *Attachment) has(f Family) bool {
	for _, p := range a.Addresses {
		if familyOf(p.Addr()) == f {
			return true
		}
	}
	return false
}

// askTimes asks c as often as it has to be, at once, and returns the worst
// answer.
func (a *Attachment) askTimes(ctx context.Context, c *Cell) Answer {
	question := datagram{dnsQuestion, 300 * time.Millisecond}
	answers := make([]Answer, max(1, c.Times))
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = a.ask(ctx, c.Protocol, c.Asked, question) })
	}
	all.Wait()
	worst := answers[0]
	for _, o := range answers[1:] {
		if worst.Outcome == Answered || o.Outcome == WrongSource && worst.Outcome != WrongSource {
			worst = o
		}
	}
	worst.Times = c.Times
	return worst
}

const dnsPort = 53

// dnsQuestion asks for the address of kubernetes.default.svc.cluster.local
// (RFC 1035). A server of DNS answers it, if only that there is none.
var dnsQuestion = []byte("nf\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" +
	"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01")
