package guard_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// stiff is cni0 with two pods, the port of one of which is not in hairpin mode, and
// a policy of scope "host".
func stiff() (*guard.Policy, *guard.Observation) {
	p := policy()
	p.Hairpin.On = guard.Selection{Match: []string{"cni*"}, Ignore: []string{"lxdbr*"}}
	ports := []guard.Port{{Name: "veth1", Index: 11}}
	return p, &guard.Observation{
		Module: guard.Module{State: guard.Present}, On: [3]bool{true, true, true},
		Bridges: []guard.Bridge{{Name: "cni0", Index: 3, Ports: guard.Ports{Pods: 2, Hairpin: 1}, NoHairpin: ports}},
	}
}

func TestHairpinConcerns(t *testing.T) {
	const (
		hand     = "hairpinMode: true of the CNI plugin bridge, for pods that are made from then on; for those that there are"
		set      = " ip link set VETH type bridge_slave hairpin on"
		sentence = "a pod on cni0 does not reach its own Service when it is chosen as the endpoint: 1 of 2 pod ports has no hairpin mode"
		keep     = hand + ` hairpin = "keep" under [bridges], or` + set
		ahead    = "a pod on cni0 will not reach its own Service any more when it is chosen as the endpoint, once its frames are handed to netfilter"
		count    = ": 1 of 2 pod ports has no hairpin mode"
	)
	concern := func(s, next string) []guard.Finding {
		return []guard.Finding{{Subject: "cni0", Sentence: s, Next: next, Lasting: "hairpin"}}
	}
	future := func(s string) []guard.Finding {
		f := concern(s, keep)
		f[0].Ahead = true
		return f
	}
	dual := func(o *guard.Observation) {
		o.Bridges[0].Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
		o.KubeProxy = &guard.KubeProxy{Rules: []guard.Rules{{Mode: "nftables", IPv4: true, IPv6: true}}}
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Finding
	}{
		{"at 1", func(*guard.Policy, *guard.Observation) {}, concern(sentence, keep)},
		{"all ports are in it", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].NoHairpin = nil }, nil},
		{"at 0, before the first 1", func(_ *guard.Policy, o *guard.Observation) { o.On = [3]bool{} }, future(ahead + count)},
		{"without the module", func(_ *guard.Policy, o *guard.Observation) { o.Module.State = guard.Absent }, future(ahead + count)},
		{"at 0, and left so", func(p *guard.Policy, o *guard.Observation) { o.On, p.Sysctls = [3]bool{}, nil }, nil},
		{"scope bridges, before the flag", func(p *guard.Policy, o *guard.Observation) {
			o.On, p.Sysctls = [3]bool{}, nil
			p.Bridges = &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4}}
		}, future(ahead + count)},
		{"scope bridges, another family", func(p *guard.Policy, o *guard.Observation) {
			o.On, p.Sysctls = [3]bool{}, nil
			p.Bridges = &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.ARP}}
		}, nil},
		{"scope bridges, another bridge", func(p *guard.Policy, o *guard.Observation) {
			o.On, p.Sysctls = [3]bool{}, nil
			p.Bridges = &guard.Selection{Match: []string{"kube-bridge"}, Families: []guard.Family{guard.IPv4}}
		}, nil},
		{"one family of two", func(_ *guard.Policy, o *guard.Observation) { dual(o); o.On[guard.IPv6] = false }, concern(
			"a pod on cni0 does not reach its own Service when it is chosen as the endpoint (IPv4)"+count, keep)},
		{"both families", func(_ *guard.Policy, o *guard.Observation) { dual(o) }, concern(sentence, keep)},
		{"promiscuous", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].Promiscuous = true }, concern(
			"whether a pod on cni0 reaches its own Service is a matter of the kernel's version: the bridge is promiscuous, and 1 of 2 pod ports has no hairpin mode",
			"nfguard probe --bridge cni0 tries it")},
		{"no pattern matches", func(p *guard.Policy, _ *guard.Observation) { p.Hairpin.On.Match = nil }, concern(sentence, hand+set)},
		{"of containers that are no pods", func(p *guard.Policy, _ *guard.Observation) { p.Hairpin.On.Ignore = []string{"cni*"} }, nil},
		{"kept", func(p *guard.Policy, _ *guard.Observation) { p.Hairpin.Keep = true }, nil},
		{"the bridges are not known", func(_ *guard.Policy, o *guard.Observation) { o.Bridging = errors.New("boom") }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := stiff()
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, guard.HairpinConcerns(p, o)); diff != "" {
				t.Errorf("concerns (-want +got):\n%s", diff)
			}
		})
	}
}

// A finding is the same one whatever the figures in it.
func TestFindingKey(t *testing.T) {
	p, o := stiff()
	one := guard.HairpinConcerns(p, o)[0]
	o.Bridges[0].Ports.Pods = 7
	more := guard.HairpinConcerns(p, o)[0]
	o.Bridges[0].Name = "cni1"
	other := guard.HairpinConcerns(p, o)[0]
	if one == more || one.Key() != more.Key() || one.Key() == other.Key() || one.Key() == (guard.Finding{Subject: "cni0"}).Key() {
		t.Errorf("%+v\n%+v\n%+v", one, more, other)
	}
}

