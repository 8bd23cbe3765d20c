package guard

import "fmt"

// Remembered is what nfguard has set of a bridge's flags, and not taken back.
type Remembered struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Flags Flags  `json:"flags"`
}

// AllBridges is the subject of what is about no single bridge.
const AllBridges = "bridges"

// PlanFlags judges the flags of the bridges of o: in scope "bridges" those
// that are to be kept, otherwise those that this scope has left. It is a part
// of [PlanFor], for when only bridges were looked at.
func PlanFlags(p *Policy, o *Observation) []Item {
	var items []Item
	switch {
	case p.Bridges == nil:
		for _, m := range o.Remembered {
			if b := o.bridge(m); b != nil {
				items = append(items, planLeft(p, o, b, m)...)
			}
		}
	case o.Bridging != nil:
		items = append(items, Item{
			Kind: EventFlag, Subject: AllBridges, Verdict: Uncertain, Want: "known",
			Reason: fmt.Sprintf("could not look: %v", o.Bridging), Err: o.Bridging,
		})
	default:
		for i := range o.Bridges {
			items = append(items, planFlags(p.Bridges, o, &o.Bridges[i])...)
		}
	}
	return items
}

// bridge is the one that m is about; nil when it is gone, also where another
// has its name.
func (o *Observation) bridge(m Remembered) *Bridge {
	for i := range o.Bridges {
		if o.Bridges[i].Index == m.Index && o.Bridges[i].Name == m.Name {
			return &o.Bridges[i]
		}
	}
	return nil
}

func planFlags(s *Selection, o *Observation, b *Bridge) []Item {
	c, have := s.Choose(b, o.Evidence), b.Flags()
	if len(s.Families) == 0 || !c.Kept && c.Err == nil {
		return nil
	}
	it := Item{
		Kind: EventFlag, Subject: b.Name, Verdict: Right, Why: c.Why,
		Want: Flags{true, true, true}.text(s.Families), Have: have.text(s.Families),
	}
	if c.Err != nil {
		it.Verdict, it.Reason, it.Err = Uncertain, fmt.Sprintf("%s: %v", c.Why, c.Err), c.Err
		return []Item{it}
	}
	var missing Flags
	for _, f := range s.Families {
		if f == IPv6 && o.IPv6Off { // see Policy.Excused
			it.Verdict, it.Reason = Excused, noIPv6
			if have[f] {
				it.Reason = noIPv6Now
				it.Next = fmt.Sprintf("if IPv6 frames have to cross it: ip link set %s type bridge nf_call_ip6tables 0, "+
					"and %q = \"ignore\" under [sysctl]", b.Name, IP6Tables)
			}
			continue
		}
		missing[f] = !have[f]
	}
	if missing == (Flags{}) {
		return []Item{it}
	}
	it.Verdict, it.Reason, it.Next = Wrong, "its frames are handed over only as long as the sysctls stay 1", ""
	for _, f := range missing.families() {
		if !o.On[f] {
			it.Reason = consequence(Setting{Key: f.Key(), Value: "1"})
			break
		}
	}
	it.Action = &Action{Op: SetFlags, Subject: b.Name, Index: b.Index, Flags: missing}
	return []Item{it}
}

// planLeft takes flags back that scope "bridges" has set. A family that has to
// be handed over now by its sysctl waits until that is in effect: a bridge is
// never without both.
func planLeft(p *Policy, o *Observation, b *Bridge, m Remembered) []Item {
	var left, take Flags
	for _, f := range allFamilies {
		left[f] = m.Flags[f] && b.Flags()[f]
		take[f] = left[f] && (!p.hands(f, o) || o.Module.State == Present && o.On[f])
	}
	if left == (Flags{}) {
		return nil
	}
	it := Item{
		Kind: EventFlag, Subject: b.Name, Verdict: Wrong,
		Want: Flags{}.text(left.families()), Have: left.text(left.families()),
		Reason: `nfguard set it with scope = "bridges", and the sysctls hand its frames over now`,
	}
	if take != left {
		it.Reason = `nfguard set it with scope = "bridges"; it is taken back when the sysctls are in effect`
	}
	if take != (Flags{}) {
		it.Action = &Action{Op: ClearFlags, Subject: b.Name, Index: b.Index, Flags: take}
	}
	return []Item{it}
}

// hands reports whether p has the sysctl of family f hand frames over.
func (p *Policy) hands(f Family, o *Observation) bool {
	for _, s := range p.Sysctls {
		if s.Key == f.Key() {
			return s.Value == "1" && p.Excused(s, o) == ""
		}
	}
	return false
}
