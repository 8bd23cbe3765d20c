package guard_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// told is each need with all that is said of it.
func told(o *guard.Observation) (lines []string) {
	for _, n := range guard.NeedsOf(o) {
		line := n.Family + " " + n.What + ": " + n.Have
		if n.Reason != "" {
			line += " (" + n.Reason + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

// TestNeedRows: what is said of the needs of a node, where it is another thing than
// on one of which all is there.
func TestNeedRows(t *testing.T) {
	off := guard.Value{State: guard.Present, Have: "0"}
	boom := errors.New("boom")
	first := func(o *guard.Observation) *guard.Path { return &o.Needs.Paths[0] }
	drops := guard.Forward{Fate: guard.FateDropsByPolicy, By: "the policy of FORWARD, in x"}
	both := func(o *guard.Observation) *guard.Path {
		o.Bridges[0].Addresses = []netip.Prefix{netip.MustParsePrefix("fd00:2::1/64")}
		o.Needs.Paths[1].Route.To = netip.MustParseAddr("fd00:2::3")
		return &o.Needs.Paths[1]
	}
	base, v6 := needing(), needing()
	both(v6)
	t.Run("all is there", func(t *testing.T) {
		if diff := cmp.Diff([]string{
			"IPv4 handed to netfilter: yes", "IPv4 proxy rules: iptables mode (nf_tables), IPv4 and IPv6", "IPv4 forwarding: on", "IPv4 FORWARD: accepts",
			"IPv4 route: what is for 10.200.2.3 goes out by cni0", "IPv4 rp_filter: lets it through", "IPv4 modules: there, as the rules show",
		}, told(base)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	for name, tt := range map[string]struct {
		change func(o *guard.Observation)
		want   []string
	}{
		"nothing": {change: func(*guard.Observation) {}},
		"the module is not known": {change: func(o *guard.Observation) { o.Module.State = guard.Unknown }, want: []string{
			"IPv4 handed to netfilter: not known",
		}},
		"the module is absent": {change: func(o *guard.Observation) { o.Module.State = guard.Absent }, want: []string{
			"IPv4 handed to netfilter: no (br_netfilter is not loaded)",
		}},
		"the key is 0": {change: func(o *guard.Observation) { o.On = [3]bool{} }, want: []string{
			"IPv4 handed to netfilter: no (net.bridge.bridge-nf-call-iptables is 0, and so is the bridge's own flag)",
		}},
		"kube-proxy was not looked at": {change: func(o *guard.Observation) { o.KubeProxy = nil }, want: []string{
			"IPv4 proxy rules: not looked at",
		}},
		"no rules": {change: func(o *guard.Observation) { o.KubeProxy.Rules = nil }, want: []string{
			"IPv4 proxy rules: none (no Service is reached before a proxy has written rules)",
		}},
		"another program's rules": {change: func(o *guard.Observation) {
			o.KubeProxy.Rules, o.Needs.Others = nil, []string{"the table ip x of nf_tables"}
		}, want: []string{
			"IPv4 proxy rules: none of kube-proxy; destinations are translated by the table ip x of nf_tables",
		}},
		"rules cannot be read": {change: func(o *guard.Observation) { o.KubeProxy.Rules, o.KubeProxy.RulesErr = nil, boom }, want: []string{
			"IPv4 proxy rules: could not look: boom",
		}},
		"rules of others cannot be read": {change: func(o *guard.Observation) { o.KubeProxy.Rules, o.Needs.OthersErr = nil, boom }, want: []string{
			"IPv4 proxy rules: could not look: boom",
		}},
		"forwarding is off": {change: func(o *guard.Observation) { o.Needs.Forwarding[0], first(o).Forwarding = off, off }, want: []string{
			"IPv4 forwarding: off (net.ipv4.ip_forward is 0: what a Service's rules have translated is not routed, and no Service answers)",
		}},
		"forwarding is off for the bridge": {change: func(o *guard.Observation) { first(o).Forwarding = off }, want: []string{
			"IPv4 forwarding: off for this bridge (net.ipv4.conf.cni0.forwarding is 0, although net.ipv4.ip_forward is 1: what comes in by the bridge is not routed, and no Service answers)",
		}},
		"forwarding is off, but not for the bridge": {change: func(o *guard.Observation) { o.Needs.Forwarding[0] = off }, want: []string{
			"IPv4 forwarding: on for this bridge; net.ipv4.ip_forward is 0, so replies of other nodes are not routed to it",
		}},
		"forwarding is not known": {change: func(o *guard.Observation) { first(o).Forwarding = guard.Value{} }, want: []string{
			"IPv4 forwarding: not known",
		}},
		"forwarding cannot be read": {change: func(o *guard.Observation) { first(o).Forwarding = guard.Value{Err: boom} }, want: []string{
			"IPv4 forwarding: could not look: boom",
		}},
		"forwarding of IPv6 is off": {change: func(o *guard.Observation) { both(o).Forwarding = off }, want: []string{
			"IPv6 forwarding: off; Services with an endpoint on this node do not need it in IPv6, those elsewhere do",
		}},
		"FORWARD drops": {change: func(o *guard.Observation) { first(o).Forward = drops }, want: []string{
			"IPv4 FORWARD: drops what nothing accepts: the policy of FORWARD, in x (pods on cni0 reach neither each other nor Services with an endpoint on this node while their packets are handed over)",
		}},
		"FORWARD drops, handed over or not": {change: func(o *guard.Observation) {
			first(o).Forward = drops
			first(o).Forward.Frame = true
		}, want: []string{
			"IPv4 FORWARD: drops what nothing accepts: the policy of FORWARD, in x (pods on cni0 do not reach each other)",
		}},
		"IPv6 is off on the bridge": {change: func(o *guard.Observation) { both(o).Off = true }, want: []string{
			"IPv6 route: IPv6 is off on the bridge (net.ipv6.conf.cni0.disable_ipv6 is 1: what Services' rules have translated is dropped there)",
		}},
		"a route elsewhere": {change: func(o *guard.Observation) { first(o).Route.State, first(o).Route.Device = guard.RouteElsewhere, "eth1" }, want: []string{
			"IPv4 route: what is for 10.200.2.3 goes out by eth1 (what a Service's rules have translated leaves the bridge, and does not arrive)",
		}},
		"no route": {change: func(o *guard.Observation) { first(o).Route.State = guard.RouteNone }, want: []string{
			"IPv4 route: none to 10.200.2.3 (the bridge has no address in the network of its pods, and no route leads there: what Services' rules have translated is dropped)",
		}},
		"no route to an IPv6 pod": {change: func(o *guard.Observation) { both(o).Route.State = guard.RouteNone }, want: []string{
			"IPv6 route: none to fd00:2::3 (the bridge has no address in the network of its pods, and no route leads there: what Services' rules have translated is dropped)",
		}},
		"the route cannot be asked": {change: func(o *guard.Observation) { first(o).Route = guard.Route{Err: boom} }, want: []string{
			"IPv4 route: could not look: boom",
		}},
		"no address to ask for": {change: func(o *guard.Observation) { first(o).Route = guard.Route{} }, want: []string{
			"IPv4 route: no address of a pod is known to ask for",
		}},
		"rp_filter drops": {change: func(o *guard.Observation) {
			first(o).Filtered = guard.Route{State: guard.RouteFiltered, From: netip.MustParseAddr("10.200.2.2"), Strict: "net.ipv4.conf.all.rp_filter"}
		}, want: []string{
			"IPv4 rp_filter: drops what comes from 10.200.2.2 (the node's way to 10.200.2.2 is not by cni0, and net.ipv4.conf.all.rp_filter is on: such a packet is taken for forged)",
		}},
		"rp_filter drops all": {change: func(o *guard.Observation) { first(o).Route.State = guard.RouteFiltered }, want: []string{
			"IPv4 route: see rp_filter",
		}},
		"a kernel lacks a module": {change: func(o *guard.Observation) { o.Needs.Lacks = []guard.Lack{{Module: "xt_comment", Release: "6.9"}} }, want: []string{
			"IPv4 modules: there, as the rules show; not xt_comment in the installed Linux 6.9",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := needing()
			tt.change(o)
			usual := told(base)
			if o.Bridges[0].Addresses[0].Addr().Is6() {
				usual = told(v6)
			}
			got := slices.DeleteFunc(told(o), func(l string) bool { return slices.Contains(usual, l) })
			if diff := cmp.Diff(tt.want, got); diff != "" && len(tt.want)+len(got) > 0 {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFindingsOfNeeds: the sentences of all findings about bridges.
func TestFindingsOfNeeds(t *testing.T) {
	off := guard.Value{State: guard.Present, Have: "0"}
	for name, tt := range map[string]struct {
		change func(o *guard.Observation)
		want   []string
	}{
		"nothing": {change: func(*guard.Observation) {}},
		"forwarding is off": {change: func(o *guard.Observation) { o.Needs.Forwarding[0], o.Needs.Paths[0].Forwarding = off, off }, want: []string{
			"pods on cni0 do not reach Services with an endpoint on this node over IPv4: net.ipv4.ip_forward is 0",
		}},
		"IPv6 is off on the bridge": {change: func(o *guard.Observation) {
			o.Bridges[0].Addresses = []netip.Prefix{netip.MustParsePrefix("fd00:2::1/64")}
			o.Needs.Paths[1].Off = true
		}, want: []string{
			"pods on cni0 do not reach Services with an endpoint on this node over IPv6: IPv6 is off on cni0",
		}},
		"FORWARD cannot be read": {change: func(o *guard.Observation) {
			o.On, o.Needs.Paths[0].Forward = [3]bool{}, guard.Forward{Err: errors.New("boom")}
		}, want: []string{
			"with net.bridge.bridge-nf-call-iptables = 1, FORWARD decides on what pods on cni0 send each other over IPv4, and it could not be read: boom",
		}},
		"FORWARD depends on a rule": {change: func(o *guard.Observation) {
			o.On, o.Needs.Paths[0].Forward = [3]bool{}, guard.Forward{By: "rule 1 of X"}
		}, want: []string{
			"with net.bridge.bridge-nf-call-iptables = 1, FORWARD decides on what pods on cni0 send each other over IPv4, and that depends on rule 1 of X",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, o := policy(), needing()
			p.Bridges = nil
			tt.change(o)
			var got []string
			for _, f := range append(guard.Ahead(p, o), guard.Concerns(p, o)...) {
				got = append(got, f.Sentence)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" && len(tt.want)+len(got) > 0 {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestConsequences: what a wrong value of a key breaks.
func TestConsequences(t *testing.T) {
	for name, tt := range map[string]struct {
		key   guard.Key
		value string
		want  string
	}{
		"iptables":            {guard.IPTables, "1", "a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address"},
		"ip6tables":           {guard.IP6Tables, "1", "the same as for iptables, for Services over IPv6"},
		"arptables":           {guard.ARPTables, "1", "arptables does not see bridged ARP"},
		"iptables, kept at 0": {guard.IPTables, "0", "the frames of every bridge pass through iptables, those of virtual machines, too"},
		"another key":         {"net.ipv4.ip_forward", "1", "not the value that is guarded"},
		"another key, at 0":   {"net.ipv4.ip_forward", "0", "not the value that is guarded"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &guard.Policy{Mode: guard.Enforce}
			o := &guard.Observation{Module: guard.Module{State: guard.Present}}
			got := guard.PlanSysctl(p, o, guard.Setting{Key: tt.key, Value: tt.value}, guard.Value{State: guard.Present, Have: "7"})
			if got.Reason != tt.want {
				t.Errorf("it says %q, want %q", got.Reason, tt.want)
			}
		})
	}
}

// TestMeaningOfBridges: at ten things to say of bridges, and at one more.
func TestMeaningOfBridges(t *testing.T) {
	for n, want := range map[int]string{
		1: "pods on b0 will not reach Services with an endpoint on this node: their packets are handed to netfilter, but what is for 10.0.0.0 goes out by eth0",
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if got := guard.Meaning(policy(), elsewhere(n)); got != want {
				t.Errorf("it says %q, want %q", got, want)
			}
		})
	}
	const more = "; of other bridges, 1 more such things: see what they need"
	for n, want := range map[int]bool{10: false, 11: true} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if got := guard.Meaning(policy(), elsewhere(n)); strings.HasSuffix(got, more) != want || strings.Contains(got, "such things") != want {
				t.Errorf("it says %q", got)
			}
		})
	}
}

// elsewhere is a node with so many bridges, each with a trouble of its own.
func elsewhere(n int) *guard.Observation {
	o := needing()
	o.KubeProxy.Rules = []guard.Rules{{Mode: "iptables", Backend: "nf_tables", IPv4: true}}
	path := o.Needs.Paths[0]
	o.Bridges, o.Needs.Paths = nil, nil
	for i := range n {
		name := fmt.Sprint("b", i)
		o.Bridges = append(o.Bridges, guard.Bridge{Name: name, Ports: guard.Ports{Pods: 1}})
		path.Bridge, path.Route.State, path.Route.Device = name, guard.RouteElsewhere, fmt.Sprint("eth", i)
		path.Route.To = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		o.Needs.Paths = append(o.Needs.Paths, path)
	}
	return o
}

// TestManyNames: a sentence names ten, and counts the rest.
func TestManyNames(t *testing.T) {
	for n, want := range map[int]string{
		9:  "pods on b0, b1, b2, b3, b4, b5, b6, b7 and b8 will",
		10: "pods on b0, b1, b2, b3, b4, b5, b6, b7, b8 and b9 will",
		11: "pods on b0, b1, b2, b3, b4, b5, b6, b7, b8, b9 and 1 more will",
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			o := &guard.Observation{Module: guard.Module{State: guard.Present}}
			for i := range n {
				o.Bridges = append(o.Bridges, guard.Bridge{Name: fmt.Sprint("b", i), Ports: guard.Ports{Pods: 1}})
			}
			want += " not reach Services with an endpoint on this node: their packets are not handed to netfilter"
			if got := guard.Meaning(policy(), o); got != want {
				t.Errorf("it says %q, want %q", got, want)
			}
		})
	}
}

// TestImpactInWords: a number that is not all says so.
func TestImpactInWords(t *testing.T) {
	for name, tt := range map[string]struct {
		i    guard.Impact
		want string
	}{
		"one":           {guard.Impact{Connections: 1, Pods: 1}, "1 connection of 1 pod through Services"},
		"several":       {guard.Impact{Connections: 3, Pods: 2}, "3 connections of 2 pods through Services"},
		"more than all": {guard.Impact{Connections: 3, Pods: 2, More: true}, "at least 3 connections of 2 pods through Services"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.i.Describe(); got != tt.want {
				t.Errorf("it is %q, want %q", got, tt.want)
			}
		})
	}
}
