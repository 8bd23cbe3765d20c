package guard

import (
	"fmt"
	"strings"
)

// Dropping are findings about what FORWARD and the other hooks drop of what pods
// send each other because it is handed to netfilter, or will with p in force: the
// sentence is the same before and after, so that it can be said before anything is
// set.
func Dropping(p *Policy, o *Observation) []Finding {
	var list []Finding
	o.passing(p, func(b *Bridge, path *Path, now bool) {
		if !now && p.Mode == Observe {
			return
		}
		if f := path.direct(); f.drops() && !f.Frame {
			list = append(list, path.cutOff(b, f, ForwardNeed))
		}
		if f := path.Beside.Direct; f != nil && f.drops() && !f.Frame {
			list = append(list, path.cutOff(b, f, "netfilter"))
		}
	})
	return list
}

// Lacking are findings about all that is missing that Services on the node need,
// where there are Services and their packets are handed over.
func Lacking(needs []Need) []Finding {
	var list []Finding
	for i := range needs {
		if n := &needs[i]; n.Counts(needs) && n.What != ForwardNeed {
			sentence := fmt.Sprintf("pods on %s do not reach Services with an endpoint on this node over %s: %s", n.Bridge, n.Family, n.Sum())
			if n.some {
				sentence = fmt.Sprintf("some of what pods on %s send Services with an endpoint on this node over %s does not arrive: %s", n.Bridge, n.Family, n.Sum())
			}
			list = append(list, Finding{Subject: n.Bridge, Sentence: sentence, Next: n.Next, OfNeed: true})
		}
	}
	return list
}

// Unready are the things in few words that keep a node from being ready for
// kube-proxy although the keys are right: what is missing on the way of packets
// that are handed to netfilter, whether there are rules yet or not.
func Unready(o *Observation) []string {
	var list []string
	needs := NeedsOf(o)
	for i := range needs {
		n := &needs[i]
		for j := range needs {
			h := &needs[j]
			if n.State == NeedMissing && n.OfPath() && h.What == HandedNeed && h.State == NeedMet && h.Bridge == n.Bridge && h.Family == n.Family {
				list = append(list, fmt.Sprintf("on %s (%s) %s", n.Bridge, n.Family, n.Sum()))
			}
		}
	}
	return list
}

// Counts reports that n is missing where all says that there are Services, and that
// their packets are handed to netfilter: it is n that they fail for.
func (n *Need) Counts(all []Need) bool {
	if n.State != NeedMissing || !n.OfPath() {
		return false
	}
	for i := range all {
		o := &all[i]
		if !o.OfPath() && o.Bridge == n.Bridge && o.Family == n.Family && o.State != NeedMet {
			return false
		}
	}
	return true
}

// Ahead says what it will change on the node of o that p hands over what is not
// handed over yet: what FORWARD drops then, or where it cannot be told, and what
// becomes of IPv6 where it is switched off. It does not ask whether p only
// observes: then it is for who thinks of more.
func Ahead(p *Policy, o *Observation) []Finding {
	var list []Finding
	if o.IPv6Off && o.Module.State == Absent {
		list = append(list, Finding{
			Subject:  string(IP6Tables),
			Sentence: "IPv6 is switched off in this kernel: br_netfilter comes with " + string(IP6Tables) + " = 1, and drops every bridged IPv6 frame then",
			Next:     "if IPv6 frames have to cross a bridge, set it to 0 yourself and to \"ignore\" under [sysctl]",
		})
	}
	o.passing(p, func(b *Bridge, path *Path, now bool) {
		if f := path.direct(); !now && f.Fate != FateAccepts && !f.Frame {
			list = append(list, path.cutOff(b, f, ForwardNeed))
		}
		if f := path.Beside.Direct; !now && f != nil && !f.Frame {
			list = append(list, path.cutOff(b, f, "netfilter"))
		}
	})
	return list
}

// passing calls do for each bridge and family whose packets are handed to
// netfilter now, or will be with p in force.
func (o *Observation) passing(p *Policy, do func(b *Bridge, path *Path, now bool)) {
	if o.Needs == nil || o.Bridging != nil {
		return
	}
	for i := range o.Bridges {
		b := &o.Bridges[i]
		for _, f := range []Family{IPv4, IPv6} {
			now := o.handed(b, f)
			if path := o.Needs.path(b.Name, f); path != nil && (now || p.willHand(b, f, o)) {
				do(b, path, now)
			}
		}
	}
}

// willHand reports whether with p in force, other than by observing, the frames of
// b are handed over.
func (p *Policy) willHand(b *Bridge, f Family, o *Observation) bool {
	if p.Bridges == nil {
		return p.hands(o)[f]
	}
	if f == IPv6 && o.IPv6Off || !p.Bridges.Choose(b, o.Evidence).Kept {
		return false
	}
	for _, x := range p.Bridges.Families {
		if x == f {
			return true
		}
	}
	return false
}

// cutOff says who is cut off where a hook does not accept all packets, or may not.
func (p *Path) cutOff(b *Bridge, by *Forward, hook string) Finding {
	who := b.Ports.guests() + " on " + b.Name
	f := Finding{Subject: b.Name, Next: strings.ReplaceAll(sendPackets, "BRIDGE", b.Name)}
	switch {
	case by.drops():
		part, other := "", ""
		if by.Of != "" {
			part = " by " + by.Of
		}
		if p.Direct != nil && p.Forward.Fate == FateAccepts && hook == ForwardNeed {
			other = "; what is for a Service it accepts"
			part += " by their own addresses"
		}
		f.Sentence = fmt.Sprintf("with %s = 1, %s do not reach each other over %s%s: %s drops %s (%s)%s", p.Family.Key(), who, p.Family, part, hook, by.whom(), by.By, other)
		f.Next = p.accept(by)
	case by.Err != nil:
		f.Sentence = fmt.Sprintf("with %s = 1, %s decides on what %s send each other over %s, and it could not be read: %v", p.Family.Key(), hook, who, p.Family, by.Err)
	default:
		f.Sentence = fmt.Sprintf("with %s = 1, %s decides on what %s send each other over %s, and that depends on %s", p.Family.Key(), hook, who, p.Family, by.By)
	}
	return f
}

// guests are who is behind the ports: "pods and virtual machines".
func (p Ports) guests() string {
	var who []string
	if p.Pods > 0 {
		who = append(who, "pods")
	}
	if p.VMs > 0 {
		who = append(who, "virtual machines")
	}
	return enumerate(who)
}

// forVMs says what it means for virtual machines that their frames are handed
// over: what FORWARD does, as far as that was seen, and that fragments are put
// together, which nothing shows.
func (o *Observation) forVMs(b *Bridge) string {
	var seen []string
	for _, f := range []Family{IPv4, IPv6} {
		if o.Needs == nil || !o.handed(b, f) {
			continue
		}
		if p := o.Needs.path(b.Name, f); p != nil {
			seen = append(seen, fmt.Sprintf("FORWARD %s (%s)", p.direct().what(), f))
		}
	}
	if len(seen) == 0 {
		seen = []string{"what FORWARD does is not known"}
	}
	return strings.Join(seen, "; ") + "; fragments are put together"
}
