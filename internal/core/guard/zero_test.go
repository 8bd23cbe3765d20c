package guard_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// atZero is scope "bridges" with two sysctls that are kept at 0.
func atZero() (*guard.Policy, *guard.Observation) {
	p, o := scoped()
	p.Sysctls = []guard.Setting{{Key: guard.IPTables, Value: "0"}, {Key: guard.IP6Tables, Value: "0"}}
	o.Values = []guard.Value{present("0"), present("0")}
	o.KubeProxy = &guard.KubeProxy{Rules: []guard.Rules{{Mode: "nftables", IPv4: true, IPv6: true}}}
	return p, o
}

// A sysctl is not set to 0 while a bridge that is kept lives by it, or may.
func TestBare(t *testing.T) {
	boom := errors.New("boom")
	auto := func(p *guard.Policy, pods int, o *guard.Observation) {
		p.Bridges.Match, p.Bridges.Auto = nil, true
		o.Bridges[0].CallIPTables, o.Bridges[0].CallIP6Tables = false, false
		o.Bridges[0].Ports.Pods = pods
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   guard.Flags
	}{
		{"all have their flags", func(*guard.Policy, *guard.Observation) {}, guard.Flags{}},
		{"one lacks one", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].CallIP6Tables = false }, guard.Flags{false, true}},
		{"that of arptables is not to be kept", func(p *guard.Policy, o *guard.Observation) {
			p.Bridges.Families = nil
			o.Bridges[0].CallIPTables = false
		}, guard.Flags{}},
		{"no bridge is kept", func(p *guard.Policy, _ *guard.Observation) { p.Bridges.Match = nil }, guard.Flags{}},
		{"the bridges are not known", func(_ *guard.Policy, o *guard.Observation) { o.Bridging = boom }, guard.Flags{true, true}},
		{"IPv6 is off: its flag is not set", func(_ *guard.Policy, o *guard.Observation) { o.IPv6Off, o.Bridges[0].CallIP6Tables = true, false }, guard.Flags{}},
		{"scope host", func(p *guard.Policy, o *guard.Observation) { p.Bridges = nil; o.Bridges[0].CallIPTables = false }, guard.Flags{}},
		{"by evidence, which was not looked at", func(p *guard.Policy, o *guard.Observation) { auto(p, 1, o) }, guard.Flags{true, true}},
		{"the same, without pods", func(p *guard.Policy, o *guard.Observation) { auto(p, 0, o) }, guard.Flags{}},
		{"the same, ignored", func(p *guard.Policy, o *guard.Observation) { auto(p, 1, o); p.Bridges.Ignore = []string{"cni*"} }, guard.Flags{}},
		{"there is no evidence", func(p *guard.Policy, o *guard.Observation) { auto(p, 1, o); o.Evidence = &guard.Evidence{} }, guard.Flags{}},
		{"the evidence is not certain", func(p *guard.Policy, o *guard.Observation) {
			auto(p, 1, o)
			o.Evidence = &guard.Evidence{CNI: guard.CNI{Err: boom}}
		}, guard.Flags{true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := atZero()
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, p.Bare(o)); diff != "" {
				t.Errorf("bare (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnflagged(t *testing.T) {
	const ipv4 = "net.bridge.bridge-nf-call-iptables is kept at 0, no bridge has a flag of its own, and kube-proxy has rules (IPv4): "
	const wrong = " that calls a Service with an endpoint on its own node gets the reply from the wrong address"
	found := func(who, next string) []guard.Finding {
		return []guard.Finding{{Subject: string(guard.IPTables), Lasting: "no flag", Sentence: ipv4 + who + wrong, Next: next}}
	}
	const match = `name the bridges of pods: match under [bridges], with "iptables" in flags there; or set the key to "ignore" under [sysctl]`
	bare := func(p *guard.Policy, o *guard.Observation) { // of IPv4 only
		p.Sysctls, p.Bridges.Match = p.Sysctls[:1], []string{"other*"}
		o.Bridges[0].CallIPTables, o.Bridges[0].Ports.Pods = false, 2
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Finding
	}{
		{"a bridge has its flags", func(*guard.Policy, *guard.Observation) {}, nil},
		{"no flag, and pods", bare, found("a pod on cni0", match)},
		{"no flag, and no pods yet", func(p *guard.Policy, o *guard.Observation) {
			bare(p, o)
			o.Bridges = o.Bridges[1:]
		}, found("where pods are on a Linux bridge, one", match)},
		{"no flag is to be kept, and pods", func(p *guard.Policy, o *guard.Observation) { bare(p, o); p.Bridges.Families = nil }, found("a pod on cni0", match)},
		{"no flag is to be kept, and no Linux bridge carries pods: nothing is needed", func(p *guard.Policy, o *guard.Observation) {
			bare(p, o)
			p.Bridges.Families, o.Bridges = nil, o.Bridges[1:]
		}, nil},
		{"containers on a bridge that is ignored are no pods", func(p *guard.Policy, o *guard.Observation) {
			bare(p, o)
			p.Bridges.Families, p.Ignored = nil, []string{"cni*"}
		}, nil},
		{"the flag is going to be set", func(p *guard.Policy, o *guard.Observation) { bare(p, o); p.Bridges.Match = []string{"cni*"} }, nil},
		{"it would be, in another mode", func(p *guard.Policy, o *guard.Observation) {
			bare(p, o)
			p.Bridges.Match, p.Mode = []string{"cni*"}, guard.Observe
		}, found("a pod on cni0", match)},
		{"no rules", func(p *guard.Policy, o *guard.Observation) { bare(p, o); o.KubeProxy = &guard.KubeProxy{} }, nil},
		{"the rules were not looked at", func(p *guard.Policy, o *guard.Observation) { bare(p, o); o.KubeProxy = nil }, nil},
		{"bridges unknown", func(p *guard.Policy, o *guard.Observation) { bare(p, o); o.Bridging = errors.New("boom") }, nil},
		{"the sysctl is left alone", func(p *guard.Policy, o *guard.Observation) { bare(p, o); p.Sysctls = nil }, nil},
		{"scope host, at 0", func(p *guard.Policy, o *guard.Observation) { bare(p, o); p.Bridges = nil }, found("a pod on cni0",
			`set it to 1 under [sysctl]; or, where virtual machines share the host, scope = "bridges", with match under [bridges]`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := atZero()
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, guard.Unflagged(p, o)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// What is kept at 0 is judged like any other value; it needs no module, and where
// nothing else does, that is not loaded.
func TestPlanZero(t *testing.T) {
	const through = "the frames of every bridge pass through iptables, those of virtual machines, too"
	key := guard.Item{
		Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Wrong, Want: "0", Have: "1", Reason: through,
		Action: &guard.Action{Op: guard.SetSysctl, Subject: string(guard.IPTables), Value: "0"},
	}
	waits := key
	waits.Reason += "; it is set to 0 when each bridge that is kept has a flag of its own"
	absent := guard.Item{
		Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Excused, Want: "0", Have: "absent",
		Reason: "it comes with br_netfilter, which is not loaded: nothing is handed to netfilter",
	}
	module := guard.Item{
		Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Excused, Want: "not loaded", Have: "not loaded",
		Reason: "no flag of a bridge is kept, and nothing else asks for it",
	}
	loaded := module
	loaded.Want, loaded.Have = "loaded", "loaded"
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Item // those that are not Right
	}{
		{"at 0", func(*guard.Policy, *guard.Observation) {}, nil},
		{"at 1", func(_ *guard.Policy, o *guard.Observation) { o.Values[0] = present("1") }, []guard.Item{key}},
		{"at 1, and a bridge lives by that", func(_ *guard.Policy, o *guard.Observation) {
			o.Values[0], o.Bare = present("1"), guard.Flags{true}
		}, []guard.Item{waits}},
		{"no flag to keep, no module", func(p *guard.Policy, o *guard.Observation) {
			p.Bridges.Families, o.Module.State = nil, guard.Absent
			p.Sysctls, o.Values = p.Sysctls[:1], []guard.Value{{State: guard.Absent}}
		}, []guard.Item{module, absent}},
		{"no flag to keep, and others have loaded it", func(p *guard.Policy, o *guard.Observation) {
			p.Bridges.Families, o.Values[0] = nil, present("1")
		}, []guard.Item{loaded, key}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := atZero()
			p.Module = "br_netfilter"
			tt.change(p, o)
			var got []guard.Item
			for _, it := range guard.PlanFor(p, o) {
				if it.Verdict != guard.Right {
					got = append(got, it)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
		})
	}
}

// Drop-ins with nothing in them are not written, and those of others are no matter.
func TestEmptyDropins(t *testing.T) {
	t.Run("absent, and somebody else's", func(t *testing.T) {
		p, _ := atZero()
		p.Bridges.Families, p.ModulesLoad, p.SysctlD = nil, "/m", "/s"
		o := &guard.Observation{Dropins: []guard.Dropin{{Path: "/m", State: guard.Absent}, {Path: "/m", State: guard.Present, Have: "overlay\n"}}}
		dropin := guard.Item{Kind: record.KindDropin, Subject: "/m", Verdict: guard.Excused, Want: "as written by nfguard", Have: "absent", Reason: "nothing has to be in it"}
		others := dropin
		others.Have = "somebody else's"
		if diff := cmp.Diff([]guard.Item{dropin, others}, guard.PlanDropins(p, o)); diff != "" {
			t.Errorf("drop-ins (-want +got):\n%s", diff)
		}
		if got, want := p.ModulesLoadText(), "# Written by nfguard, see nfguard(8). A change made here is put back:\n# what is kept is decided in /etc/nfguard/nfguard.toml.\n"; got != want {
			t.Errorf("the drop-in that loads nothing: %q", got)
		}
	})
}
