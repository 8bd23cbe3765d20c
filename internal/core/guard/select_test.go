package guard_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

var sameError = cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })

func TestChoose(t *testing.T) {
	boom := errors.New("boom")
	named := guard.Selection{Match: []string{"docker0", "cni*", "br-[0-9a-f]*"}, Ignore: []string{"virbr*", "cni9"}}
	auto := guard.Selection{Auto: true, Ignore: named.Ignore}
	networks := guard.CNI{Networks: []guard.Network{
		{Name: "other", Place: "/etc/cni/net.d/05-other.conf", Bridge: "mynet0"},
		{
			Name: "cbr0", Place: "/etc/cni/net.d/10-k8s.conflist", Bridge: "cni0",
			Subnets: []netip.Prefix{netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.244.1.0/24")},
		},
	}}
	cni := &guard.Evidence{CNI: networks}
	pods := guard.Ports{Pods: 2}
	at := func(a string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(a)} }
	for _, tt := range []struct {
		name   string
		s      guard.Selection
		bridge guard.Bridge
		e      *guard.Evidence
		want   guard.Choice
	}{
		{"by name", named, guard.Bridge{Name: "cnio0"}, nil, guard.Choice{Kept: true, Why: "matches cni*"}},
		{"by a range", named, guard.Bridge{Name: "br-0ff"}, nil, guard.Choice{Kept: true, Why: "matches br-[0-9a-f]*"}},
		{"by no name", named, guard.Bridge{Name: "br-vm", Ports: pods}, cni, guard.Choice{Why: "no pattern matches"}},
		{"ignored", named, guard.Bridge{Name: "virbr0"}, nil, guard.Choice{Why: "ignored by virbr*", Gone: true}},
		{"both", named, guard.Bridge{Name: "cni9"}, nil, guard.Choice{Why: "ignored by cni9", Gone: true}},
		{"auto, ignored", auto, guard.Bridge{Name: "cni9", Ports: pods}, cni, guard.Choice{Why: "ignored by cni9", Gone: true}},
		{
			"auto, no pod", auto,
			guard.Bridge{Name: "cni0", Ports: guard.Ports{VMs: 1, Others: 2}},
			cni,
			guard.Choice{Why: "no port leads into another network namespace"},
		},
		{
			"auto, named", auto,
			guard.Bridge{Name: "cni0", Ports: guard.Ports{Pods: 1}},
			cni,
			guard.Choice{Kept: true, Why: "a port leads into other network namespaces, and /etc/cni/net.d/10-k8s.conflist (cbr0) names it"},
		},
		{
			"auto, by its subnet", auto,
			guard.Bridge{Name: "podbr", Ports: pods, Addresses: at("10.244.1.1/16")},
			cni,
			guard.Choice{Kept: true, Why: "2 ports lead into other network namespaces, and its address 10.244.1.1 is in 10.244.1.0/24 of /etc/cni/net.d/10-k8s.conflist (cbr0)"},
		},
		{
			"auto, a bridge of containers", auto,
			guard.Bridge{Name: "docker0", Ports: pods},
			cni,
			guard.Choice{Why: "2 ports lead into other network namespaces, but no CNI configuration has its name or its subnet", Gone: true},
		},
		{
			"auto, nothing was looked at", auto,
			guard.Bridge{Name: "cni0", Ports: pods},
			nil,
			guard.Choice{Why: "2 ports lead into other network namespaces, but no CNI configuration has its name or its subnet"},
		},
		{
			"auto, the rest is evidence enough", auto,
			guard.Bridge{Name: "cni0", Ports: pods},
			&guard.Evidence{CNI: guard.CNI{Networks: networks.Networks, Err: boom}},
			guard.Choice{Kept: true, Why: "2 ports lead into other network namespaces, and /etc/cni/net.d/10-k8s.conflist (cbr0) names it"},
		},
		{
			"auto, not certain", auto,
			guard.Bridge{Name: "docker0", Ports: pods},
			&guard.Evidence{CNI: guard.CNI{Networks: networks.Networks, Err: boom}},
			guard.Choice{Why: "2 ports lead into other network namespaces, but not all CNI configuration could be read", Err: boom},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.s.Choose(&tt.bridge, tt.e), sameError); diff != "" {
				t.Errorf("choice (-want +got):\n%s", diff)
			}
		})
	}
}

// scoped is policy with scope "bridges", and the host that it is for.
func scoped() (*guard.Policy, *guard.Observation) {
	p := policy()
	p.Sysctls = nil
	p.Bridges = &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4, guard.IPv6}}
	return p, &guard.Observation{Module: guard.Module{State: guard.Present}, Bridges: []guard.Bridge{
		{Name: "cni0", Index: 3, CallIPTables: true, CallIP6Tables: true},
		{Name: "virbr0", Index: 4, Ports: guard.Ports{VMs: 2}},
	}}
}

