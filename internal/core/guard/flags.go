package guard

import (
	"fmt"
	"strings"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Remembered is what nfguard has set of a bridge's flags, and not taken back.
type Remembered struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Flags Flags  `json:"flags"`

	// Evidence are those of Flags that were set because evidence said that the
	// bridge carries pods, and not because a pattern matches its name.
	Evidence Flags `json:"evidence"`

	// Stale says that the evidence has been gone for so long that those are to
	// be taken back. It takes a series of looks to know that; no single one does.
	Stale bool `json:"-"`
}

// AllBridges is the subject of what is about no single bridge.
const AllBridges = "bridges"

// PlanFlags judges the flags of the bridges of o: in scope "bridges" those
// that are to be kept, otherwise those that this scope has left; and the hairpin
// mode of their ports, where that is kept. It is a part of [PlanFor], for when
// only bridges, or one port of one, were looked at.
func PlanFlags(p *Policy, o *Observation) []Item {
	var items []Item
	switch {
	case o.Bridging == nil && len(o.Bridges) == 1 && o.Bridges[0].AlonePort != "":
		return planPort(p, o, &o.Bridges[0])
	case p.Bridges == nil && (o.Bridging == nil || !p.Hairpin.Keep):
		there, hands := byIndex(o.Bridges), p.hands(o)
		for _, m := range o.Remembered {
			if b := there[m.Index]; b != nil && b.Name == m.Name {
				items = append(items, planLeft(hands, o, b, m)...)
			}
		}
		for i := range o.Bridges {
			items = append(items, planHairpin(p, o, &o.Bridges[i], nil)...)
		}
	case o.Bridging != nil:
		items = append(items, Item{
			Kind: record.KindFlag, Subject: AllBridges, Verdict: Uncertain, Want: "known",
			Reason: fmt.Sprintf("could not look: %v", o.Bridging), Err: o.Bridging,
		})
	default:
		set := o.remembered()
		for i := range o.Bridges {
			b := &o.Bridges[i]
			items = append(items, planHairpin(p, o, b, planFlags(p.Bridges, o, b, set[b.Index]))...)
		}
	}
	return items
}

func byIndex(list []Bridge) map[int]*Bridge {
	m := make(map[int]*Bridge, len(list))
	for i := range list {
		m[list[i].Index] = &list[i]
	}
	return m
}

// remembered is what was set of the bridges, by their index.
func (o *Observation) remembered() map[int]Remembered {
	m := make(map[int]Remembered, len(o.Remembered))
	for _, r := range o.Remembered {
		m[r.Index] = r
	}
	return m
}

// planFlags judges one bridge, of which m was set.
func planFlags(s *Selection, o *Observation, b *Bridge, m Remembered) []Item {
	c, have := s.Choose(b, o.Evidence), b.Flags()
	if !c.Kept && c.Err == nil {
		return planStale(s, b, m, c)
	}
	if len(s.Families) == 0 {
		return nil
	}
	it := Item{
		Kind: record.KindFlag, Subject: b.Name, Verdict: Right, Why: c.Why,
		Want: Flags{true, true, true}.text(s.Families), Have: have.text(s.Families),
	}
	if c.Err != nil {
		it.Verdict, it.Err = Uncertain, c.Err
		it.Reason = c.Why + ": " + strings.ReplaceAll(c.Err.Error(), "\n", "; ")
		return []Item{it}
	}
	var missing Flags
	for _, f := range s.Families {
		if f == IPv6 && o.IPv6Off { // see Policy.Excused
			it.Verdict, it.Reason = Excused, noIPv6
			if have[f] {
				it.Reason = noIPv6Now
				it.Next = fmt.Sprintf("if IPv6 frames have to cross it: ip link set %s type bridge nf_call_ip6tables 0, "+
					"and no \"ip6tables\" in flags under [bridges]", b.Name)
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
	it.Action = &Action{Op: SetFlags, Subject: b.Name, Index: b.Index, Flags: missing, Evidence: s.Auto}
	return []Item{it}
}

// planStale takes flags back that were set on evidence which is gone.
func planStale(s *Selection, b *Bridge, m Remembered, c Choice) []Item {
	var take Flags
	for _, f := range allFamilies {
		take[f] = m.Evidence[f] && b.Flags()[f]
	}
	if !s.Auto || !m.Stale || m.Name != b.Name || take == (Flags{}) {
		return nil
	}
	return []Item{{
		Kind: record.KindFlag, Subject: b.Name, Verdict: Wrong, Why: c.Why,
		Want: Flags{}.text(take.families()), Have: take.text(take.families()),
		Reason: "nfguard set it on evidence that the bridge carries pods, and there is none now: " + c.Why,
		Action: &Action{Op: ClearFlags, Subject: b.Name, Index: b.Index, Flags: m.Evidence, Evidence: true},
	}}
}

// OnGoneEvidence are those of o.Remembered whose flags were set on evidence
// and still stand, while a look that succeeded has found none.
func OnGoneEvidence(p *Policy, o *Observation) []Remembered {
	if p.Bridges == nil || !p.Bridges.Auto || o.Bridging != nil || o.RememberedErr != nil {
		return nil
	}
	var gone []Remembered
	there := byIndex(o.Bridges)
	for _, m := range o.Remembered {
		b := there[m.Index]
		if b == nil || b.Name != m.Name {
			continue
		}
		stands := false
		for _, f := range allFamilies {
			stands = stands || m.Evidence[f] && b.Flags()[f]
		}
		if stands && p.Bridges.Choose(b, o.Evidence).Gone {
			gone = append(gone, m)
		}
	}
	return gone
}

// planLeft takes flags back that scope "bridges" has set. A family that its
// sysctl has to hand over now waits until that is in effect: a bridge is
// never without both.
func planLeft(hands Flags, o *Observation, b *Bridge, m Remembered) []Item {
	var left, take Flags
	for _, f := range allFamilies {
		left[f] = m.Flags[f] && b.Flags()[f]
		take[f] = left[f] && (!hands[f] || o.Module.State == Present && o.On[f])
	}
	if left == (Flags{}) {
		return nil
	}
	it := Item{
		Kind: record.KindFlag, Subject: b.Name, Verdict: Wrong,
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

// hands says of which families p has the sysctls hand frames over.
func (p *Policy) hands(o *Observation) (on Flags) {
	for _, s := range p.Sysctls {
		for _, f := range allFamilies {
			on[f] = on[f] || s.Key == f.Key() && s.Value == "1" && p.Excused(s, o) == ""
		}
	}
	return on
}