func TestPlanHairpin(t *testing.T) {
	const (
		on     = "hairpin mode at pod ports"
		reason = "a pod there does not reach its own Service when it is chosen as the endpoint"
	)
	ports := []guard.Port{{Name: "veth1", Index: 11}}
	action := func(f guard.Flags) *guard.Action {
		return &guard.Action{Op: guard.SetFlags, Subject: "cni0", Index: 3, Flags: f, Ports: ports}
	}
	wrong := guard.Item{
		Kind: record.KindFlag, Subject: "cni0", Verdict: guard.Wrong, Want: on, Have: "no hairpin mode at some pod ports", Why: "matches cni*",
		Reason: reason, Action: action(guard.Flags{}),
	}
	none, right, alone := wrong, wrong, wrong
	none.Have = "no hairpin mode at pod ports"
	right.Verdict, right.Have, right.Reason, right.Action = guard.Right, on, "", nil
	alone.Subject, alone.Want, alone.Have, alone.Why = "veth1", "hairpin mode", "no hairpin mode", "a port of cni0: matches cni*"
	aloneRight := alone
	aloneRight.Verdict, aloneRight.Have, aloneRight.Reason, aloneRight.Action = guard.Right, "hairpin mode", "", nil
	both := wrong
	both.Want, both.Have = "iptables 1, hairpin mode at pod ports", "iptables 0, no hairpin mode at some pod ports"
	both.Reason, both.Action = "its frames are handed over only as long as the sysctls stay 1", action(guard.Flags{true})
	flagged := both
	flagged.Have, flagged.Reason, flagged.Action = "iptables 1, no hairpin mode at some pod ports", reason, action(guard.Flags{})
	promisc := right
	promisc.Verdict, promisc.Have = guard.Excused, wrong.Have
	promisc.Reason = "the bridge is promiscuous: with hairpin mode beside that packets come more than once"
	promisc.Next = "choose one of them: ip link set cni0 promisc off, or promiscMode: false of the CNI plugin, has hairpin mode kept"
	boom := errors.New("boom")
	unknown := guard.Item{Kind: record.KindFlag, Subject: "bridges", Verdict: guard.Uncertain, Want: "known", Reason: "could not look: boom", Err: boom}
	unclear := right
	unclear.Verdict, unclear.Why, unclear.Err = guard.Uncertain, "2 ports lead into other network namespaces, but not all CNI configuration could be read", boom
	unclear.Reason = unclear.Why + ": boom"
	scope := func(p *guard.Policy) {
		p.Bridges = &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4}}
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Item
	}{
		{"a port is not in it", func(*guard.Policy, *guard.Observation) {}, []guard.Item{wrong}},
		{"no port is in it", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].Ports.Pods = 1 }, []guard.Item{none}},
		{"right", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].NoHairpin = nil }, []guard.Item{right}},
		{"not asked for", func(p *guard.Policy, _ *guard.Observation) { p.Hairpin.Keep = false }, nil},
		{"another bridge", func(p *guard.Policy, _ *guard.Observation) { p.Hairpin.On.Match = []string{"weave"} }, nil},
		{"ignored", func(p *guard.Policy, _ *guard.Observation) { p.Hairpin.On.Ignore = []string{"cni0"} }, nil},
		{"promiscuous", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].Promiscuous = true }, []guard.Item{promisc}},
		{"one port was looked at", func(_ *guard.Policy, o *guard.Observation) { o.Bridges[0].AlonePort = "veth1" }, []guard.Item{alone}},
		{"one port was looked at, and is in it", func(_ *guard.Policy, o *guard.Observation) {
			o.Bridges[0].AlonePort, o.Bridges[0].NoHairpin = "veth1", nil
		}, []guard.Item{aloneRight}},
		{"scope bridges, flag and port", func(p *guard.Policy, _ *guard.Observation) { scope(p) }, []guard.Item{both}},
		{"scope bridges, the port only", func(p *guard.Policy, o *guard.Observation) { scope(p); o.Bridges[0].CallIPTables = true }, []guard.Item{flagged}},
		{"scope bridges, one port was looked at", func(p *guard.Policy, o *guard.Observation) { scope(p); o.Bridges[0].AlonePort = "veth1" }, []guard.Item{alone}},
		{"the bridges are not known", func(_ *guard.Policy, o *guard.Observation) { o.Bridging = boom }, []guard.Item{unknown}},
		{"by evidence that is not known", func(p *guard.Policy, o *guard.Observation) {
			p.Hairpin.On = guard.Selection{Auto: true}
			o.Evidence = &guard.Evidence{CNI: guard.CNI{Err: boom}}
		}, []guard.Item{unclear}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := stiff()
			p.Hairpin.Keep = true
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, guard.PlanFlags(p, o), sameError); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHairpins(t *testing.T) {
	a := guard.Action{}
	for i, want := range []struct {
		names string
		fresh bool
	}{{"", false}, {"a", true}, {"a and b", true}, {"a, b and c", true}, {"a, b, c and d", true}, {"a, b, c, d and e", true}, {"a, b, c, d, e and 1 more", true}} {
		if got := a.Hairpins(); got != want.names || a.Fresh() != want.fresh {
			t.Errorf("%d: %q, %t", i, got, a.Fresh())
		}
		a.Ports = append(a.Ports, guard.Port{Name: string(rune('a' + i))})
	}
	a.Ports[2].Lost = true
	if a.Fresh() {
		t.Error("one that has lost it is not new")
	}
}
