package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/diag/probe"
)

// survey looks at what Services need on this host.
func (a *app) survey(p *guard.Policy) *guard.Observation {
	m := run.NewMachine(a.ctx)
	defer m.Close()
	o := m.Survey(a.ctx, p, guard.LookNeeds|guard.LookKubeProxy)
	return &o
}

// surround takes over from the host what is beside the keys and flags, as far as
// a world can have it: whether the bridge forwards, and whether FORWARD drops what
// pods send each other. It returns the needs of those bridges.
func (d *proof) surround(s *probe.Settings, o *guard.Observation) []guard.Need {
	if o.Needs == nil {
		s.Apart = "what FORWARD does here is not known"
		return nil
	}
	host := func(f guard.Family) string {
		if o.Needs.Forwarding[f].Have == "0" {
			return "0"
		}
		return "1"
	}
	if len(d.Bridges) == 0 { // and none that would forward, or not
		if host(guard.IPv4) == "0" {
			s.Apart = "net.ipv4.ip_forward is 0"
		}
		return nil
	}
	s.Forwarding = map[string]string{probe.ForwardIPv4: host(guard.IPv4), probe.ForwardIPv4Bridge: "1"}
	for i := range o.Needs.Paths {
		p := &o.Needs.Paths[i]
		if !slices.Contains(d.Bridges, p.Bridge) {
			continue
		}
		if p.Family == guard.IPv4 && p.Forwarding.Have == "0" {
			s.Forwarding[probe.ForwardIPv4Bridge] = "0"
		}
		if p.Forward.DropsAll() {
			if p.Family == guard.IPv4 {
				s.Dropped.IPv4 = p.Forward.By
			} else {
				s.Dropped.IPv6 = p.Forward.By
			}
		}
	}
	needs := slices.DeleteFunc(guard.NeedsOf(o), func(n guard.Need) bool { return !slices.Contains(d.Bridges, n.Bridge) })
	var apart []string
	for i := range needs {
		n := &needs[i]
		if n.Family == guard.IPv6.String() { // where it matters
			s.Forwarding[probe.ForwardIPv6] = host(guard.IPv6)
		}
		taken := n.What == guard.ForwardingNeed || n.What == guard.ForwardNeed && n.State == guard.NeedMissing && !n.Partly()
		if taken || n.State == guard.NeedMet || !n.OfPath() {
			continue
		}
		s.ApartFails = s.ApartFails || n.State == guard.NeedMissing
		if say := fmt.Sprintf("on %s, %s", n.Bridge, n.Sum()); !slices.Contains(apart, say) {
			apart = append(apart, say)
		}
	}
	s.Apart = strings.Join(append(apart, direct(o, d.Bridges)...), "; ")
	return needs
}

// remedy is what to do where Services are not reached: what is known to be missing,
// or what finds it.
func remedy(needs []guard.Need) string {
	handed := true
	for i := range needs {
		n := &needs[i]
		if n.State == guard.NeedMissing && n.OfPath() {
			return n.Sum() + ": " + n.Next
		}
		handed = handed && (n.What != guard.HandedNeed || n.State == guard.NeedMet)
	}
	if len(needs) == 0 || !handed {
		return nextApply
	}
	return "the keys are right, and nothing that is looked at is missing: nfguard trace follows a connection and says where it dies"
}

// needsOf are what Services need on a bridge of this host; none where that could
// not be looked at.
func (a *app) needsOf(bridge string) []guard.Need {
	s, _, err := a.settings()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(guard.NeedsOf(a.survey(&s.Policy)), func(n guard.Need) bool { return n.Bridge != bridge })
}

// remedyFor is what to do where Services are not reached through a bridge.
func remedyFor(needs []guard.Need) string {
	if len(needs) == 0 { // it carries no pods
		return "nfguard check says which setting it is; nfguard trace follows a connection and says where it dies"
	}
	return remedy(needs)
}

// direct says of which bridges what pods send each other by their own addresses is
// dropped, although what is for Services is accepted: a world has no such rules.
func direct(o *guard.Observation, bridges []string) (list []string) {
	for i := range o.Needs.Paths {
		if p := &o.Needs.Paths[i]; slices.Contains(bridges, p.Bridge) {
			if by := p.OnlyServices(); by != "" {
				list = append(list, fmt.Sprintf("on %s (%s), what pods send each other by their own addresses is dropped (%s)", p.Bridge, p.Family, by))
			}
		}
	}
	return list
}
