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
		for _, f := range families(o) {
			if o.handed(b, f) {
				will = append(will, reach(b, f, o))
			} else {
				not = append(not, reach(b, f, o))
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

// reach names a bridge, with the family where both matter.
func reach(b *Bridge, f Family, o *Observation) string {
	if len(families(o)) > 1 {
		return fmt.Sprintf("%s (%s)", b.Name, f)
	}
	return b.Name
}

// handed reports whether frames that cross b are handed to netfilter.
func (o *Observation) handed(b *Bridge, f Family) bool {
	return o.Module.State == Present && b.Effective(f, o.On[f])
}

func enumerate(names []string) string {
	if n := len(names); n > 2 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, " and ")
}
