package guard_test

import (
	"net/netip"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestBypassing: which answers bypass netfilter, by what the bridges hand over.
func TestBypassing(t *testing.T) {
	bridge := func(name string, index int, pods int, networks ...string) guard.Bridge {
		b := guard.Bridge{Name: name, Index: index, Ports: guard.Ports{Pods: pods}}
		for _, n := range networks {
			b.Addresses = append(b.Addresses, netip.MustParsePrefix(n))
		}
		return b
	}
	cni := bridge("cni0", 3, 2, "10.244.0.1/24", "fd00:244::1/64", "fe80::1/64")
	flagged := cni
	flagged.CallIPTables = true
	loaded := guard.Module{State: guard.Present}
	for _, tt := range []struct {
		name             string
		o                guard.Observation
		client, endpoint string
		want             string // the bridge
	}{
		{"both behind it", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}}, "10.244.0.31", "10.244.0.32", "cni0"},
		{"IPv6", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}}, "fd00:244::31", "fd00:244::32", "cni0"},
		{"the module is not loaded", guard.Observation{Module: guard.Module{State: guard.Absent}, Bridges: []guard.Bridge{flagged}, On: [3]bool{true, true}}, "10.244.0.31", "10.244.0.32", "cni0"},
		{"the sysctl hands over", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}, On: [3]bool{true}}, "10.244.0.31", "10.244.0.32", ""},
		{"that of IPv4 says nothing of IPv6", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}, On: [3]bool{true}}, "fd00:244::31", "fd00:244::32", "cni0"},
		{"the bridge's flag hands over", guard.Observation{Module: loaded, Bridges: []guard.Bridge{flagged}}, "10.244.0.31", "10.244.0.32", ""},
		{"an endpoint elsewhere", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}}, "10.244.0.31", "10.244.1.32", ""},
		{"a client elsewhere", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}}, "10.244.1.31", "10.244.0.32", ""},
		{"the pod's own Service, which is masqueraded", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}}, "10.244.0.31", "10.244.0.31", ""},
		{"two bridges", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni, bridge("br1", 4, 1, "10.9.0.1/24")}}, "10.244.0.31", "10.9.0.32", ""},
		{"link-local addresses", guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}}, "fe80::31", "fe80::32", ""},
		{"a bridge without pods", guard.Observation{Module: loaded, Bridges: []guard.Bridge{bridge("br0", 3, 0, "10.244.0.1/24")}}, "10.244.0.31", "10.244.0.32", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if b := tt.o.Bypassing().Of(&guard.Flow{Client: netip.MustParseAddr(tt.client), Endpoint: netip.MustParseAddr(tt.endpoint)}); b != nil {
				got = b.Bridge
			}
			if got != tt.want {
				t.Errorf("by %q, want %q", got, tt.want)
			}
		})
	}
}
