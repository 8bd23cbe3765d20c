package guard_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

func TestKeyPath(t *testing.T) {
	for key, want := range map[guard.Key]string{
		guard.IPTables:                     "net/bridge/bridge-nf-call-iptables",
		"net.ipv4.conf.eth0/100.rp_filter": "net/ipv4/conf/eth0.100/rp_filter",
		"kernel.pid_max":                   "kernel/pid_max",
	} {
		if got := key.Path(); got != want {
			t.Errorf("%s: path %q, want %q", key, got, want)
		}
	}
}

func TestSameValue(t *testing.T) {
	tests := []struct {
		have, want string
		same       bool
	}{
		{"1", "1", true},
		{"0", "1", false},
		{"4096\t131072\t6291456", "4096 131072 6291456", true},
		{"4096\t131072", "4096 131072 6291456", false},
		{"1 2", "1 3", false},
		{"", "", true},
		{"", "0", false},
	}
	for _, tt := range tests {
		if got := guard.SameValue(tt.have, tt.want); got != tt.same {
			t.Errorf("SameValue(%q, %q) = %v", tt.have, tt.want, got)
		}
	}
}

func policy() *guard.Policy {
	return &guard.Policy{
		Mode: guard.Enforce, Module: "br_netfilter",
		Sysctls: []guard.Setting{
			{Key: guard.IPTables, Value: "1"}, {Key: guard.IP6Tables, Value: "1"}, {Key: guard.ARPTables, Value: "0"},
		},
		ModulesLoad: "/m", SysctlD: "/s",
	}
}

func present(v string) guard.Value { return guard.Value{State: guard.Present, Have: v} }

// right is a host as policy wants it.
func right() *guard.Observation {
	o := &guard.Observation{
		Module: guard.Module{State: guard.Present},
		Values: []guard.Value{present("1"), present("1"), present("0")},
	}
	p := policy()
	o.Dropins = []guard.Dropin{
		{Path: "/m", State: guard.Present, Have: p.ModulesLoadText()},
		{Path: "/s", State: guard.Present, Have: p.SysctlText(o)},
	}
	return o
}

