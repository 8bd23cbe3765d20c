package keep_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

func process(pid int) guard.Process {
	return guard.Process{PID: pid, Comm: "kube-proxy", Unit: "kube-proxy.service", Started: time.Duration(pid)}
}

var (
	nftRules    = guard.Rules{Mode: "iptables", Backend: "nf_tables", IPv4: true}
	legacyRules = guard.Rules{Mode: "iptables", Backend: "legacy", IPv4: true}
)

// TestKubeProxy is the life of a kube-proxy, look by look.
func TestKubeProxy(t *testing.T) {
	const findingOf = "kube_proxy observed: IPv4 rules of kube-proxy are in both backends of iptables, nf_tables and legacy: " +
		"the kernel runs both, one of them is not kept up to date, and its stale endpoints take a part of the connections"
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	h, rec, r := settled(t, p)
	h.SetBridges(guard.Bridge{Name: "cnio0", Index: 3})
	r.Pass(t.Context(), keep.Trigger{Source: "link"})
	rec.events = nil
	boom := errors.New("operation not permitted")
	steps := []struct {
		name  string
		do    func()
		look  guard.Look
		want  []string
		state guard.ProxyState
	}{
		{
			name: "looked at for the first time, there is none", look: guard.LookKubeProxy, state: guard.ProxyAbsent,
		},
		{
			name:  "it starts on a node that is ready",
			do:    func() { h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(1)}}) },
			look:  guard.LookKubeProxy,
			state: guard.ProxyStarting,
			want: []string{"kube_proxy observed: kube-proxy[1] started (kube-proxy.service, no rules); " +
				"the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, 1 bridge (cnio0)"},
		},
		{
			name: "its rules appear, and this is not looked at", state: guard.ProxyStarting,
			do: func() {
				h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(1)}, Rules: []guard.Rules{nftRules}})
			},
		},
		{
			name: "now it is", look: guard.LookKubeProxy, state: guard.ProxyProgrammed,
			want: []string{"kube_proxy observed: kube-proxy's rules are there: iptables mode (nf_tables), IPv4, … after its start; " +
				"the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, 1 bridge (cnio0)"},
		},
		{
			name: "rules in the other backend as well", look: guard.LookKubeProxy, state: guard.ProxyProgrammed,
			do: func() {
				h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(1)}, Rules: []guard.Rules{nftRules, legacyRules}})
			},
			want: []string{
				findingOf,
				"kube_proxy observed: kube-proxy's rules have changed: iptables mode (nf_tables), IPv4 and iptables mode (legacy), IPv4; " +
					"the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, 1 bridge (cnio0)",
			},
		},
		{
			name: "the rules can't be looked at: nothing is said to be gone", look: guard.LookKubeProxy, state: guard.ProxyProgrammed,
			do: func() {
				h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(1)}, RulesErr: boom, ProcessesErr: boom})
			},
		},
		{
			name: "restarted while a key is 0", look: guard.LookKubeProxy, state: guard.ProxyProgrammed,
			do: func() {
				h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(2)}, Rules: []guard.Rules{nftRules}})
				h.Write(guard.IPTables, "0")
			},
			want: []string{
				"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, after at most … (nobody was seen writing it)",
				"kube_proxy corrected: kube-proxy[2] started (kube-proxy.service, iptables mode (nf_tables), IPv4), in place of kube-proxy[1]; " +
					"the node was not ready: net.bridge.bridge-nf-call-iptables was 0; it was made so within …",
				strings.Replace(findingOf, "observed: ", "observed: no longer so: ", 1),
			},
		},
		{
			name: "it ends and leaves its rules", look: guard.LookKubeProxy, state: guard.ProxyGone,
			do: func() { h.SetKubeProxy(guard.KubeProxy{Rules: []guard.Rules{nftRules}}) },
			want: []string{
				"kube_proxy observed: kube-proxy[2] ended; its rules stay and are no longer kept up to date: iptables mode (nf_tables), IPv4",
			},
		},
		{
			name: "the rules are flushed", look: guard.LookKubeProxy, state: guard.ProxyGone,
			do:   func() { h.SetKubeProxy(guard.KubeProxy{}) },
			want: []string{"kube_proxy observed: kube-proxy's rules are gone: iptables mode (nf_tables), IPv4"},
		},
		{
			name: "it starts where the module can't be loaded", look: guard.LookKubeProxy, state: guard.ProxyStarting,
			do: func() {
				h.Unload()
				h.LoadErr = errors.New("exit status 1")
				h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(3)}})
			},
			want: []string{
				"module failed: br_netfilter is not loaded, wanted loaded: exit status 1",
				"kube_proxy failed: kube-proxy[3] started (kube-proxy.service, no rules); the node is not ready: br_netfilter is not loaded, " +
					"net.bridge.bridge-nf-call-iptables is absent, net.bridge.bridge-nf-call-ip6tables is absent, net.bridge.bridge-nf-call-arptables is absent",
			},
		},
		{
			name: "the module comes", state: guard.ProxyStarting,
			do: h.Load,
			want: []string{
				"module observed: br_netfilter is as wanted again (loaded), after …",
				"kube_proxy observed: the node is ready for kube-proxy now, after … in which it was not: br_netfilter loaded, 3 of 3 keys as wanted",
			},
		},
	}
	duration := regexp.MustCompile(`\d[\d.]*(µs|ms|s)`)
	for _, s := range steps {
		if s.do != nil {
			s.do()
		}
		r.Pass(t.Context(), keep.Trigger{Source: "exec", Time: time.Now(), Look: s.look})
		r.Tick(time.Now().Add(5 * time.Second)) // it has stayed so
		got := rec.lines()
		for i := range got {
			got[i] = duration.ReplaceAllString(got[i], "…")
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
		if state := r.ProxyState(); state != s.state {
			t.Errorf("%s: state %s, want %s", s.name, state, s.state)
		}
	}
}

