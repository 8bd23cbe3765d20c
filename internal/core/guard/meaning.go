package guard

import (
	"fmt"
	"strings"
)

// Meaning says in one sentence what the state means for the Services of this
// node.
func Meaning(p *Policy, o *Observation) string {
	if o.Bridging != nil {
		return fmt.Sprintf("whether a bridge carries pods here could not be told: %v", o.Bridging)
	}
	var pods []*Bridge
	for i := range o.Bridges {
		if o.Bridges[i].Ports.Pods > 0 {
			pods = append(pods, &o.Bridges[i])
		}
	}
	if len(pods) == 0 {
		if p.Mode == Observe || p.Bridges != nil {
			return "no Linux bridge carries pods here: the setting is not needed"
		}
		return fmt.Sprintf("no Linux bridge carries pods here: the setting is not needed, and is kept because mode = %s", p.Mode)
	}
	var parts []string
	groups := o.groups(pods)
	for _, g := range groups[:min(len(groups), maxNames)] {
		parts = append(parts, g.text())
	}
	if more := len(groups) - maxNames; more > 0 {
		parts = append(parts, fmt.Sprintf("of other bridges, %d more such things: see what they need", more))
	}
	s := strings.Join(parts, "; ")
	if o.KubeProxy.State() == ProxyAbsent {
		s += "; there are no rules of a kube-proxy"
		if o.Needs != nil && len(o.Needs.Others) > 0 {
			s += ", destinations are translated by " + enumerate(o.Needs.Others)
		}
	}
	return s
}

// group are bridges of which the same is to be said.
type group struct {
	names   []string
	handed  bool
	missing []string // what Services need and is missing, beside being handed over
	some    []string // what is missing for a part of the packets
	unknown []string // of which it is not known
	seen    bool     // all that is needed was looked at
}

// groups puts bridges together, each with the families that matter there. What
// was handed over comes first.
func (o *Observation) groups(pods []*Bridge) []*group {
	var handed, not []*group
	same := make(map[string]*group)
	for _, b := range pods {
		fs := spoken(b, families(o))
		for _, f := range fs {
			name := b.Name
			if len(fs) > 1 {
				name = fmt.Sprintf("%s (%s)", b.Name, f)
			}
			g := &group{handed: o.handed(b, f), seen: o.Needs != nil && o.Needs.path(b.Name, f) != nil}
			if g.seen {
				g.look(o.needsOf(b, f))
			}
			key := fmt.Sprintf("%t %t %q %q %q", g.handed, g.seen, g.missing, g.some, g.unknown)
			if there := same[key]; there != nil {
				there.names = append(there.names, name)
				continue
			}
			same[key], g.names = g, []string{name}
			if g.handed {
				handed = append(handed, g)
			} else {
				not = append(not, g)
			}
		}
	}
	return append(handed, not...)
}

// look takes what needs say. That there are no rules yet is told apart.
func (g *group) look(needs []Need) {
	for i := range needs {
		n := &needs[i]
		switch {
		case !n.OfPath():
		case n.State == NeedMissing && n.some:
			g.some = append(g.some, n.Sum())
		case n.State == NeedMissing:
			g.missing = append(g.missing, n.Sum())
		case n.State == NeedUnknown && g.handed: // or it is certain without it
			g.unknown = append(g.unknown, n.Sum())
		}
	}
}

// text says what is seen of the bridges. That Services are reached is said by
// nobody who has not sent packets.
func (g *group) text() string {
	who := "pods on " + enumerate(g.names)
	switch {
	case !g.handed:
		s := who + " will not reach Services with an endpoint on this node: their packets are not handed to netfilter"
		if all := append(g.missing, g.some...); len(all) > 0 {
			s += ", and " + strings.Join(all, ", and ")
		}
		return s
	case len(g.missing) > 0:
		return who + " will not reach Services with an endpoint on this node: their packets are handed to netfilter, but " + strings.Join(g.missing, ", and ")
	case len(g.some) > 0:
		return "the packets of " + who + " are handed to netfilter, but some of those for Services with an endpoint on this node do not arrive: " + strings.Join(g.some, ", and ")
	case len(g.unknown) > 0:
		return "the packets of " + who + " are handed to netfilter; whether they reach Services with an endpoint on this node cannot be told: " + strings.Join(g.unknown, ", and ")
	case g.seen:
		return "the packets of " + who + " are handed to netfilter, and nothing that was looked at keeps them from Services with an endpoint on this node"
	}
	return "the packets of " + who + " are handed to netfilter"
}

// families are those whose Services matter here: those that kube-proxy serves,
// or IPv4 while that is not known.
func families(o *Observation) []Family {
	var fs []Family
	if o.KubeProxy != nil {
		for _, f := range []Family{IPv4, IPv6} {
			if o.KubeProxy.serves(f) {
				fs = append(fs, f)
			}
		}
	}
	if len(fs) == 0 {
		fs = []Family{IPv4}
	}
	return fs
}

// spoken are those of fs that pods on b have addresses of, as far as the bridge's
// own tell, which are their gateways: fe80::, which any device has, tells nothing.
func spoken(b *Bridge, fs []Family) []Family {
	var has [2]bool // by IPv4 and IPv6
	for _, a := range b.Addresses {
		if addr := a.Addr(); !addr.IsLinkLocalUnicast() {
			has[IPv4], has[IPv6] = has[IPv4] || addr.Is4(), has[IPv6] || addr.Is6()
		}
	}
	var out []Family
	for _, f := range fs {
		if f < ARP && has[f] {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return fs // of a bridge that is no gateway nobody knows
	}
	return out
}

// handed reports whether frames that cross b are handed to netfilter.
func (o *Observation) handed(b *Bridge, f Family) bool {
	return o.Module.State == Present && b.Effective(f, o.On[f])
}

// maxNames bounds a list in a sentence.
const maxNames = 10

func enumerate(names []string) string {
	n := len(names)
	switch {
	case n > maxNames:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), n-maxNames)
	case n > 2:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, " and ")
}
