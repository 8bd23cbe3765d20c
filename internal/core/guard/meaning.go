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
	var will, not []string
	for _, b := range pods {
		fs := spoken(b, families(o))
		for _, f := range fs {
			name := b.Name
			if len(fs) > 1 {
				name = fmt.Sprintf("%s (%s)", b.Name, f)
			}
			if o.handed(b, f) {
				will = append(will, name)
			} else {
				not = append(not, name)
			}
		}
	}
	var parts []string
	if len(will) > 0 {
		parts = append(parts, fmt.Sprintf("pods on %s reach Services with an endpoint on this node", enumerate(will)))
	}
	if len(not) > 0 {
		parts = append(parts, fmt.Sprintf("pods on %s will not reach Services with an endpoint on this node", enumerate(not)))
	}
	s := strings.Join(parts, "; ")
	if o.KubeProxy.State() == ProxyAbsent {
		s += ", once there are rules of a kube-proxy: there are none"
	}
	return s
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