// TestKubeProxyWhereServicesFail: the keys are right, and something else that
// Services need is missing when it starts.
func TestKubeProxyWhereServicesFail(t *testing.T) {
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	h, rec, r := settled(t, p)
	look := func() []string {
		r.Pass(t.Context(), keep.Trigger{Source: "exec", Time: time.Now(), Look: guard.LookKubeProxy | guard.LookNeeds})
		r.Tick(time.Now().Add(5 * time.Second))
		return rec.lines()
	}
	forwarding := func(value string) {
		v := guard.Value{State: guard.Present, Have: value}
		h.Needs = &guard.Needs{Forwarding: [2]guard.Value{v, v}, Paths: []guard.Path{{
			Bridge: "cnio0", Forwarding: v, Route: guard.Route{State: guard.RouteBack}, Forward: guard.Forward{Fate: guard.FateAccepts},
		}}}
	}
	forwarding("0")
	h.SetBridges(guard.Bridge{Name: "cnio0", Index: 3, Ports: guard.Ports{Pods: 1}})
	look()
	h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(1)}})
	want := []string{"kube_proxy failed: kube-proxy[1] started (kube-proxy.service, no rules); the node is not ready: on cnio0 (IPv4) net.ipv4.ip_forward is 0"}
	if diff := cmp.Diff(want, look()); diff != "" {
		t.Errorf("it starts (-want +got):\n%s", diff)
	}
	if got := look(); len(got) > 0 {
		t.Errorf("and is not ready as before: %q", got)
	}
	forwarding("1")
	got := look()
	if len(got) != 1 || !strings.HasPrefix(got[0], "kube_proxy observed: the node is ready for kube-proxy now, after ") {
		t.Errorf("it forwards: %q", got)
	}
}