func TestPlanFor(t *testing.T) {
	boom := errors.New("boom")
	const needed = "a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address"
	tests := []struct {
		name   string
		policy func(p *guard.Policy)
		host   func(o *guard.Observation)
		want   []guard.Item // those that are not Right
	}{
		{name: "all is right"},
		{
			name: "module absent: the keys wait for it",
			host: func(o *guard.Observation) {
				o.Module.State = guard.Absent
				o.Values = []guard.Value{{State: guard.Absent}, {State: guard.Absent}, {State: guard.Absent}}
			},
			want: []guard.Item{
				{
					Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Wrong, Want: "loaded", Have: "not loaded",
					Reason: "without it no bridged packet is handed to iptables", Action: &guard.Action{Op: guard.LoadModule, Subject: "br_netfilter"},
				},
				{Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Wrong, Want: "1", Have: "absent", Reason: "it comes with br_netfilter, which is not loaded"},
				{Kind: record.KindDrift, Subject: string(guard.IP6Tables), Verdict: guard.Wrong, Want: "1", Have: "absent", Reason: "it comes with br_netfilter, which is not loaded"},
				{Kind: record.KindDrift, Subject: string(guard.ARPTables), Verdict: guard.Wrong, Want: "0", Have: "absent", Reason: "it comes with br_netfilter, which is not loaded"},
			},
		},
		{
			name:   "module absent and forbidden, with override",
			policy: func(p *guard.Policy) { p.Override = true; p.Sysctls = nil; p.SysctlD = "" },
			host: func(o *guard.Observation) {
				o.Module.State, o.Values, o.Dropins = guard.Absent, nil, o.Dropins[:1]
			},
			want: []guard.Item{{
				Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Wrong, Want: "loaded", Have: "not loaded",
				Reason: "without it no bridged packet is handed to iptables", Action: &guard.Action{Op: guard.LoadModule, Subject: "br_netfilter", Force: true},
			}},
		},
		{
			name: "an obstacle: no action",
			host: func(o *guard.Observation) {
				o.Module = guard.Module{State: guard.Absent, Obstacle: &guard.Obstacle{Reason: "modules are off", Next: "reboot"}}
			},
			want: []guard.Item{{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Blocked, Want: "loaded", Have: "not loaded", Reason: "modules are off", Next: "reboot"}},
		},
		{
			name: "an obstacle: the keys do not say why",
			host: func(o *guard.Observation) {
				o.Module = guard.Module{State: guard.Absent, Obstacle: &guard.Obstacle{Reason: "built in, and hidden", Next: "on the host"}}
				o.Values = []guard.Value{{State: guard.Absent}, {State: guard.Absent}, {State: guard.Absent}}
			},
			want: []guard.Item{
				{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Blocked, Want: "loaded", Have: "not loaded", Reason: "built in, and hidden", Next: "on the host"},
				{Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Wrong, Want: "1", Have: "absent", Reason: "it comes with br_netfilter: see there"},
				{Kind: record.KindDrift, Subject: string(guard.IP6Tables), Verdict: guard.Wrong, Want: "1", Have: "absent", Reason: "it comes with br_netfilter: see there"},
				{Kind: record.KindDrift, Subject: string(guard.ARPTables), Verdict: guard.Wrong, Want: "0", Have: "absent", Reason: "it comes with br_netfilter: see there"},
			},
		},
		{
			name: "module unknown, key unreadable, drop-in unreadable: nothing is done",
			host: func(o *guard.Observation) {
				o.Module = guard.Module{Err: boom}
				o.Values[0] = guard.Value{Err: boom}
				o.Dropins[0] = guard.Dropin{Path: "/m", Err: boom}
			},
			want: []guard.Item{
				{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Uncertain, Want: "loaded", Reason: "could not look: boom", Err: boom},
				{Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Uncertain, Want: "1", Reason: "could not look: boom", Err: boom},
				{Kind: record.KindDropin, Subject: "/m", Verdict: guard.Uncertain, Want: "as written by nfguard", Reason: "could not look: boom", Err: boom},
			},
		},
		{
			name: "a foreign value",
			host: func(o *guard.Observation) { o.Values[0] = present("0") },
			want: []guard.Item{{
				Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Wrong, Want: "1", Have: "0", Reason: needed,
				Action: &guard.Action{Op: guard.SetSysctl, Subject: string(guard.IPTables), Value: "1"},
			}},
		},
		{
			name: "arptables wanted 0 and set to 1",
			host: func(o *guard.Observation) { o.Values[2] = present("1") },
			want: []guard.Item{{
				Kind: record.KindDrift, Subject: string(guard.ARPTables), Verdict: guard.Wrong, Want: "0", Have: "1", Reason: "the frames of every bridge pass through arptables, those of virtual machines, too",
				Action: &guard.Action{Op: guard.SetSysctl, Subject: string(guard.ARPTables), Value: "0"},
			}},
		},
		{
			name: "module there, key not: another kernel's key",
			host: func(o *guard.Observation) { o.Values[1] = guard.Value{State: guard.Absent} },
			want: []guard.Item{{
				Kind: record.KindDrift, Subject: string(guard.IP6Tables), Verdict: guard.Blocked, Want: "1", Have: "absent",
				Reason: "this kernel has no such key", Next: `check the spelling, or set it to "ignore" under [sysctl]`,
			}},
		},
		{
			name: "IPv6 off, key at 0: left, and kept out of the drop-in",
			host: func(o *guard.Observation) {
				o.IPv6Off = true
				o.Values[1] = present("0")
				o.Dropins[1].Have = policy().SysctlText(o)
			},
			want: []guard.Item{{
				Kind: record.KindDrift, Subject: string(guard.IP6Tables), Verdict: guard.Excused, Want: "1", Have: "0",
				Reason: "IPv6 is switched off in this kernel, and with 1 it would drop every bridged IPv6 frame",
			}},
		},
		{
			name: "IPv6 off, key at 1: said, not touched",
			host: func(o *guard.Observation) { o.IPv6Off = true; o.Dropins[1].Have = policy().SysctlText(o) },
			want: []guard.Item{{
				Kind: record.KindDrift, Subject: string(guard.IP6Tables), Verdict: guard.Excused, Want: "1", Have: "1",
				Reason: "IPv6 is switched off in this kernel: it drops every bridged IPv6 frame now",
				Next:   `if IPv6 frames have to cross a bridge, set it to 0 yourself and to "ignore" under [sysctl]`,
			}},
		},
		{
			name: "drop-ins absent and changed",
			host: func(o *guard.Observation) {
				o.Dropins[0] = guard.Dropin{Path: "/m", State: guard.Absent}
				o.Dropins[1].Have += "net.ipv4.ip_forward = 0\n"
			},
			want: []guard.Item{
				{
					Kind: record.KindDropin, Subject: "/m", Verdict: guard.Wrong, Want: "as written by nfguard", Have: "absent",
					Reason: "nothing else makes sure of it at the next boot, until nfguard has started",
					Action: &guard.Action{Op: guard.WriteFile, Subject: "/m", Value: policy().ModulesLoadText(), Modules: true},
				},
				{
					Kind: record.KindDropin, Subject: "/s", Verdict: guard.Wrong, Want: "as written by nfguard", Have: "changed",
					Reason: "it is not what nfguard wrote",
					Action: &guard.Action{Op: guard.WriteFile, Subject: "/s", Value: policy().SysctlText(right())},
				},
			},
		},
		{
			name: "drop-ins absent, and others do the same: a note",
			host: func(o *guard.Observation) {
				o.Dropins[0] = guard.Dropin{Path: "/m", State: guard.Absent, Carried: "/etc/modules-load.d/k8s.conf:2"}
			},
			want: []guard.Item{{
				Kind: record.KindDropin, Subject: "/m", Verdict: guard.Excused, Want: "as written by nfguard", Have: "absent",
				Reason: "not needed for the next boot: /etc/modules-load.d/k8s.conf:2 does the same",
				Action: &guard.Action{Op: guard.WriteFile, Subject: "/m", Value: policy().ModulesLoadText(), Modules: true},
			}},
		},
		{
			name: "/proc/sys is mounted read-only",
			host: func(o *guard.Observation) {
				o.Values[0] = guard.Value{State: guard.Present, Have: "0", ReadOnly: true}
				o.Values[1].ReadOnly = true
			},
			want: []guard.Item{{
				Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Blocked, Want: "1", Have: "0",
				Reason: "a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address; " +
					"it cannot be set from here, where /proc/sys is mounted read-only",
				Next: "set it on the host: sysctl -w net.bridge.bridge-nf-call-iptables=1",
			}},
		},
		{
			name: "somebody else's files at the paths of drop-ins: left",
			host: func(o *guard.Observation) {
				o.Dropins[0] = guard.Dropin{Path: "/m", State: guard.Present, Have: "overlay\n" + policy().ModulesLoadText()}
				o.Dropins[1] = guard.Dropin{Path: "/s", State: guard.Present}
			},
			want: []guard.Item{
				{
					Kind: record.KindDropin, Subject: "/m", Verdict: guard.Blocked, Want: "as written by nfguard", Have: "somebody else's",
					Reason: "its first line does not say that nfguard wrote it, so it is left as it is",
					Next:   "move it away if nobody needs it there, or name another file: modules_load under [persist]",
				},
				{
					Kind: record.KindDropin, Subject: "/s", Verdict: guard.Blocked, Want: "as written by nfguard", Have: "somebody else's",
					Reason: "its first line does not say that nfguard wrote it, so it is left as it is",
					Next:   "move it away if nobody needs it there, or name another file: sysctl under [persist]",
				},
			},
		},
		{
			name: "a FIFO at the path of a drop-in: left",
			host: func(o *guard.Observation) {
				o.Dropins[0] = guard.Dropin{Path: "/m", State: guard.Present, Have: "a FIFO", Obstacle: policy().NotAFile("/m", "a FIFO")}
			},
			want: []guard.Item{{
				Kind: record.KindDropin, Subject: "/m", Verdict: guard.Blocked, Want: "as written by nfguard", Have: "a FIFO",
				Reason: "it is a FIFO, not a regular file, and is left as it is",
				Next:   "move it away if nobody needs it there, or name another file: modules_load under [persist]",
			}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, o := policy(), right()
			if tt.policy != nil {
				tt.policy(p)
			}
			if tt.host != nil {
				tt.host(o)
			}
			var got []guard.Item
			for _, it := range guard.PlanFor(p, o) {
				if it.Verdict != guard.Right {
					got = append(got, it)
				}
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDropinText(t *testing.T) {
	const head = "# Written by nfguard, see nfguard(8). A change made here is put back:\n" +
		"# what is kept is decided in /etc/nfguard/nfguard.toml.\n"
	p := policy()
	if diff := cmp.Diff(head+"br_netfilter\n", p.ModulesLoadText()); diff != "" {
		t.Errorf("modules-load.d (-want +got):\n%s", diff)
	}
	want := head + "net.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-arptables = 0\n"
	if diff := cmp.Diff(want, p.SysctlText(&guard.Observation{IPv6Off: true})); diff != "" {
		t.Errorf("sysctl.d (-want +got):\n%s", diff)
	}
}

func TestOpString(t *testing.T) {
	got := []string{guard.LoadModule.String(), guard.SetSysctl.String(), guard.WriteFile.String(), guard.SetFlags.String(), guard.ClearFlags.String(), guard.Op(0).String()}
	if diff := cmp.Diff([]string{"load", "set", "write", "flag", "unflag", "?"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDeviceOfKey(t *testing.T) {
	for key, want := range map[guard.Key]string{
		"net.ipv4.conf.eth1.rp_filter":             "eth1",
		"net.ipv4.conf.eth0/100.rp_filter":         "eth0.100",
		"net.ipv6.neigh.wlan0.base_reachable_time": "wlan0",
		"net.mpls.conf.eth2.input":                 "eth2",
		"net.ipv4.conf.all.rp_filter":              "",
		"net.ipv6.conf.default.accept_ra":          "",
		"net.ipv4.ip_forward":                      "",
		"net.netfilter.nf_conntrack_max":           "",
		"vm.swappiness":                            "",
		guard.IPTables:                             "",
	} {
		if got := key.Device(); got != want {
			t.Errorf("%s is of %q, want %q", key, got, want)
		}
	}
}

// A sentence names ten bridges, and counts the rest.
func TestMeaningOfManyBridges(t *testing.T) {
	o := guard.Observation{Module: guard.Module{State: guard.Present}}
	for i := range 10_000 {
		o.Bridges = append(o.Bridges, guard.Bridge{Name: fmt.Sprint("br", i), Index: i + 1, Ports: guard.Ports{Pods: 1}})
	}
	want := "pods on br0, br1, br2, br3, br4, br5, br6, br7, br8, br9 and 9990 more will not reach Services with an endpoint on this node: their packets are not handed to netfilter"
	if got := guard.Meaning(&guard.Policy{Mode: guard.Enforce}, &o); got != want {
		t.Errorf("got %.300s", got)
	}
}