func TestPlanFlags(t *testing.T) {
	boom := errors.New("boom")
	const needed = "a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address"
	const both = "iptables 1, ip6tables 1"
	kept := guard.Item{Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Right, Want: both, Have: both, Why: "matches cni*"}
	flag := func(f ...guard.Family) *guard.Action {
		a := &guard.Action{Op: guard.SetFlags, Subject: "cni0", Index: 3}
		for _, x := range f {
			a.Flags[x] = true
		}
		return a
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Item
	}{
		{"right: nothing is said of others", func(*guard.Policy, *guard.Observation) {}, []guard.Item{kept}},
		{"no family is wanted", func(p *guard.Policy, _ *guard.Observation) { p.Bridges.Families = nil }, nil},
		{
			"both are missing, one action", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0] = guard.Bridge{Name: "cni0", Index: 3} },
			[]guard.Item{{
				Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: both, Have: "iptables 0, ip6tables 0", Why: "matches cni*",
				Reason: needed, Action: flag(guard.IPv4, guard.IPv6),
			}},
		},
		{
			"one is missing, its sysctl hands over", func(_ *guard.Policy, o *guard.Observation) {
				o.Bridges[0].CallIP6Tables, o.On = false, [3]bool{false, true, false}
			},
			[]guard.Item{{
				Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: both, Have: "iptables 1, ip6tables 0", Why: "matches cni*",
				Reason: "its frames are handed over only as long as the sysctls stay 1", Action: flag(guard.IPv6),
			}},
		},
		{
			"IPv6 is off: ip6tables is left", func(_ *guard.Policy, o *guard.Observation) { o.IPv6Off, o.Bridges[0].CallIP6Tables = true, false },
			[]guard.Item{{
				Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Excused, Want: both, Have: "iptables 1, ip6tables 0", Why: "matches cni*",
				Reason: "IPv6 is switched off in this kernel, and with 1 it would drop every bridged IPv6 frame",
			}},
		},
		{
			"IPv6 is off and the flag on: said, not touched", func(_ *guard.Policy, o *guard.Observation) { o.IPv6Off = true },
			[]guard.Item{{
				Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Excused, Want: both, Have: both, Why: "matches cni*",
				Reason: "IPv6 is switched off in this kernel: it drops every bridged IPv6 frame now",
				Next:   `if IPv6 frames have to cross it: ip link set cni0 type bridge nf_call_ip6tables 0, and no "ip6tables" in flags under [bridges]`,
			}},
		},
		{
			"IPv6 is off, iptables is missing", func(_ *guard.Policy, o *guard.Observation) { o.IPv6Off, o.Bridges[0].CallIPTables = true, false },
			[]guard.Item{{
				Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: both, Have: "iptables 0, ip6tables 1", Why: "matches cni*",
				Reason: needed, Action: flag(guard.IPv4),
			}},
		},
		{
			"bridges unknown", func(_ *guard.Policy, o *guard.Observation) { o.Bridges, o.Bridging = nil, boom },
			[]guard.Item{{Kind: record.KindFlag, Subject: "bridges", Verdict: guard.Uncertain, Want: "known", Reason: "could not look: boom", Err: boom}},
		},
		{
			"evidence unknown: not touched", func(p *guard.Policy, o *guard.Observation) {
				p.Bridges.Auto, o.Evidence = true, &guard.Evidence{CNI: guard.CNI{Err: boom}}
				o.Bridges = []guard.Bridge{{Name: "cni0", Ports: guard.Ports{Pods: 1}}}
			},
			[]guard.Item{{
				Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Uncertain, Want: both, Have: "iptables 0, ip6tables 0",
				Why:    "a port leads into other network namespaces, but not all CNI configuration could be read",
				Reason: "a port leads into other network namespaces, but not all CNI configuration could be read: boom", Err: boom,
			}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := scoped()
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, guard.PlanFlags(p, o), sameError); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
		})
	}
}

