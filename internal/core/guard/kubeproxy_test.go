package guard_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

var (
	proxy  = guard.Process{PID: 4242, Comm: "kube-proxy", Unit: "kube-proxy.service"}
	nft    = guard.Rules{Mode: "iptables", Backend: "nf_tables", IPv4: true, IPv6: true}
	legacy = guard.Rules{Mode: "iptables", Backend: "legacy", IPv4: true}
)

func TestKubeProxyState(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name     string
		k        *guard.KubeProxy
		state    guard.ProxyState
		describe string
	}{
		{"never looked at", nil, guard.ProxyUnknown, ""},
		{"nothing", &guard.KubeProxy{}, guard.ProxyAbsent, "no process that is known; no rules"},
		{
			"a process", &guard.KubeProxy{Processes: []guard.Process{proxy}}, guard.ProxyStarting,
			"kube-proxy[4242] (kube-proxy.service); no rules",
		},
		{
			"a process and rules", &guard.KubeProxy{Processes: []guard.Process{proxy}, Rules: []guard.Rules{nft}}, guard.ProxyProgrammed,
			"kube-proxy[4242] (kube-proxy.service); iptables mode (nf_tables), IPv4 and IPv6",
		},
		{
			"rules of an unknown program", &guard.KubeProxy{Rules: []guard.Rules{{Mode: "nftables", IPv6: true}}}, guard.ProxyProgrammed,
			"no process that is known; nftables mode, IPv6",
		},
		{
			"in a container", &guard.KubeProxy{Processes: []guard.Process{{PID: 7, Comm: "kube-proxy", Container: "0123456789abcdef", Unit: "cri-containerd-0.scope"}}},
			guard.ProxyStarting, "kube-proxy[7] (container 0123456789ab); no rules",
		},
		{
			"rules could not be looked at", &guard.KubeProxy{Processes: []guard.Process{proxy}, RulesErr: boom}, guard.ProxyUnknown,
			"kube-proxy[4242] (kube-proxy.service); rules unknown: boom",
		},
		{
			"processes could not be looked at", &guard.KubeProxy{ProcessesErr: boom}, guard.ProxyUnknown,
			"processes unknown: boom; no rules",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.k.State(); got != tt.state {
				t.Errorf("state %s, want %s", got, tt.state)
			}
			if tt.k == nil {
				return
			}
			if diff := cmp.Diff(tt.describe, tt.k.Describe()); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBothBackends(t *testing.T) {
	k := &guard.KubeProxy{Rules: []guard.Rules{nft, legacy}}
	want := []guard.Finding{{
		Subject: "kube-proxy",
		Sentence: "IPv4 rules of kube-proxy are in both backends of iptables, nf_tables and legacy: " +
			"the kernel runs both, one of them is not kept up to date, and its stale endpoints take a part of the connections",
		Next: "find out which one kube-proxy writes (iptables --version where it runs), then remove the other's rules: " +
			"kube-proxy --cleanup with the other iptables, or a reboot",
	}}
	if diff := cmp.Diff(want, k.Findings()); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	v6 := legacy
	v6.IPv4, v6.IPv6 = false, true
	v4 := nft
	v4.IPv6 = false
	k.Rules = []guard.Rules{v4, v6}
	if got := k.Findings(); got != nil {
		t.Errorf("a backend for each family: %v", got)
	}
	k = nil
	if got := k.Findings(); got != nil {
		t.Errorf("never looked at: %v", got)
	}
}

func TestMeaning(t *testing.T) {
	cni := guard.Bridge{Name: "cnio0", Ports: guard.Ports{Pods: 2}}
	flagged := guard.Bridge{Name: "cbr0", Ports: guard.Ports{Pods: 1}, CallIPTables: true}
	vms := guard.Bridge{Name: "virbr0", Ports: guard.Ports{VMs: 3}}
	served := &guard.KubeProxy{Rules: []guard.Rules{legacy}}
	dual := &guard.KubeProxy{Rules: []guard.Rules{nft}}
	loaded := guard.Module{State: guard.Present}
	with := func(addresses ...string) guard.Bridge {
		b := cni
		for _, a := range addresses {
			b.Addresses = append(b.Addresses, netip.MustParsePrefix(a))
		}
		return b
	}
	alone, double, noGateway := with("10.200.2.1/24", "fe80::1/64"), with("10.200.2.1/24", "fd00::1/64", "fe80::1/64"), with("fe80::1/64")
	tests := []struct {
		name string
		o    guard.Observation
		mode guard.Mode
		want string
	}{
		{
			name: "all is well", o: guard.Observation{Module: loaded, On: [3]bool{true, true}, Bridges: []guard.Bridge{cni, vms}, KubeProxy: served},
			want: "the packets of pods on cnio0 are handed to netfilter",
		},
		{
			name: "sysctl 0", o: guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni}, KubeProxy: served},
			want: "pods on cnio0 will not reach Services with an endpoint on this node: their packets are not handed to netfilter",
		},
		{
			name: "sysctl 0, one bridge with its flag", o: guard.Observation{Module: loaded, Bridges: []guard.Bridge{cni, flagged}, KubeProxy: served},
			want: "the packets of pods on cbr0 are handed to netfilter; pods on cnio0 will not reach Services with an endpoint on this node: their packets are not handed to netfilter",
		},
		{
			name: "IPv6 only is off", o: guard.Observation{Module: loaded, On: [3]bool{true, false}, Bridges: []guard.Bridge{cni}, KubeProxy: dual},
			want: "the packets of pods on cnio0 (IPv4) are handed to netfilter; pods on cnio0 (IPv6) will not reach Services with an endpoint on this node: their packets are not handed to netfilter",
		},
		{
			name: "kube-proxy serves both, the bridge has no IPv6 but fe80::", o: guard.Observation{
				Module: loaded, On: [3]bool{true, false}, Bridges: []guard.Bridge{alone}, KubeProxy: dual,
			},
			want: "the packets of pods on cnio0 are handed to netfilter",
		},
		{
			name: "the bridge has both", o: guard.Observation{Module: loaded, On: [3]bool{true, true}, Bridges: []guard.Bridge{double}, KubeProxy: dual},
			want: "the packets of pods on cnio0 (IPv4) and cnio0 (IPv6) are handed to netfilter",
		},
		{
			name: "the bridge is no gateway", o: guard.Observation{Module: loaded, On: [3]bool{true, true}, Bridges: []guard.Bridge{noGateway}, KubeProxy: dual},
			want: "the packets of pods on cnio0 (IPv4) and cnio0 (IPv6) are handed to netfilter",
		},
		{
			name: "no module: the flags do nothing", o: guard.Observation{Module: guard.Module{State: guard.Absent}, Bridges: []guard.Bridge{flagged}, KubeProxy: served},
			want: "pods on cbr0 will not reach Services with an endpoint on this node: their packets are not handed to netfilter",
		},
		{
			name: "no kube-proxy", o: guard.Observation{Module: loaded, On: [3]bool{true}, Bridges: []guard.Bridge{cni}, KubeProxy: &guard.KubeProxy{}},
			want: "the packets of pods on cnio0 are handed to netfilter; there are no rules of a kube-proxy",
		},
		{
			name: "no pods on a bridge", o: guard.Observation{Module: loaded, Bridges: []guard.Bridge{vms}, KubeProxy: served},
			want: "no Linux bridge carries pods here: the setting is not needed, and is kept because mode = enforce",
		},
		{
			name: "no pods on a bridge, observed", mode: guard.Observe,
			want: "no Linux bridge carries pods here: the setting is not needed",
		},
		{
			name: "bridges unknown", o: guard.Observation{Bridging: errors.New("boom")},
			want: "whether a bridge carries pods here could not be told: boom",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := policy()
			if tt.mode != "" {
				p.Mode = tt.mode
			}
			if diff := cmp.Diff(tt.want, guard.Meaning(p, &tt.o)); diff != "" {
				t.Errorf("meaning (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	var got guard.Ports
	for _, p := range []struct {
		kind string
		away bool
	}{{"veth", true}, {"veth", true}, {"veth", false}, {"tun", false}, {"", false}, {"bond", false}, {"vlan", false}, {"vxlan", false}, {"dummy", false}} {
		got.Count(p.kind, p.away)
	}
	if diff := cmp.Diff(guard.Ports{Pods: 2, VMs: 1, Uplinks: 4, Others: 2}, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

func TestSetValues(t *testing.T) {
	p := &guard.Policy{Sysctls: []guard.Setting{{Key: guard.IP6Tables, Value: "1"}, {Key: "net.ipv4.ip_forward", Value: "1"}}}
	o := guard.Observation{On: [3]bool{true, true, false}}
	o.SetValues(p, []guard.Value{present("0"), present("1")})
	if diff := cmp.Diff([3]bool{true, false, false}, o.On); diff != "" {
		t.Errorf("a guarded key is as it was looked at last, the others as surveyed (-want +got):\n%s", diff)
	}
}

func TestFamily(t *testing.T) {
	for f, want := range map[guard.Family]string{guard.IPv4: "IPv4", guard.IPv6: "IPv6", guard.ARP: "ARP", 9: "?"} {
		if got := f.String(); got != want {
			t.Errorf("%d is %q, want %q", f, got, want)
		}
	}
	for f, want := range map[guard.Family]guard.Key{guard.IPv4: guard.IPTables, guard.IPv6: guard.IP6Tables, guard.ARP: guard.ARPTables} {
		if got := f.Key(); got != want {
			t.Errorf("%s is decided by %s, want %s", f, got, want)
		}
	}
	all := guard.Bridge{CallIPTables: true, CallIP6Tables: true, CallARPTables: true}
	for _, f := range []guard.Family{guard.IPv4, guard.IPv6, guard.ARP} {
		none := guard.Bridge{}
		if !all.Effective(f, false) || !none.Effective(f, true) || none.Effective(f, false) {
			t.Errorf("%s: effective is the sysctl or the flag", f)
		}
	}
	if all.Effective(9, true) {
		t.Error("an unknown family is handed over")
	}
}
