package guard_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// By kube-proxy's rules: the bridge has 10.244.1.1/24, and the rules send to
// 10.244.1.5, unless a case says otherwise.
func TestChooseByRules(t *testing.T) {
	boom := errors.New("boom")
	const left, kept = "a port leads into other network namespaces, but no CNI configuration has its name or its subnet",
		"a port leads into other network namespaces, one to a pod, and kube-proxy's rules send to "
	addresses := func(texts ...string) (list []netip.Addr) {
		for _, a := range texts {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	}
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, p := range texts {
			list = append(list, netip.MustParsePrefix(p))
		}
		return list
	}
	for _, tt := range []struct {
		name   string
		change func(b *guard.Bridge, e *guard.Evidence)
		want   guard.Choice
	}{
		{"an endpoint in its network", func(*guard.Bridge, *guard.Evidence) {}, guard.Choice{Kept: true, Why: kept + "10.244.1.5, in its network 10.244.1.0/24"}},
		{
			"of IPv6, in the second network",
			func(b *guard.Bridge, e *guard.Evidence) {
				b.Addresses = prefixes("10.244.1.1/24", "fd00:244::1/64")
				e.Endpoints.Addresses = addresses("10.244.2.5", "fd00:244::7")
			},
			guard.Choice{Kept: true, Why: kept + "fd00:244::7, in its network fd00:244::/64"},
		},
		{
			"in the smaller of its networks",
			func(b *guard.Bridge, _ *guard.Evidence) { b.Addresses = prefixes("10.244.0.1/16", "10.244.1.1/24") },
			guard.Choice{Kept: true, Why: kept + "10.244.1.5, in its network 10.244.1.0/24"},
		},
		{
			"endpoints elsewhere",
			func(_ *guard.Bridge, e *guard.Evidence) {
				e.Endpoints.Addresses = addresses("10.244.0.5", "192.168.7.2", "fd00:244::5")
			},
			guard.Choice{Why: left + ", and kube-proxy's rules send nothing into that", Gone: true},
		},
		{
			"no endpoints",
			func(_ *guard.Bridge, e *guard.Evidence) { e.Endpoints.Addresses = nil },
			guard.Choice{Why: left + ", and kube-proxy's rules send nothing into that", Gone: true},
		},
		{
			"the endpoint is the bridge's own address",
			func(_ *guard.Bridge, e *guard.Evidence) { e.Endpoints.Addresses = addresses("10.244.1.1") },
			guard.Choice{Why: left + ", and kube-proxy's rules send nothing into that", Gone: true},
		},
		{
			"the endpoint is another address of this host",
			func(_ *guard.Bridge, e *guard.Evidence) {
				e.Endpoints.Host = append(e.Endpoints.Host, prefixes("10.244.1.5/32")...)
			},
			guard.Choice{Why: left + ", and kube-proxy's rules send nothing into that", Gone: true},
		},
		{
			"one is this host, another is not",
			func(_ *guard.Bridge, e *guard.Evidence) {
				e.Endpoints.Addresses = addresses("10.244.1.1", "10.244.1.9")
			},
			guard.Choice{Kept: true, Why: kept + "10.244.1.9, in its network 10.244.1.0/24"},
		},
		{
			"the endpoint is in a smaller network of another device",
			func(b *guard.Bridge, e *guard.Evidence) {
				b.Addresses, e.Endpoints.Addresses = prefixes("10.244.0.1/16"), addresses("10.244.1.5")
				e.Endpoints.Host = prefixes("10.244.0.1/16", "10.244.1.1/24")
			},
			guard.Choice{Why: left + ", and kube-proxy's rules send nothing into that", Gone: true},
		},
		{
			"and in a larger one",
			func(_ *guard.Bridge, e *guard.Evidence) {
				e.Endpoints.Host = prefixes("10.244.1.1/24", "10.0.0.1/8")
			},
			guard.Choice{Kept: true, Why: kept + "10.244.1.5, in its network 10.244.1.0/24"},
		},
		{
			"the bridge has no address, and the rules could not be read",
			func(b *guard.Bridge, e *guard.Evidence) { b.Addresses, e.Endpoints.Err = nil, boom },
			guard.Choice{Why: left, Gone: true},
		},
		{
			"an uplink",
			func(b *guard.Bridge, _ *guard.Evidence) { b.Ports.Uplinks = 1 },
			guard.Choice{Why: left + ", and kube-proxy's rules are no evidence where a port is an uplink or a virtual machine's", Gone: true},
		},
		{
			"a virtual machine, and the rules could not be read",
			func(b *guard.Bridge, e *guard.Evidence) { b.Ports.VMs, e.Endpoints.Err = 1, boom },
			guard.Choice{Why: left + ", and kube-proxy's rules are no evidence where a port is an uplink or a virtual machine's", Gone: true},
		},
		{
			"no pod",
			func(b *guard.Bridge, _ *guard.Evidence) { b.Ports.Pods = 0 },
			guard.Choice{Why: "no port leads into another network namespace", Gone: true},
		},
		{
			"not all rules could be read, what was read is evidence",
			func(_ *guard.Bridge, e *guard.Evidence) { e.Endpoints.Err = boom },
			guard.Choice{Kept: true, Why: kept + "10.244.1.5, in its network 10.244.1.0/24"},
		},
		{
			"nor is what was read",
			func(_ *guard.Bridge, e *guard.Evidence) {
				e.Endpoints.Addresses, e.Endpoints.Err = addresses("10.244.9.9"), boom
			},
			guard.Choice{Why: left + ", and not all of kube-proxy's rules could be read", Err: boom},
		},
		{
			"the CNI configuration could not be read, and the rules are evidence",
			func(_ *guard.Bridge, e *guard.Evidence) { e.CNI.Err = boom },
			guard.Choice{Kept: true, Why: kept + "10.244.1.5, in its network 10.244.1.0/24"},
		},
		{
			"no port leads to a pod: whoever writes a Service's endpoints chooses where the rules send",
			func(_ *guard.Bridge, e *guard.Evidence) { e.Endpoints.Pods.IDs = []int{1, 2} },
			guard.Choice{Why: left + ", and none leads to a pod, although kube-proxy's rules send to 10.244.1.5, in its network 10.244.1.0/24", Gone: true},
		},
		{
			"it is not known where the pods are",
			func(_ *guard.Bridge, e *guard.Evidence) { e.Endpoints.Pods = guard.PodSpaces{Err: boom} },
			guard.Choice{Why: left + ", and not all pods are known", Err: boom},
		},
		{
			"the rules were not looked at",
			func(_ *guard.Bridge, e *guard.Evidence) { e.Endpoints = nil },
			guard.Choice{Why: left},
		},
		{
			"no pod for now, and the CNI configuration names it",
			func(b *guard.Bridge, e *guard.Evidence) {
				b.Ports.Pods, e.CNI.Networks = 0, []guard.Network{{Name: "n", Place: "/f", Bridge: b.Name}}
			},
			guard.Choice{Why: "no port leads into another network namespace"},
		},
		{
			"no pod, and the CNI configuration could not be read",
			func(b *guard.Bridge, e *guard.Evidence) { b.Ports.Pods, e.CNI.Err = 0, boom },
			guard.Choice{Why: "no port leads into another network namespace"},
		},
		{
			"the CNI configuration names it",
			func(b *guard.Bridge, e *guard.Evidence) {
				e.CNI.Networks = []guard.Network{{Name: "n", Place: "/f", Bridge: b.Name}}
			},
			guard.Choice{Kept: true, Why: "a port leads into other network namespaces, and /f (n) names it"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := guard.Bridge{Name: "podbr", Ports: guard.Ports{Pods: 1, Others: 1}, Addresses: prefixes("10.244.1.1/24"), Behind: []int{0}}
			e := guard.Evidence{Endpoints: &guard.Endpoints{
				Addresses: addresses("10.244.1.5", "10.244.2.5", "192.168.7.2"), Host: prefixes("127.0.0.1/8", "192.168.7.2/24", "10.244.1.1/24"),
				Pods: guard.PodSpaces{IDs: []int{7, 0}},
			}}
			tt.change(&b, &e)
			s := guard.Selection{Auto: true}
			if diff := cmp.Diff(tt.want, s.Choose(&b, &e), sameError); diff != "" {
				t.Errorf("choice (-want +got):\n%s", diff)
			}
		})
	}
}

