package guard

import (
	"fmt"
	"strings"
)

// Concerns are the findings about bridges: what the scope does, or does not
// do, to those that carry something else than pods.
func Concerns(p *Policy, o *Observation) []Finding {
	if o.Bridging != nil {
		return nil
	}
	var list []Finding
	if o.RememberedErr != nil {
		list = append(list, Finding{
			Subject: AllBridges,
			Sentence: fmt.Sprintf("which flags of bridges nfguard has set is not known: %s; after a change to scope = \"host\" they stay",
				strings.ReplaceAll(o.RememberedErr.Error(), "\n", "; ")),
			Next: "remove the file; what is set from then on is remembered again",
		})
	}
	others, set := false, o.remembered() // others: that are left alone
	for i := range o.Bridges {
		b := &o.Bridges[i]
		handed := o.tables(b)
		if p.Bridges == nil {
			if b.Ports.VMs > 0 && len(handed) > 0 {
				list = append(list, Finding{
					Subject:  b.Name,
					Sentence: fmt.Sprintf("%s carries virtual machines, and their frames pass through %s: %s", b.Name, names(handed), o.forVMs(b)),
					Next:     `where they are to stay plain layer 2, set scope = "bridges" in nfguard.toml, and the sysctls to 0 there: see nfguard.toml(5)`,
				})
			}
		} else if c := p.Bridges.Choose(b, o.Evidence); c.Kept {
			list = append(list, mixed(b, c)...)
		} else {
			others = true
			list = append(list, abandoned(p, b, set[b.Index], c)...)
		}
		if b.Ports.Pods > 0 && len(handed) > 0 && b.VLANFiltering && o.TaggedPass {
			list = append(list, Finding{
				Subject: b.Name,
				Sentence: fmt.Sprintf("%s tells VLANs apart, and VLAN-tagged frames are not handed over (net.bridge.bridge-nf-filter-vlan-tagged = 0): "+
					"pods in a tagged VLAN do not reach Services with an endpoint on this node", b.Name),
				Next: "if pods are in a tagged VLAN: \"net.bridge.bridge-nf-filter-vlan-tagged\" = 1 under [sysctl]",
			})
		}
	}
	list = append(append(list, Unflagged(p, o)...), HairpinConcerns(p, o)...)
	list = append(append(list, Dropping(p, o)...), Lacking(NeedsOf(o))...)
	if o.Needs != nil {
		list = append(list, o.Needs.lacking()...)
	}
	on, zero := Flags(o.On), p.zeros() // of one that is kept at 0 the plan tells
	for _, f := range allFamilies {
		on[f] = on[f] && !zero[f]
	}
	if p.Bridges != nil && others && o.Module.State == Present && on != (Flags{}) {
		list = append(list, Finding{
			Subject:  AllBridges,
			Sentence: fmt.Sprintf("the sysctls hand the frames of every bridge to %s, not only of those that scope = \"bridges\" keeps", names(on.families())),
			Next:     "to have nfguard keep them at 0: " + assign(on.families()) + " under [sysctl]",
		})
	}
	return list
}

// mixed says that a bridge which is kept carries more than pods.
func mixed(b *Bridge, c Choice) []Finding {
	var what []string
	if b.Ports.VMs > 0 {
		what = append(what, "virtual machines")
	}
	if b.Ports.Uplinks > 0 {
		what = append(what, "an uplink")
	}
	if len(what) == 0 {
		return nil
	}
	return []Finding{{
		Subject:  b.Name,
		Sentence: fmt.Sprintf("%s is kept (%s) and carries %s, too: those frames pass through netfilter like those of pods", b.Name, c.Why, enumerate(what)),
		Next:     fmt.Sprintf("give them a bridge of their own, or leave this one alone: add %q to ignore under [bridges]", b.Name),
	}}
}

// abandoned says that flags of ours, m, stand on a bridge that the patterns do
// no longer select. With match = "auto" it says so of what no evidence ever
// has asked for; the rest is taken back.
func abandoned(p *Policy, b *Bridge, m Remembered, c Choice) []Finding {
	if m.Name != b.Name || p.Bridges.Auto && !c.Gone {
		return nil
	}
	var clear []string
	for _, f := range allFamilies {
		if m.Flags[f] && b.Flags()[f] && (!p.Bridges.Auto || !m.Evidence[f]) {
			clear = append(clear, "nf_call_"+f.table()+" 0")
		}
	}
	if len(clear) == 0 {
		return nil
	}
	return []Finding{{
		Subject:  b.Name,
		Sentence: fmt.Sprintf("nfguard has set flags of %s, which it no longer keeps (%s)", b.Name, c.Why),
		Next:     "where they are not wanted: ip link set " + b.Name + " type bridge " + strings.Join(clear, " "),
	}}
}

// tables are the families whose frames that cross b are handed over.
func (o *Observation) tables(b *Bridge) []Family {
	var on Flags
	for _, f := range allFamilies {
		on[f] = o.handed(b, f)
	}
	return on.families()
}

func names(fs []Family) string {
	var out []string
	for _, f := range fs {
		out = append(out, f.table())
	}
	return enumerate(out)
}

// assign is what nfguard.toml takes to keep the sysctls of the families at 0.
func assign(fs []Family) string {
	var words []string
	for _, f := range fs {
		words = append(words, fmt.Sprintf("%q = 0", f.Key()))
	}
	return enumerate(words)
}