// TestKubeProxyChangesItsMode: it is restarted, takes the old rules away and
// writes the new ones, table by table. What it is in between is not recorded.
func TestKubeProxyChangesItsMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec, r := settled(t, policy())
		look := func(source string, k guard.KubeProxy) {
			h.SetKubeProxy(k)
			r.Pass(t.Context(), keep.Trigger{Source: record.Cause(source), Time: time.Now(), Look: guard.LookKubeProxy})
			for range 3 { // some looks find nothing new
				time.Sleep(100 * time.Millisecond)
				r.Tick(time.Now())
				r.Pass(t.Context(), keep.Trigger{Source: "rules", Time: time.Now(), Look: guard.LookKubeProxy})
			}
		}
		rules := func(mode, backend string, v4, v6 bool) guard.Rules {
			return guard.Rules{Mode: mode, Backend: backend, IPv4: v4, IPv6: v6}
		}
		home := func(pid int) guard.Process {
			q := process(pid)
			q.Pod, q.Cgroup = "0b6e3b4c-7d55-4f0a-9d0e-3c1f7a2b8e11", "/kubepods/pod"
			return q
		}
		both := rules("iptables", "nf_tables", true, true)
		look("exec", guard.KubeProxy{Processes: []guard.Process{home(1)}, Rules: []guard.Rules{both}})
		look("exec", guard.KubeProxy{Rules: []guard.Rules{both}})
		started := []guard.Process{home(2)}
		look("exec", guard.KubeProxy{Processes: started, Rules: []guard.Rules{both}})
		look("rules", guard.KubeProxy{Processes: started, Rules: []guard.Rules{rules("iptables", "nf_tables", false, true)}})
		look("rules", guard.KubeProxy{Processes: started, Rules: []guard.Rules{rules("iptables", "nf_tables", false, true), rules("nftables", "", true, false)}})
		look("rules", guard.KubeProxy{Processes: started, Rules: []guard.Rules{rules("nftables", "", true, false)}})
		look("rules", guard.KubeProxy{Processes: started, Rules: []guard.Rules{rules("nftables", "", true, true)}})
		due := r.Tick(time.Now())
		if due.IsZero() {
			t.Fatal("nothing is due")
		}
		time.Sleep(time.Until(due))
		r.Tick(time.Now())
		const ready = "; the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, no bridge yet"
		want := []string{
			"kube_proxy observed: kube-proxy[1] was there before nfguard started (kube-proxy.service, iptables mode (nf_tables), IPv4 and IPv6)" + ready,
			"kube_proxy observed: kube-proxy[1] ended; its rules stay and are no longer kept up to date: iptables mode (nf_tables), IPv4 and IPv6",
			"kube_proxy observed: kube-proxy[2] started (kube-proxy.service, iptables mode (nf_tables), IPv4 and IPv6)" + ready,
			"kube_proxy observed: kube-proxy's rules have changed: nftables mode, IPv4 and IPv6" + ready,
		}
		events := rec.events
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
		for i, pid := range []int{1, 1, 2, 2} { // whose each is
			w := events[i].Writer
			if w.PID != pid || w.Pod != home(1).Pod || w.Cgroup != home(1).Cgroup {
				t.Errorf("record %d is of %+v, want pid %d and its pod", i, w, pid)
			}
		}
		// One that is undone at once is none.
		rec.events = nil
		look("rules", guard.KubeProxy{Processes: started})
		look("rules", guard.KubeProxy{Processes: started, Rules: []guard.Rules{rules("nftables", "", true, true)}})
		time.Sleep(time.Minute)
		r.Tick(time.Now())
		if len(rec.events) != 0 {
			t.Errorf("recorded: %v", rec.lines())
		}
	})
}