// The rules are looked at only where that can make a difference.
func TestUndecided(t *testing.T) {
	named := guard.Evidence{CNI: guard.CNI{Networks: []guard.Network{{Bridge: "docker0"}}}}
	for _, tt := range []struct {
		name   string
		change func(s *guard.Selection, b *guard.Bridge, e *guard.Evidence)
		want   bool
	}{
		{"a pod, and nothing else is known", func(*guard.Selection, *guard.Bridge, *guard.Evidence) {}, true},
		{"CNI was not to be read", func(_ *guard.Selection, _ *guard.Bridge, e *guard.Evidence) { e.CNI.Err = errors.New("boom") }, true},
		{"CNI decides", func(_ *guard.Selection, _ *guard.Bridge, e *guard.Evidence) { *e = named }, false},
		{"by names", func(s *guard.Selection, _ *guard.Bridge, _ *guard.Evidence) { s.Auto = false }, false},
		{"ignored", func(s *guard.Selection, _ *guard.Bridge, _ *guard.Evidence) { s.Ignore = []string{"docker*"} }, false},
		{"no pod", func(_ *guard.Selection, b *guard.Bridge, _ *guard.Evidence) { b.Ports.Pods = 0 }, false},
		{"an uplink", func(_ *guard.Selection, b *guard.Bridge, _ *guard.Evidence) { b.Ports.Uplinks = 1 }, false},
		{"a virtual machine", func(_ *guard.Selection, b *guard.Bridge, _ *guard.Evidence) { b.Ports.VMs = 1 }, false},
		{"no address", func(_ *guard.Selection, b *guard.Bridge, _ *guard.Evidence) { b.Addresses = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guard.Selection{Auto: true}
			b := guard.Bridge{Name: "docker0", Ports: guard.Ports{Pods: 1}, Addresses: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}}
			var e guard.Evidence
			tt.change(&s, &b, &e)
			if got := s.Undecided(&b, &e); got != tt.want {
				t.Errorf("undecided: %t", got)
			}
		})
	}
}
