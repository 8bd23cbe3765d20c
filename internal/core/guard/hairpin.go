package guard

import (
	"fmt"
	"strings"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Hairpin is about hairpin mode: that a bridge sends a frame back by the port
// that it came from. Where bridged packets are handed to netfilter, a pod that
// calls its own Service needs it at its port: the packet that was translated to
// the pod's own address stays on the bridge (br_nf_pre_routing_finish), which
// drops what would leave as it came (should_deliver of br_forward.c). Where they
// are not, the packet goes through the IP stack and leaves by the bridge anew.
type Hairpin struct {
	Keep bool      // at the ports of pods on the bridges of On
	On   Selection // Families is of no meaning here
}

// hairpinNext is what helps a pod whose port is not in hairpin mode.
const hairpinNext = "hairpinMode: true of the CNI plugin bridge, for pods that are made from then on; for those that there are"

// HairpinConcerns says of which bridges pods do not reach their own Service, or
// will not as soon as p is in effect. It is a part of [Concerns], for when only
// bridges were looked at.
func HairpinConcerns(p *Policy, o *Observation) []Finding {
	if o.Bridging != nil {
		return nil
	}
	var list []Finding
	hands := p.hands(o)
	for i := range o.Bridges {
		b := &o.Bridges[i]
		if len(b.NoHairpin) == 0 || matching(p.Hairpin.On.Ignore, b.Name) != "" {
			continue
		}
		chosen := p.Hairpin.On.Choose(b, o.Evidence)
		if p.Hairpin.Keep && !b.Promiscuous && (chosen.Kept || chosen.Err != nil || p.Hairpin.On.Auto && o.Evidence == nil) {
			continue // the plan tells, or is going to
		}
		var now, soon []Family
		fs := spoken(b, families(o))
		for _, f := range fs {
			switch {
			case o.handed(b, f):
				now = append(now, f)
			case hands[f] || p.flags(b, f, o):
				soon = append(soon, f)
			}
		}
		next := hairpinNext
		if !p.Hairpin.Keep && (chosen.Kept || p.Hairpin.On.Auto) {
			next += ` hairpin = "keep" under [bridges], or`
		}
		next += " ip link set VETH type bridge_slave hairpin on"
		f := Finding{Subject: b.Name, Next: next, Lasting: "hairpin"}
		switch {
		case len(now)+len(soon) == 0:
			continue
		case b.Promiscuous:
			f.Sentence = fmt.Sprintf("whether a pod on %s reaches its own Service is a matter of the kernel's version: the bridge is promiscuous, and %s", b.Name, noHairpin(b))
			f.Next = "nfguard probe --bridge " + b.Name + " tries it"
		case len(now) > 0:
			f.Sentence = fmt.Sprintf("a pod on %s does not reach its own Service when it is chosen as the endpoint%s: %s", b.Name, only(now, fs), noHairpin(b))
		default:
			f.Sentence = fmt.Sprintf("a pod on %s will not reach its own Service any more when it is chosen as the endpoint, "+
				"once its frames are handed to netfilter%s: %s", b.Name, only(soon, fs), noHairpin(b))
			f.Ahead = true
		}
		list = append(list, f)
	}
	return list
}

// flags reports whether p has the flag of b for family f set.
func (p *Policy) flags(b *Bridge, f Family, o *Observation) bool {
	if p.Bridges == nil || f == IPv6 && o.IPv6Off || !p.Bridges.Choose(b, o.Evidence).Kept {
		return false
	}
	for _, x := range p.Bridges.Families {
		if x == f {
			return true
		}
	}
	return false
}

// only names the families where they are not all.
func only(some, all []Family) string {
	if len(some) == len(all) {
		return ""
	}
	var names []string
	for _, f := range some {
		names = append(names, f.String())
	}
	return " (" + enumerate(names) + ")"
}

// noHairpin counts: "12 of 14 pod ports have no hairpin mode".
func noHairpin(b *Bridge) string {
	verb := "have"
	if len(b.NoHairpin) == 1 {
		verb = "has"
	}
	return fmt.Sprintf("%d of %d pod ports %s no hairpin mode", len(b.NoHairpin), b.Ports.Pods, verb)
}

// What is said of the hairpin mode of pod ports in [Item.Want] and Have.
const (
	hairpinAll  = "hairpin mode at pod ports"
	hairpinSome = "no hairpin mode at some pod ports"
	hairpinNone = "no hairpin mode at pod ports"
)

// planHairpin judges the ports of b, and adds to it, the judgement on the flags
// of b where there is one.
func planHairpin(p *Policy, o *Observation, b *Bridge, items []Item) []Item {
	if !p.Hairpin.Keep {
		return items
	}
	c := p.Hairpin.On.Choose(b, o.Evidence)
	if !c.Kept && c.Err == nil {
		return items
	}
	it := Item{Kind: record.KindFlag, Subject: b.Name, Verdict: Right, Why: c.Why, Want: hairpinAll, Have: hairpinAll}
	if len(items) > 0 {
		if it = items[0]; it.Verdict == Uncertain {
			return items
		}
		it.Want, it.Have = it.Want+", "+hairpinAll, it.Have+", "+hairpinAll
	}
	switch {
	case c.Err != nil:
		it.Verdict, it.Err = Uncertain, c.Err
		it.Reason = c.Why + ": " + strings.ReplaceAll(c.Err.Error(), "\n", "; ")
		return []Item{it}
	case len(b.NoHairpin) == 0:
		return []Item{it}
	}
	it.Have = strings.TrimSuffix(it.Have, hairpinAll)
	if it.Have += hairpinSome; len(b.NoHairpin) == b.Ports.Pods {
		it.Have = strings.TrimSuffix(it.Have, hairpinSome) + hairpinNone
	}
	if b.Promiscuous {
		if it.Verdict == Right {
			it.Verdict = Excused
			it.Reason = "the bridge is promiscuous: with hairpin mode beside that packets come more than once"
			it.Next = "choose one of them: ip link set " + b.Name + " promisc off, or promiscMode: false of the CNI plugin, has hairpin mode kept"
		}
		return []Item{it}
	}
	if it.Verdict != Wrong {
		it.Reason, it.Next = "a pod there does not reach its own Service when it is chosen as the endpoint", ""
	}
	it.Verdict = Wrong
	a := Action{Op: SetFlags, Subject: b.Name, Index: b.Index}
	if it.Action != nil {
		a = *it.Action
	}
	a.Ports = b.NoHairpin
	it.Action = &a
	return []Item{it}
}

// planPort judges the port of b that alone was looked at.
func planPort(p *Policy, o *Observation, b *Bridge) []Item {
	items := planHairpin(p, o, b, nil)
	for i := range items {
		it := &items[i]
		it.Subject, it.Why = b.AlonePort, "a port of "+b.Name+": "+it.Why
		it.Want, it.Have = "hairpin mode", "hairpin mode"
		if len(b.NoHairpin) > 0 {
			it.Have = "no hairpin mode"
		}
	}
	return items
}

// Hairpins says at which ports a puts hairpin mode on: "veth1, veth2 and 10 more".
func (a *Action) Hairpins() string {
	const most = 5
	var names []string
	for _, p := range a.Ports {
		names = append(names, p.Name)
	}
	if n := len(names); n > most {
		names = append(names[:most], fmt.Sprintf("%d more", n-most))
	}
	return enumerate(names)
}

// Fresh reports whether a does nothing but to put hairpin mode on at ports that
// were not seen in it before: nobody has taken it from them.
func (a *Action) Fresh() bool {
	for _, p := range a.Ports {
		if p.Lost {
			return false
		}
	}
	return len(a.Ports) > 0 && a.Flags == (Flags{})
}
