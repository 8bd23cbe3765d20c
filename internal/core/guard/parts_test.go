package guard_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestInParts is what is said where netfilter drops only some packets, or only
// those of pods that call each other by their own addresses, or elsewhere than in
// FORWARD.
func TestInParts(t *testing.T) {
	const (
		row     = "cni0 IPv4 FORWARD"
		beside  = "cni0 IPv4 other hooks"
		with    = "with net.bridge.bridge-nf-call-iptables = 1, "
		partial = "the packets of pods on cni0 are handed to netfilter, but some of those for Services with an endpoint on this node do not arrive: "
		fails   = "pods on cni0 will not reach Services with an endpoint on this node: their packets are handed to netfilter, but "
	)
	drops := func(of, by string) guard.Forward {
		return guard.Forward{Fate: guard.FateDropsByRule, By: by, Of: of}
	}
	firewalld := drops("", "rule 8 of filter_FWD_public, in the table inet firewalld of nf_tables")
	udp, raw := drops("UDP", "rule 1 of F"), drops("", "rule 1 of PREROUTING, in the table ip raw of nf_tables")
	frame := drops("UDP", "rule 1 of c, in the table netdev n of nf_tables")
	frame.Frame = true
	for _, tt := range []struct {
		name    string
		change  func(p *guard.Path)
		rows    string // those of FORWARD and the other hooks, with their reasons
		meaning string
		about   []string // the findings, with their steps
		counts  bool
	}{
		{
			"only what pods send each other", func(p *guard.Path) { p.Direct = &firewalld },
			row + " met: accepts what is for Services; of what pods send each other by their own addresses: drops: " + firewalld.By, seen,
			[]string{with + "pods on cni0 do not reach each other over IPv4 by their own addresses: FORWARD drops what they send (" + firewalld.By + "); what is for a Service it accepts: " +
				"firewall-cmd --permanent --zone=trusted --add-interface=cni0 && firewall-cmd --reload has firewalld accept it; nfguard trace shows where a packet dies"},
			false,
		},
		{
			"only UDP", func(p *guard.Path) { p.Forward = udp },
			row + " missing: drops UDP: rule 1 of F (pods on cni0 reach neither each other nor Services with an endpoint on this node by UDP while their packets are handed over)", partial + "FORWARD drops UDP (rule 1 of F)",
			[]string{with + "pods on cni0 do not reach each other over IPv4 by UDP: FORWARD drops UDP (rule 1 of F): have it accept what comes in and goes out by cni0; nfguard trace shows where a packet dies"},
			true,
		},
		{
			"only what is for Services", func(p *guard.Path) { p.Forward, p.Direct = udp, &guard.Forward{Fate: guard.FateAccepts} },
			row + " missing: drops UDP: rule 1 of F (pods on cni0 do not reach Services with an endpoint on this node by UDP while their packets are handed over)", partial + "FORWARD drops UDP (rule 1 of F)", nil, true,
		},
		{
			"UDP depends", func(p *guard.Path) { p.Forward = guard.Forward{By: "rule 1 of F", Of: "UDP"} },
			row + " unknown: cannot tell of UDP: it depends on rule 1 of F",
			"the packets of pods on cni0 are handed to netfilter; whether they reach Services with an endpoint on this node cannot be told: FORWARD: cannot tell of UDP: it depends on rule 1 of F", nil, false,
		},
		{
			"before routing", func(p *guard.Path) { p.Beside = guard.Beside{Service: &raw, Direct: &raw} },
			row + " met: accepts\n" + beside + " missing: drops: " + raw.By + " (pods on cni0 reach neither each other nor Services with an endpoint on this node while their packets are handed over)",
			fails + "netfilter drops what they send (" + raw.By + ")",
			[]string{
				with + "pods on cni0 do not reach each other over IPv4: netfilter drops what they send (" + raw.By + "): have it accept what comes in and goes out by cni0; nfguard trace shows where a packet dies",
				"pods on cni0 do not reach Services with an endpoint on this node over IPv4: netfilter drops what they send (" + raw.By + "): have it accept what comes in and goes out by cni0; nfguard trace shows where a packet dies",
			},
			true,
		},
		{
			"at a port, handed over or not", func(p *guard.Path) { p.Beside = guard.Beside{Service: &frame, Direct: &frame} },
			row + " met: accepts\n" + beside + " missing: drops UDP: " + frame.By + " (pods on cni0 do not reach each other by UDP)",
			partial + "netfilter drops UDP (" + frame.By + ")",
			[]string{"some of what pods on cni0 send Services with an endpoint on this node over IPv4 does not arrive: netfilter drops UDP (" + frame.By + "): have it accept what comes in and goes out by cni0; nfguard trace shows where a packet dies"},
			true,
		},
		{
			"another hook depends", func(p *guard.Path) { p.Beside.Service = &guard.Forward{By: "rule 1 of X"} },
			row + " met: accepts\n" + beside + " unknown: cannot tell: it depends on rule 1 of X",
			"the packets of pods on cni0 are handed to netfilter; whether they reach Services with an endpoint on this node cannot be told: other hooks: cannot tell: it depends on rule 1 of X", nil, false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := needing()
			tt.change(&o.Needs.Paths[0])
			needs := guard.NeedsOf(o)
			var rows string
			counts := false
			for i := range needs {
				n := &needs[i]
				if n.What == guard.ForwardNeed || n.What == guard.BesideNeed {
					line := n.Bridge + " " + n.Family + " " + n.What + " " + string(n.State) + ": " + n.Have
					if n.Reason != "" {
						line += " (" + n.Reason + ")"
					}
					if rows != "" {
						rows += "\n"
					}
					rows += line
				}
				counts = counts || n.Counts(needs)
			}
			if diff := cmp.Diff(tt.rows, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if counts != tt.counts {
				t.Errorf("it counts: %t, want %t", counts, tt.counts)
			}
			p := &guard.Policy{Mode: guard.Enforce}
			if diff := cmp.Diff(tt.meaning, guard.Meaning(p, o)); diff != "" {
				t.Errorf("meaning (-want +got):\n%s", diff)
			}
			var about []string
			for _, f := range append(guard.Dropping(p, o), guard.Lacking(needs)...) {
				about = append(about, f.Sentence+": "+f.Next)
			}
			if diff := cmp.Diff(tt.about, about); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
