package guard_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

func TestConcerns(t *testing.T) {
	host := func(p *guard.Policy, o *guard.Observation) { p.Bridges, o.On = nil, [3]bool{true, true, true} }
	vms := guard.Finding{
		Subject:  "virbr0",
		Sentence: "virbr0 carries virtual machines, and their frames pass through iptables, ip6tables and arptables: what FORWARD does is not known; fragments are put together",
		Next:     `where they are to stay plain layer 2, set scope = "bridges" in nfguard.toml, and the sysctls to 0 there: see nfguard.toml(5)`,
	}
	for _, tt := range []struct {
		name   string
		change func(p *guard.Policy, o *guard.Observation)
		want   []guard.Finding
	}{
		{"scope bridges, all is well", func(*guard.Policy, *guard.Observation) {}, nil},
		{"scope host, frames of virtual machines", host, []guard.Finding{vms}},
		{"scope host, frames of virtual machines, and FORWARD was read", func(p *guard.Policy, o *guard.Observation) {
			host(p, o)
			o.Needs = &guard.Needs{Paths: []guard.Path{
				{Bridge: "virbr0", Forward: guard.Forward{Fate: guard.FateAccepts}},
				{Bridge: "virbr0", Family: guard.IPv6, Forward: guard.Forward{By: "rule 1 of FORWARD"}},
			}}
		}, []guard.Finding{{
			Subject: "virbr0",
			Sentence: "virbr0 carries virtual machines, and their frames pass through iptables, ip6tables and arptables: FORWARD accepts (IPv4); " +
				"FORWARD cannot tell: it depends on rule 1 of FORWARD (IPv6); fragments are put together",
			Next: vms.Next,
		}}},
		{"scope host, and nothing is handed over", func(p *guard.Policy, o *guard.Observation) { p.Bridges, o.On = nil, [3]bool{} }, nil},
		{"scope host, without the module", func(p *guard.Policy, o *guard.Observation) {
			host(p, o)
			o.Module.State = guard.Absent
		}, nil},
		{"bridges unknown", func(p *guard.Policy, o *guard.Observation) { host(p, o); o.Bridging = errors.New("boom") }, nil},
		{
			"a kept bridge carries more", func(_ *guard.Policy, o *guard.Observation) {
				o.Bridges[0].Ports = guard.Ports{Pods: 1, VMs: 1, Uplinks: 1}
			},
			[]guard.Finding{{
				Subject:  "cni0",
				Sentence: "cni0 is kept (matches cni*) and carries virtual machines and an uplink, too: those frames pass through netfilter like those of pods",
				Next:     `give them a bridge of their own, or leave this one alone: add "cni0" to ignore under [bridges]`,
			}},
		},
		{
			"the sysctls are on", func(_ *guard.Policy, o *guard.Observation) { o.On = [3]bool{true, false, true} },
			[]guard.Finding{{
				Subject:  "bridges",
				Sentence: `the sysctls hand the frames of every bridge to iptables and arptables, not only of those that scope = "bridges" keeps`,
				Next:     `to have nfguard keep them at 0: "net.bridge.bridge-nf-call-iptables" = 0 and "net.bridge.bridge-nf-call-arptables" = 0 under [sysctl]`,
			}},
		},
		{"the sysctls are on and to be kept at 0: the plan tells", func(p *guard.Policy, o *guard.Observation) {
			o.On, p.Sysctls = [3]bool{true}, []guard.Setting{{Key: guard.IPTables, Value: "0"}}
		}, nil},
		{"the sysctls are on, and all bridges are kept", func(_ *guard.Policy, o *guard.Observation) {
			o.On, o.Bridges = [3]bool{true, true, true}, o.Bridges[:1]
		}, nil},
		{
			"tagged frames", func(_ *guard.Policy, o *guard.Observation) {
				o.TaggedPass, o.Bridges[0].VLANFiltering, o.Bridges[0].Ports = true, true, guard.Ports{Pods: 1}
			},
			[]guard.Finding{{
				Subject: "cni0",
				Sentence: "cni0 tells VLANs apart, and VLAN-tagged frames are not handed over (net.bridge.bridge-nf-filter-vlan-tagged = 0): " +
					"pods in a tagged VLAN do not reach Services with an endpoint on this node",
				Next: `if pods are in a tagged VLAN: "net.bridge.bridge-nf-filter-vlan-tagged" = 1 under [sysctl]`,
			}},
		},
		{
			"flags of ours on a bridge that is not kept any more", func(p *guard.Policy, o *guard.Observation) {
				p.Bridges.Ignore = []string{"cni0"}
				o.Remembered = []guard.Remembered{{Name: "virbr0", Index: 4, Flags: guard.Flags{true}}, {Name: "cni0", Index: 3, Flags: guard.Flags{true, true}}}
			},
			[]guard.Finding{{
				Subject:  "cni0",
				Sentence: "nfguard has set flags of cni0, which it no longer keeps (ignored by cni0)",
				Next:     "where they are not wanted: ip link set cni0 type bridge nf_call_iptables 0 nf_call_ip6tables 0",
			}},
		},
		{
			"the memory is broken", func(_ *guard.Policy, o *guard.Observation) { o.RememberedErr = errors.New("boom") },
			[]guard.Finding{{
				Subject:  "bridges",
				Sentence: `which flags of bridges nfguard has set is not known: boom; after a change to scope = "host" they stay`,
				Next:     "remove the file; what is set from then on is remembered again",
			}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, o := scoped()
			tt.change(p, o)
			if diff := cmp.Diff(tt.want, guard.Concerns(p, o)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