// After a change to scope "host": sysctls first, then the flags that nfguard
// has set, and only those.
func TestPlanLeft(t *testing.T) {
	const waits = `nfguard set it with scope = "bridges"; it is taken back when the sysctls are in effect`
	const now = `nfguard set it with scope = "bridges", and the sysctls hand its frames over now`
	unflag := func(f guard.Flags) *guard.Action {
		return &guard.Action{Op: guard.ClearFlags, Subject: "cni0", Index: 3, Flags: f}
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Item
	}{
		{"in effect", func(*guard.Policy, *guard.Observation) {}, []guard.Item{{
			Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: "iptables 0, arptables 0", Have: "iptables 1, arptables 1",
			Reason: now, Action: unflag(guard.Flags{true, false, true}),
		}}},
		{"not in effect: it waits, but not for what nobody wants", func(_ *guard.Policy, o *guard.Observation) { o.On = [3]bool{} }, []guard.Item{{
			Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: "iptables 0, arptables 0", Have: "iptables 1, arptables 1",
			Reason: waits, Action: unflag(guard.Flags{2: true}),
		}}},
		{"the module is away", func(p *guard.Policy, o *guard.Observation) {
			p.Sysctls[2].Value, o.Module.State = "1", guard.Absent
		}, []guard.Item{{
			Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: "iptables 0, arptables 0", Have: "iptables 1, arptables 1", Reason: waits,
		}}},
		{"somebody has cleared them", func(_ *guard.Policy, o *guard.Observation) {
			o.Bridges[0].CallIPTables, o.Bridges[0].CallARPTables = false, false
		}, nil},
		{"another bridge of the name", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].Index = 9 }, nil},
		{"nothing was set", func(_ *guard.Policy, o *guard.Observation) { o.Remembered = nil }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := policy(), right() // arptables is wanted 0
			o.On = [3]bool{true, true, false}
			o.Bridges = []guard.Bridge{{Name: "cni0", Index: 3, CallIPTables: true, CallIP6Tables: true, CallARPTables: true}}
			o.Remembered = []guard.Remembered{{Name: "cni0", Index: 3, Flags: guard.Flags{true, false, true}}}
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, guard.PlanFlags(p, o)); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			items := guard.PlanFor(p, o) // where they stand
			if got := items[4 : len(items)-2]; len(got) != len(tt.want) {
				t.Errorf("%d items of bridges between the sysctls and the drop-ins, want %d", len(got), len(tt.want))
			}
		})
	}
}

// Flags that were set on evidence are taken back once that is gone for good,
// and no others.
func TestPlanStale(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		gone   bool
		take   guard.Flags
	}{
		{"gone", func(*guard.Policy, *guard.Observation) {}, true, guard.Flags{true, false, false}},
		{"not for long enough", func(_ *guard.Policy, o *guard.Observation) { o.Remembered[0].Stale = false }, true, guard.Flags{}},
		{"by patterns", func(p *guard.Policy, _ *guard.Observation) { p.Bridges.Auto = false }, false, guard.Flags{}},
		{"ignored since", func(p *guard.Policy, _ *guard.Observation) { p.Bridges.Ignore = []string{"docker*"} }, true, guard.Flags{true, false, false}},
		{"uncertain", func(_ *guard.Policy, o *guard.Observation) { o.Evidence.CNI.Err = boom }, false, guard.Flags{}},
		{"not looked at", func(_ *guard.Policy, o *guard.Observation) { o.Evidence = nil }, false, guard.Flags{true, false, false}},
		{"no bridge was looked at", func(_ *guard.Policy, o *guard.Observation) { o.Bridging = boom }, false, guard.Flags{}},
		{"the memory is not to be read", func(_ *guard.Policy, o *guard.Observation) { o.RememberedErr = boom }, false, guard.Flags{true, false, false}},
		{"another bridge of the name", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].Index = 9 }, false, guard.Flags{}},
		{"another name of the index", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].Name = "br9" }, false, guard.Flags{}},
		{"cleared by somebody else", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].CallIPTables = false }, false, guard.Flags{}},
		{"set by a pattern", func(_ *guard.Policy, o *guard.Observation) { o.Remembered[0].Evidence = guard.Flags{} }, false, guard.Flags{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := scoped()
			p.Bridges.Match, p.Bridges.Auto = nil, true
			o := &guard.Observation{
				Evidence: &guard.Evidence{},
				Bridges:  []guard.Bridge{{Name: "docker0", Index: 3, Ports: guard.Ports{Pods: 1}, CallIPTables: true, CallIP6Tables: true}},
				Remembered: []guard.Remembered{{
					Name: "docker0", Index: 3, Flags: guard.Flags{true, true, false}, Evidence: guard.Flags{0: true}, Stale: true,
				}},
			}
			tt.change(p, o)
			if got := guard.OnGoneEvidence(p, o); (len(got) == 1) != tt.gone {
				t.Errorf("on evidence that is gone: %+v", got)
			}
			var take guard.Flags
			for _, it := range guard.PlanFlags(p, o) {
				if it.Action != nil && it.Action.Op == guard.ClearFlags {
					take = it.Action.Flags
				}
			}
			if take != tt.take {
				t.Errorf("taken back: %v, want %v", take, tt.take)
			}
		})
	}
}