// TestManyBridges has sixty come and go: the first are recorded each by itself,
// the others are counted.
func TestManyBridges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec, r := settled(t, policy())
		var all []guard.Bridge
		look := func() {
			h.SetBridges(all...)
			r.Pass(t.Context(), keep.Trigger{Source: "link", Time: time.Now()})
			time.Sleep(10 * time.Millisecond)
			r.Tick(time.Now())
		}
		for i := range 60 {
			all = append(all, guard.Bridge{Name: fmt.Sprintf("br%d", i), Index: 100 + i})
			look()
		}
		for i := range 60 {
			if all = all[1:]; i == 48 {
				look() // a dozen at once, and the rest each by itself
			}
			if i > 48 {
				look()
			}
		}
		for {
			due := r.Tick(time.Now())
			if due.IsZero() {
				break
			}
			time.Sleep(time.Until(due))
		}
		counted := 0
		for _, e := range rec.events {
			if e.Kind != record.KindBridge {
				t.Errorf("recorded: %s", e.Message)
			}
			if counted += 1 + e.Suppressed; e.Subject == guard.AllBridges {
				counted--
			}
		}
		if counted != 120 || len(rec.events) > 11 {
			t.Errorf("%d records stand for %d, want at most 11 that stand for 120", len(rec.events), counted)
		}
		const last = "bridge observed: 110 more bridges appeared or were removed since the last record; now: no bridge yet"
		if got := rec.lines(); len(got) == 0 || got[len(got)-1] != last {
			t.Errorf("records: %q", got)
		}
	})
}

func TestKubeProxyBeforeNfguard(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	h.Write(guard.IPTables, "0")
	h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(1)}, Rules: []guard.Rules{nftRules}})
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	r.Pass(t.Context(), keep.Trigger{Source: "start", Look: guard.LookAll})
	want := []string{
		"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, as found at start",
		"kube_proxy corrected: kube-proxy[1] was there before nfguard started (kube-proxy.service, iptables mode (nf_tables), IPv4); " +
			"the node was not ready: net.bridge.bridge-nf-call-iptables was 0",
	}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// TestKubeProxyInALoop has it start anew at each look, five times a second.
func TestKubeProxyInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec, r := settled(t, policy())
		r.Pass(t.Context(), keep.Trigger{Source: "audit", Look: guard.LookAll})
		for i := range 500 {
			h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{process(i)}})
			r.Pass(t.Context(), keep.Trigger{Source: "exec", Time: time.Now(), Look: guard.LookKubeProxy})
			r.Tick(time.Now())
			time.Sleep(200 * time.Millisecond)
		}
		if n := len(rec.events); n < 15 || n > 25 {
			t.Errorf("%d records in 100 s of it, want about 20", n)
		}
		counted := 0
		for _, e := range rec.events {
			counted += 1 + e.Suppressed
		}
		// What was kept back is recorded in the end.
		again := r.Tick(time.Now())
		if again.IsZero() {
			t.Fatal("nothing more is due")
		}
		time.Sleep(time.Until(again))
		rec.events = nil
		r.Tick(time.Now())
		if len(rec.events) != 1 || !strings.Contains(rec.events[0].Message, "now: kube-proxy[499] (kube-proxy.service); no rules") {
			t.Errorf("the last record: %v", rec.lines())
		} else if counted += rec.events[0].Suppressed; counted != 500 {
			t.Errorf("%d starts recorded or counted, want 500", counted)
		}
	})
}

func TestFindings(t *testing.T) {
	h, rec, r := settled(t, policy())
	rule := guard.Finding{
		Subject: string(guard.IPTables), Place: "/etc/sysctl.conf:12", Breaks: true,
		Sentence: "net.bridge.bridge-nf-call-iptables will be 0 after sysctl --system: /etc/sysctl.conf:12 is read last there", Next: "remove that line",
	}
	h.SetFindings(rule)
	for range 2 { // once until it changes
		rep := r.Pass(t.Context(), keep.Trigger{Source: "file", Look: guard.LookNextBoot})
		if diff := cmp.Diff([]guard.Finding{rule}, rep.Findings); diff != "" {
			t.Errorf("findings (-want +got):\n%s", diff)
		}
	}
	h.SetFindings()
	if rep := r.Pass(t.Context(), keep.Trigger{Source: "link"}); len(rep.Findings) != 1 {
		t.Errorf("what was not looked at is as it was: %v", rep.Findings)
	}
	r.Pass(t.Context(), keep.Trigger{Source: "file", Look: guard.LookNextBoot})
	want := []string{"next_boot observed: " + rule.Sentence, "next_boot observed: no longer so: " + rule.Sentence}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
