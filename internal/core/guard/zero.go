package guard

import "fmt"

// This file is about sysctls that are kept at 0 while bridges have flags of their own:
// no bridge that carries pods is to be without both.

// Bare are the families of which a bridge that p keeps, or may turn out to keep, has no
// flag of its own: their sysctl is not to be set from 1 to 0 yet. Where the bridges are
// not known, all of those are whose flags p keeps.
func (p *Policy) Bare(o *Observation) (bare Flags) {
	if p.Bridges == nil {
		return bare
	}
	for _, f := range p.Bridges.Families {
		if f == IPv6 && o.IPv6Off { // its flag is not set: see Policy.Excused
			continue
		}
		bare[f] = o.Bridging != nil
		for i := range o.Bridges {
			b := &o.Bridges[i]
			bare[f] = bare[f] || !b.Flags()[f] && p.Bridges.maybe(b, o.Evidence)
		}
	}
	return bare
}

// maybe reports whether s keeps b, or may do so once all is known.
func (s *Selection) maybe(b *Bridge, e *Evidence) bool {
	c := s.Choose(b, e)
	return c.Kept || c.Err != nil || s.Auto && e == nil && b.Ports.Pods > 0 && matching(s.Ignore, b.Name) == ""
}

// Waits reports whether s may have to wait for bridges: it is a 0 in place of which
// they have flags.
func (p *Policy) Waits(s Setting) bool { return p.Bridges != nil && s.Key.ByFlag() && s.Value == "0" }

// NeedsModule reports whether what p keeps takes the module. A sysctl that is kept at 0
// does not: without the module nothing is handed to netfilter.
func (p *Policy) NeedsModule() bool { return p.Bridges == nil || len(p.Bridges.Families) > 0 }

// zeros says of which families p keeps the sysctl at 0.
func (p *Policy) zeros() (zero Flags) {
	for _, s := range p.Sysctls {
		for _, f := range allFamilies {
			zero[f] = zero[f] || s.Key == f.Key() && s.Value == "0"
		}
	}
	return zero
}

// Unflagged says what it means that a sysctl is kept at 0 where kube-proxy has rules
// and no bridge has a flag of its own, or is going to have one. Where no flag is to be
// kept and no Linux bridge carries pods, it means nothing.
func Unflagged(p *Policy, o *Observation) []Finding {
	if o.Bridging != nil || o.KubeProxy == nil {
		return nil
	}
	var list []Finding
	zero := p.zeros()
	for _, f := range []Family{IPv4, IPv6} {
		flagged, kept := false, p.Bridges == nil
		var pods []string
		for i := range o.Bridges {
			b := &o.Bridges[i]
			flagged = flagged || b.Flags()[f] || p.Mode != Observe && p.flags(b, f, o)
			if b.Ports.Pods > 0 && !p.Ignores(b.Name) {
				pods = append(pods, b.Name)
			}
		}
		if p.Bridges != nil {
			for _, x := range p.Bridges.Families {
				kept = kept || x == f
			}
		}
		if !zero[f] || flagged || !o.KubeProxy.serves(f) || len(pods) == 0 && !kept {
			continue
		}
		who := "where pods are on a Linux bridge, one"
		if len(pods) > 0 {
			who = "a pod on " + enumerate(pods)
		}
		found := Finding{
			Subject: string(f.Key()), Lasting: "no flag",
			Sentence: fmt.Sprintf("%s is kept at 0, no bridge has a flag of its own, and kube-proxy has rules (%s): "+
				"%s that calls a Service with an endpoint on its own node gets the reply from the wrong address", f.Key(), f, who),
			Next: fmt.Sprintf("name the bridges of pods: match under [bridges], with %q in flags there; or set the key to \"ignore\" under [sysctl]", f.table()),
		}
		if p.Bridges == nil {
			found.Next = `set it to 1 under [sysctl]; or, where virtual machines share the host, scope = "bridges", with match under [bridges]`
		}
		list = append(list, found)
	}
	return list
}
