package guard_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// needing is a node of which all that Services need was seen, and is there.
func needing() *guard.Observation {
	on := guard.Value{State: guard.Present, Have: "1"}
	back := guard.Route{State: guard.RouteBack, From: netip.MustParseAddr("10.200.2.2"), To: netip.MustParseAddr("10.200.2.3"), Seen: true}
	accepts := guard.Forward{Fate: guard.FateAccepts}
	return &guard.Observation{
		Module: guard.Module{State: guard.Present}, On: [3]bool{true, true, true},
		Bridges:   []guard.Bridge{{Name: "cni0", Ports: guard.Ports{Pods: 2}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.200.2.1/24")}}},
		KubeProxy: &guard.KubeProxy{Rules: []guard.Rules{nft}},
		Needs: &guard.Needs{
			Forwarding: [2]guard.Value{on, on},
			Paths: []guard.Path{
				{Bridge: "cni0", Forwarding: on, Route: back, Forward: accepts},
				{Bridge: "cni0", Family: guard.IPv6, Forwarding: on, Route: back, Forward: accepts},
			},
		},
	}
}

// rows are needs in few words, those that are met without what they have.
func rows(needs []guard.Need) string {
	var lines []string
	for _, n := range needs {
		line := n.Bridge + " " + n.Family + " " + n.What
		if n.State != guard.NeedMet {
			line += " " + string(n.State) + ": " + n.Have
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

const seen = "the packets of pods on cni0 are handed to netfilter, and nothing that was looked at keeps them from Services with an endpoint on this node"

func TestNeeds(t *testing.T) {
	off := guard.Value{State: guard.Present, Have: "0"}
	policy := "the policy of FORWARD, in the table ip filter of nf_tables"
	fails := func(why string) string {
		return "pods on cni0 will not reach Services with an endpoint on this node: their packets are handed to netfilter, but " + why
	}
	unsure := func(why string) string {
		return "the packets of pods on cni0 are handed to netfilter; whether they reach Services with an endpoint on this node cannot be told: " + why
	}
	first := func(o *guard.Observation) *guard.Path { return &o.Needs.Paths[0] }
	for _, tt := range []struct {
		name    string
		change  func(o *guard.Observation)
		row     string // the one that is not met
		meaning string
		next    string // the beginning of the step
		counts  bool
	}{
		{"all is there", func(*guard.Observation) {}, "", seen, "", false},
		{
			"forwarding is off", func(o *guard.Observation) { o.Needs.Forwarding[0], first(o).Forwarding = off, off },
			"forwarding missing: off", fails("net.ipv4.ip_forward is 0"), `sysctl -w net.ipv4.ip_forward=1, and "net.ipv4.ip_forward" = 1 under [sysctl]`, true,
		},
		{
			"forwarding is off for the bridge", func(o *guard.Observation) { first(o).Forwarding = off },
			"forwarding missing: off for this bridge", fails("net.ipv4.conf.cni0.forwarding is 0"), "sysctl -w net.ipv4.conf.cni0.forwarding=1", true,
		},
		{"forwarding is off, but not for the bridge", func(o *guard.Observation) { o.Needs.Forwarding[0] = off }, "", seen, "", false},
		{
			"forwarding cannot be read", func(o *guard.Observation) { first(o).Forwarding = guard.Value{Err: errors.New("boom")} },
			"forwarding unknown: could not look: boom", unsure("forwarding: could not look: boom"), "", false,
		},
		{
			"FORWARD drops", func(o *guard.Observation) {
				first(o).Forward = guard.Forward{Fate: guard.FateDropsByPolicy, By: policy, Rule: guard.Rule{Table: "filter", Chain: "FORWARD"}}
			},
			"FORWARD missing: drops what nothing accepts: " + policy, fails("FORWARD drops what they send (" + policy + ")"), "iptables -I FORWARD -i cni0 -o cni0 -j ACCEPT", true,
		},
		{
			"a rule drops, of another chain", func(o *guard.Observation) {
				first(o).Forward = guard.Forward{Fate: guard.FateDropsByRule, By: "rule 2 of c, in x"}
			},
			"FORWARD missing: drops: rule 2 of c, in x", fails("FORWARD drops what they send (rule 2 of c, in x)"), "have it accept what comes in and goes out by cni0", true,
		},
		{
			"FORWARD depends", func(o *guard.Observation) { first(o).Forward = guard.Forward{By: "rule 3 of X"} },
			"FORWARD unknown: cannot tell: it depends on rule 3 of X", unsure("FORWARD: cannot tell: it depends on rule 3 of X"), "nfguard probe --bridge cni0", false,
		},
		{
			"FORWARD cannot be read", func(o *guard.Observation) { first(o).Forward = guard.Forward{Err: errors.New("boom")} },
			"FORWARD unknown: could not look: boom", unsure("FORWARD: could not look: boom"), "nfguard check looks again: run it as root, on the host; nfguard probe --bridge cni0", false,
		},
		{
			"no route", func(o *guard.Observation) { first(o).Route.State = guard.RouteNone },
			"route missing: none to 10.200.2.3", fails("there is no route to 10.200.2.3"), "ip route get 10.200.2.3", true,
		},
		{
			"a route elsewhere", func(o *guard.Observation) { first(o).Route.State, first(o).Route.Device = guard.RouteElsewhere, "eth1" },
			"route missing: what is for 10.200.2.3 goes out by eth1", fails("what is for 10.200.2.3 goes out by eth1"), "ip route get 10.200.2.3", true,
		},
		{
			"rp_filter drops", func(o *guard.Observation) {
				first(o).Filtered = first(o).Route
				first(o).Filtered.State, first(o).Filtered.Strict = guard.RouteFiltered, "net.ipv4.conf.all.rp_filter"
			},
			"rp_filter missing: drops what comes from 10.200.2.2", fails("net.ipv4.conf.all.rp_filter drops what comes from 10.200.2.2"), "ip route get 10.200.2.2", true,
		},
		{
			"no rules", func(o *guard.Observation) { o.KubeProxy.Rules = nil },
			"proxy rules missing: none", seen + "; there are no rules of a kube-proxy", "see whether kube-proxy runs", false,
		},
		{
			"another proxy's rules", func(o *guard.Observation) {
				o.KubeProxy.Rules, o.Needs.Others = nil, []string{"the table ip x of nf_tables"}
			},
			"", seen + "; there are no rules of a kube-proxy, destinations are translated by the table ip x of nf_tables", "", false,
		},
		{
			"another proxy's rules, and not handed over", func(o *guard.Observation) {
				o.KubeProxy.Rules, o.Needs.Others, o.On = nil, []string{"the table ip x of nf_tables"}, [3]bool{}
			},
			"handed to netfilter missing: no",
			"pods on cni0 will not reach Services with an endpoint on this node: their packets are not handed to netfilter; " +
				"there are no rules of a kube-proxy, destinations are translated by the table ip x of nf_tables", "", false,
		},
		{"ipvs, of which the family is not told", func(o *guard.Observation) { o.KubeProxy.Rules = []guard.Rules{{Mode: "ipvs"}} }, "", seen, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := needing()
			tt.change(o)
			needs := guard.NeedsOf(o)
			want := "cni0 IPv4 handed to netfilter\ncni0 IPv4 proxy rules\ncni0 IPv4 forwarding\ncni0 IPv4 FORWARD\ncni0 IPv4 route\ncni0 IPv4 rp_filter"
			if len(o.KubeProxy.Rules) > 0 {
				want += "\ncni0 IPv4 modules"
			}
			if tt.row != "" {
				what, _, _ := strings.Cut(tt.row, " missing")
				what, _, _ = strings.Cut(what, " unknown")
				want = strings.Replace(want, "cni0 IPv4 "+what, "cni0 IPv4 "+tt.row, 1)
			}
			if diff := cmp.Diff(want, rows(needs)); diff != "" {
				t.Errorf("needs (-want +got):\n%s", diff)
			}
			counts := false
			for _, n := range needs {
				counts = counts || n.Counts(needs)
				if n.State != guard.NeedMet && !strings.HasPrefix(n.Next, tt.next) {
					t.Errorf("next step %q, want %q…", n.Next, tt.next)
				}
			}
			if counts != tt.counts {
				t.Errorf("it counts: %t, want %t", counts, tt.counts)
			}
			if diff := cmp.Diff(tt.meaning, guard.Meaning(&guard.Policy{Mode: guard.Enforce}, o)); diff != "" {
				t.Errorf("meaning (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNeedsOfIPv6: forwarding is not asked for there, and rp_filter is IPv4's.
func TestNeedsOfIPv6(t *testing.T) {
	off := guard.Value{State: guard.Present, Have: "0"}
	o := needing()
	o.Bridges[0].Addresses = append(o.Bridges[0].Addresses, netip.MustParsePrefix("fd00:2::1/64"))
	o.Needs.Forwarding[1], o.Needs.Paths[1].Forwarding, o.Needs.Paths[1].Off = off, off, true
	o.Needs.Paths[1].Forward = guard.Forward{Fate: guard.FateDropsByPolicy, By: "the policy of FORWARD, in the table filter of ip6tables-legacy", Rule: guard.Rule{Table: "filter", Chain: "FORWARD", Legacy: true}}
	var v6 []guard.Need
	for _, n := range guard.NeedsOf(o) {
		if n.Family == "IPv6" {
			v6 = append(v6, n)
		}
	}
	want := "cni0 IPv6 handed to netfilter\ncni0 IPv6 proxy rules\ncni0 IPv6 forwarding\n" +
		"cni0 IPv6 FORWARD missing: drops what nothing accepts: the policy of FORWARD, in the table filter of ip6tables-legacy\n" +
		"cni0 IPv6 route missing: IPv6 is off on the bridge\ncni0 IPv6 modules"
	if diff := cmp.Diff(want, rows(v6)); diff != "" {
		t.Errorf("needs (-want +got):\n%s", diff)
	}
	if got := v6[2].Setting; got != `"net.ipv6.conf.all.forwarding" = 1` {
		t.Errorf("it offers %s", got)
	}
	if got := v6[3].Next; !strings.HasPrefix(got, "ip6tables-legacy -I FORWARD -i cni0 -o cni0 -j ACCEPT") {
		t.Error(got)
	}
}

// TestAhead is what there is to say before anything is handed over, and what
// stands when it is.
func TestAhead(t *testing.T) {
	drop := guard.Forward{Fate: guard.FateDropsByPolicy, By: "the policy of FORWARD, in x"}
	const cut = "with net.bridge.bridge-nf-call-iptables = 1, pods on cni0 do not reach each other over IPv4: FORWARD drops what they send (the policy of FORWARD, in x)"
	const depends = "with net.bridge.bridge-nf-call-iptables = 1, FORWARD decides on what pods on cni0 send each other over IPv4, and that depends on rule 1 of X"
	const vms = "with net.bridge.bridge-nf-call-iptables = 1, virtual machines on cni0 do not reach each other over IPv4: FORWARD drops what they send (the policy of FORWARD, in x)"
	const noIPv6 = "IPv6 is switched off in this kernel: br_netfilter comes with net.bridge.bridge-nf-call-ip6tables = 1, and drops every bridged IPv6 frame then"
	for _, tt := range []struct {
		name            string
		change          func(p *guard.Policy, o *guard.Observation)
		ahead, dropping []string
	}{
		{"FORWARD accepts", func(*guard.Policy, *guard.Observation) {}, nil, nil},
		{"FORWARD drops", func(_ *guard.Policy, o *guard.Observation) { o.Needs.Paths[0].Forward = drop }, []string{cut}, []string{cut}},
		{"FORWARD drops, and it is so already", func(_ *guard.Policy, o *guard.Observation) {
			o.Needs.Paths[0].Forward, o.On = drop, [3]bool{true}
		}, nil, []string{cut}},
		{"only observed", func(p *guard.Policy, o *guard.Observation) { o.Needs.Paths[0].Forward, p.Mode = drop, guard.Observe }, []string{cut}, nil},
		{"the key is ignored", func(p *guard.Policy, o *guard.Observation) { o.Needs.Paths[0].Forward, p.Sysctls = drop, nil }, nil, nil},
		{"scope bridges, another one", func(p *guard.Policy, o *guard.Observation) {
			o.Needs.Paths[0].Forward, p.Bridges = drop, &guard.Selection{Match: []string{"x*"}, Families: []guard.Family{guard.IPv4}}
		}, nil, nil},
		{"scope bridges, this one", func(p *guard.Policy, o *guard.Observation) {
			o.Needs.Paths[0].Forward, p.Bridges = drop, &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4}}
		}, []string{cut}, []string{cut}},
		{"it depends", func(_ *guard.Policy, o *guard.Observation) {
			o.Needs.Paths[0].Forward = guard.Forward{By: "rule 1 of X"}
		}, []string{depends}, nil},
		{"whatever is handed over", func(_ *guard.Policy, o *guard.Observation) {
			drop := drop
			drop.Frame = true
			o.Needs.Paths[0].Forward = drop
		}, nil, nil},
		{"virtual machines", func(_ *guard.Policy, o *guard.Observation) {
			o.Needs.Paths[0].Forward, o.Bridges[0].Ports = drop, guard.Ports{VMs: 1}
		}, []string{vms}, []string{vms}},
		{"no IPv6, no module", func(_ *guard.Policy, o *guard.Observation) { o.IPv6Off, o.Module.State = true, guard.Absent }, []string{noIPv6}, nil},
		{"not looked at", func(_ *guard.Policy, o *guard.Observation) { o.Needs = nil }, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := policy(), needing()
			p.Bridges, o.On = nil, [3]bool{}
			tt.change(p, o)
			sentences := func(list []guard.Finding) (all []string) {
				for _, f := range list {
					all = append(all, f.Sentence)
				}
				return all
			}
			if diff := cmp.Diff(tt.ahead, sentences(guard.Ahead(p, o))); diff != "" {
				t.Errorf("ahead (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.dropping, sentences(guard.Dropping(p, o))); diff != "" {
				t.Errorf("dropping (-want +got):\n%s", diff)
			}
		})
	}
}

// TestIgnored: of a bridge that carries no pods nothing but the handing over is said.
func TestIgnored(t *testing.T) {
	o := needing()
	o.Needs.Paths = nil
	if got := guard.NeedsOf(o); got != nil {
		t.Errorf("%+v", got)
	}
	want := "the packets of pods on cni0 are handed to netfilter"
	if got := guard.Meaning(policy(), o); got != want {
		t.Errorf("it says %q", got)
	}
	p := guard.Policy{Ignored: []string{"lxdbr*"}}
	if !p.Ignores("lxdbr0") || p.Ignores("cni0") {
		t.Error("the patterns are not those")
	}
}

// TestUnready is what the record at kube-proxy's start says beside the keys.
func TestUnready(t *testing.T) {
	o := needing()
	if got := guard.Unready(o); got != nil {
		t.Error(got)
	}
	o.Needs.Forwarding[0], o.Needs.Paths[0].Forwarding = guard.Value{State: guard.Present, Have: "0"}, guard.Value{State: guard.Present, Have: "0"}
	o.KubeProxy.Rules = nil // it has just started
	if diff := cmp.Diff([]string{"on cni0 (IPv4) net.ipv4.ip_forward is 0"}, guard.Unready(o)); diff != "" {
		t.Error(diff)
	}
}

// TestLacks: an installed kernel without what kube-proxy's rules need.
func TestLacks(t *testing.T) {
	o := needing()
	for _, m := range []string{"xt_comment", "xt_statistic"} {
		o.Needs.Lacks = append(o.Needs.Lacks, guard.Lack{Module: m, Release: "6.9", For: nft.String()})
	}
	want := []guard.Finding{{
		Subject: "kube-proxy",
		Sentence: "the installed Linux 6.9 has no xt_comment and xt_statistic, which rules of kube-proxy in " + nft.String() +
			" need: after a reboot into it no Service is reached",
		Next: "install the package with the rest of that kernel's modules before the reboot",
	}}
	if diff := cmp.Diff(want, guard.Concerns(&guard.Policy{Mode: guard.Enforce}, o)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
