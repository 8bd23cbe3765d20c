package keep

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// TestSentences: what is said in a situation, whole.
func TestSentences(t *testing.T) {
	one := func(s string) []string { return []string{s} }
	process := guard.Process{PID: 7, Comm: "kube-proxy"}
	rules := []guard.Rules{{Mode: "iptables", Backend: "nf_tables", IPv4: true}}
	module := guard.Item{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Right}
	right := func(bridges ...guard.Bridge) *Report {
		return &Report{Items: []guard.Item{module}, Bridges: bridges}
	}
	flagged := func(now string, outcome record.Outcome, ports, flags bool) []string {
		was := guard.Item{Want: "iptables 1", Have: "iptables 0", Why: "matches cni*", Action: &guard.Action{Op: guard.SetFlags, Subject: "cni0"}}
		if flags {
			was.Action.Flags = guard.Flags{true}
		}
		if ports {
			was.Action.Ports = []guard.Port{{Name: "veth1"}}
		}
		return one(flagMessage(&record.Event{Subject: "cni0", Want: was.Want, Have: was.Have, Now: now, Outcome: outcome}, &was, false))
	}
	began := func(kind record.Kind, outcome record.Outcome, yield bool) []string {
		f := fight{subject: "k", kind: kind, outcome: outcome}
		return one(f.beganMessage(time.Second, Contention{Limit: 3, Window: time.Minute, Yield: yield}))
	}
	readiness := func(p proxy, rep *Report) []string {
		d := newDesk(guard.Enforce)
		p.account, p.seen = &d.account, &guard.KubeProxy{}
		p.recordReadiness(record.Event{Kind: record.KindKubeProxy, Outcome: record.Observed, Time: at, Message: "it started"}, Trigger{}, rep)
		return d.said()
	}
	// n at once, of which ten are told, and the last one two minutes later
	moves := func(n int, do func(b *bridges, i int)) []string {
		d := newDesk(guard.Enforce)
		b := &bridges{book: book{account: &d.account}}
		for i := range n {
			if i == n-1 {
				time.Sleep(2 * paceWindow)
			}
			do(b, i)
		}
		lines := d.said()
		return lines[max(0, len(lines)-1):]
	}
	ticked := func(do func(b *bridges)) []string {
		d := newDesk(guard.Enforce)
		b := &bridges{book: book{account: &d.account}}
		for range paceBurst + 2 {
			do(b)
		}
		d.said()
		b.tickPaced(time.Now().Add(paceWindow))
		return d.said()
	}
	forgotten := func(guarded bool) []string {
		d := newDesk(guard.Enforce)
		b := book{account: &d.account, complaints: map[string]complaint{"k": {kind: record.KindDrift, since: time.Now().Add(-time.Minute)}}}
		b.forget(time.Now(), func(record.Kind, string) bool { return guarded })
		return d.said()
	}
	// a fight of four reversals, the last one after 20 s, so long after its begin
	fought := func(after time.Duration) []string {
		var f fight
		c := Contention{Limit: 3, Window: time.Minute}
		for _, s := range []int{0, 0, 0, 20} {
			f.add(record.Event{Kind: record.KindDrift, Outcome: record.Corrected, Subject: "k", Time: at.Add(time.Duration(s) * time.Second)}, c)
		}
		e, ok, _ := f.tick(at.Add(after), c, false)
		if !ok {
			return nil
		}
		return one(e.Message)
	}
	note := guard.Finding{Subject: "cni0", Sentence: "so"}
	for name, tt := range map[string]struct {
		said func() []string
		want []string
	}{
		"flags are set": {said: func() []string { return flagged("iptables 1", record.Corrected, false, true) }, want: []string{
			"bridge cni0 had iptables 0, set to 1 (matches cni*)",
		}},
		"flags are set, and changed again": {said: func() []string { return flagged("iptables 0", record.Reverted, false, true) }, want: []string{
			"bridge cni0 had iptables 0, set to 1 (matches cni*), and changed again at once",
		}},
		"flags are set, and others stand": {said: func() []string { return flagged("iptables 0, arptables 1", record.Corrected, false, true) }, want: []string{
			"bridge cni0 had iptables 0, set to iptables 0, arptables 1 (matches cni*)",
		}},
		"flags are set, and ports": {said: func() []string { return flagged("iptables 1", record.Corrected, true, true) }, want: []string{
			"bridge cni0 had iptables 0, set to 1 and switched on at veth1 (matches cni*)",
		}},
		"ports are switched on": {said: func() []string { return flagged("iptables 1", record.Corrected, true, false) }, want: []string{
			"bridge cni0 had iptables 0, switched on at veth1 (matches cni*)",
		}},
		"a file is written for a reload": {said: func() []string {
			return one(correctedMessage(&record.Event{Kind: record.KindDropin, Subject: "/f", Have: "changed", Source: record.CauseReload}, 0, nil))
		}, want: []string{
			"/f is written anew, as the changed configuration asks",
		}},
		"a file is written": {said: func() []string {
			return one(correctedMessage(&record.Event{Kind: record.KindDropin, Subject: "/f", Have: "changed"}, 0, nil))
		}, want: []string{
			"/f was changed, written again",
		}},
		"a fight begins": {said: func() []string { return began(record.KindDrift, record.Corrected, false) }, want: []string{
			"k was changed 3 times within 1s; nfguard goes on correcting it, at a bounded pace, and records it once a minute",
		}},
		"a fight begins, and we yield": {said: func() []string { return began(record.KindDrift, record.Corrected, true) }, want: []string{
			"k was changed 3 times within 1s; nfguard leaves it alone until nobody has written to it for 1m0s",
		}},
		"a fight begins, of writes refused": {said: func() []string { return began(record.KindDenied, record.Denied, false) }, want: []string{
			"k was written to 3 times within 1s; none of it is stored; that is recorded once a minute",
		}},
		"a fight begins, of writes replaced": {said: func() []string { return began(record.KindDrift, record.Rewritten, false) }, want: []string{
			"k was written to 3 times within 1s; none of it is stored; that is recorded once a minute",
		}},
		"a fight begins, and is observed": {said: func() []string { return began(record.KindDrift, record.Observed, false) }, want: []string{
			"k was changed 3 times within 1s; mode observe leaves it so, and that is recorded once a minute",
		}},
		"ready": {said: func() []string { return readiness(proxy{}, right()) }, want: []string{
			"kube_proxy observed: it started; the node was ready: br_netfilter loaded, no key and no bridge to keep, no bridge yet",
		}},
		"ready, after a while": {said: func() []string { return readiness(proxy{unready: at.Add(-time.Minute)}, right()) }, want: []string{
			"kube_proxy observed: it started; the node is ready now, after 1m0s in which it was not: br_netfilter loaded, no key and no bridge to keep, no bridge yet",
		}},
		"ready, with a bridge": {said: func() []string { return readiness(proxy{}, right(guard.Bridge{Name: "cni0"})) }, want: []string{
			"kube_proxy observed: it started; the node was ready: br_netfilter loaded, no key and no bridge to keep, 1 bridge (cni0)",
		}},
		"ready, and bridges are not known": {said: func() []string {
			return readiness(proxy{}, &Report{Items: []guard.Item{module}, Bridging: errors.New("boom")})
		}, want: []string{
			"kube_proxy observed: it started; the node was ready: br_netfilter loaded, no key and no bridge to keep, bridges unknown",
		}},
		"made ready, the module": {said: func() []string {
			return readiness(proxy{}, &Report{Items: []guard.Item{module}, Changes: []Change{{Op: guard.LoadModule.String(), Subject: "br_netfilter"}}})
		}, want: []string{
			"kube_proxy corrected: it started; the node was not ready: br_netfilter was not loaded",
		}},
		"made ready, a key": {said: func() []string {
			return readiness(proxy{}, &Report{Items: []guard.Item{module}, Changes: []Change{{Op: guard.SetSysctl.String(), Subject: "k", From: "0"}}})
		}, want: []string{
			"kube_proxy corrected: it started; the node was not ready: k was 0",
		}},
		"a file is not what matters": {said: func() []string {
			return readiness(proxy{}, &Report{Items: []guard.Item{module}, Changes: []Change{{Op: guard.WriteFile.String(), Subject: "/f", From: "0"}}})
		}, want: []string{
			"kube_proxy observed: it started; the node was ready: br_netfilter loaded, no key and no bridge to keep, no bridge yet",
		}},
		"ended, and another runs": {said: func() []string { return one(left(&guard.KubeProxy{Processes: []guard.Process{process}, Rules: rules})) }, want: []string{
			"kube-proxy[7] still runs",
		}},
		"ended, and its rules stay": {said: func() []string { return one(left(&guard.KubeProxy{Rules: rules})) }, want: []string{
			"its rules stay and are no longer kept up to date: iptables mode (nf_tables), IPv4",
		}},
		"ended, and nothing is left": {said: func() []string { return one(left(&guard.KubeProxy{})) }, want: []string{
			"no rules",
		}},
		"the module is not there": {said: func() []string {
			return one(Readiness([]guard.Item{{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Wrong}}))
		}, want: []string{
			"the module is not loaded, no key and no bridge to keep",
		}},
		"the module is not known": {said: func() []string {
			return one(Readiness([]guard.Item{{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Uncertain}}))
		}, want: []string{
			"it is not known whether br_netfilter is loaded, no key and no bridge to keep",
		}},
		"the module is there": {said: func() []string { return one(Readiness([]guard.Item{module})) }, want: []string{
			"br_netfilter loaded, no key and no bridge to keep",
		}},
		"bridges go, ten": {said: func() []string {
			return moves(10, func(b *bridges, _ int) { b.recordMoves(Trigger{}, []guard.Bridge{{Name: "b"}}, nil, "ready") })
		}, want: []string{
			"bridge observed: bridge b was removed",
		}},
		"bridges go, many": {said: func() []string {
			return moves(13, func(b *bridges, _ int) { b.recordMoves(Trigger{}, []guard.Bridge{{Name: "b"}}, nil, "ready") })
		}, want: []string{
			"bridge observed: bridge b was removed (2 more bridges appeared or were removed since the last record)",
		}},
		"bridges come, many": {said: func() []string {
			return moves(13, func(b *bridges, _ int) { b.recordMoves(Trigger{}, nil, []guard.Bridge{{Name: "b"}}, "ready") })
		}, want: []string{
			"bridge observed: bridge b appeared; ready (2 more bridges appeared or were removed since the last record)",
		}},
		"ports are put in hairpin mode, many": {said: func() []string {
			return moves(13, func(b *bridges, _ int) {
				b.recordFresh(guard.SetFlags, record.Event{Kind: record.KindFlag, Outcome: record.Corrected, Subject: "veth1", Message: "set", Time: time.Now()}, true)
			})
		}, want: []string{
			"bridge_flag corrected: set (2 more bridges or ports were put in hairpin mode since the last record)",
		}},
		"ports are put in hairpin mode, and it does not stay": {said: func() []string {
			return moves(13, func(b *bridges, _ int) {
				b.recordFresh(guard.SetFlags, record.Event{Kind: record.KindFlag, Outcome: record.Reverted, Subject: "veth1", Message: "set", Time: time.Now()}, false)
			})
		}},
		"a note, many": {said: func() []string {
			return moves(14, func(b *bridges, i int) { b.tell(Trigger{}, []guard.Finding{note}[:i%2]) })
		}, want: []string{
			"bridge observed: so (2 more notes on bridges since the last record)",
		}},
		"counted: bridges": {said: func() []string {
			return ticked(func(b *bridges) { b.recordMoves(Trigger{}, []guard.Bridge{{Name: "b"}}, nil, "ready") })
		}, want: []string{
			"bridge observed: 2 more bridges appeared or were removed since the last record; now: no bridge yet",
		}},
		"counted: notes": {said: func() []string {
			return ticked(func(b *bridges) {
				b.tell(Trigger{}, nil)
				b.tell(Trigger{}, []guard.Finding{note})
			})
		}, want: []string{
			"bridge observed: 13 more notes on bridges were made or settled since the last record; now there are 1",
		}},
		"counted: none": {said: func() []string { return ticked(func(*bridges) {}) }},
		"a note": {said: func() []string { return moves(1, func(b *bridges, _ int) { b.tell(Trigger{}, []guard.Finding{note}) }) }, want: []string{
			"bridge observed: so",
		}},
		"a note that stands": {said: func() []string {
			return moves(1, func(b *bridges, _ int) {
				b.tell(Trigger{}, []guard.Finding{note})
				b.tell(Trigger{}, []guard.Finding{note})
			})
		}, want: []string{
			"bridge observed: so",
		}},
		"a note no more": {said: func() []string {
			return moves(1, func(b *bridges, _ int) {
				b.tell(Trigger{}, []guard.Finding{note})
				b.tell(Trigger{}, nil)
			})
		}, want: []string{
			"bridge observed: no longer so: so",
		}},
		"kube-proxy, many": {said: func() []string {
			d := newDesk(guard.Enforce)
			p := proxy{account: &d.account}
			for i := range 13 {
				p.say(record.Event{Kind: record.KindKubeProxy, Outcome: record.Observed, Message: "it ended", Time: at.Add(time.Duration(i/12) * 2 * paceWindow)})
			}
			lines := d.said()
			return lines[len(lines)-1:]
		}, want: []string{
			"kube_proxy observed: it ended (2 more starts and ends since the last record)",
		}},
		"kube-proxy, counted": {said: func() []string {
			d := newDesk(guard.Enforce)
			p := proxy{account: &d.account, seen: &guard.KubeProxy{}}
			for range paceBurst + 2 {
				p.say(record.Event{Kind: record.KindKubeProxy, Time: at})
			}
			d.said()
			p.tick(at.Add(paceWindow))
			return d.said()
		}, want: []string{
			"kube_proxy observed: kube-proxy started or ended 2 more times since the last record; now: no process that is known; no rules",
		}},
		"kube-proxy, not counted yet": {said: func() []string {
			d := newDesk(guard.Enforce)
			p := proxy{account: &d.account, seen: &guard.KubeProxy{}}
			for range paceBurst + 2 {
				p.say(record.Event{Kind: record.KindKubeProxy, Time: at})
			}
			d.said()
			p.tick(at)
			return d.said()
		}},
		"a complaint, and it is no longer configured": {said: func() []string { return forgotten(false) }, want: []string{
			"drift observed: k is left as it is (no longer configured), after 1m0s",
		}},
		"a complaint, and it is still configured": {said: func() []string { return forgotten(true) }},
		"a fight goes on":                         {said: func() []string { return fought(30 * time.Second) }},
		"a fight is told of again": {said: func() []string { return fought(61 * time.Second) }, want: []string{
			"k was changed 1 more times since the last record",
		}},
		"a fight ends": {said: func() []string { return fought(80 * time.Second) }, want: []string{
			"nobody has changed k for 1m0s; it was changed 1 more times in the 20s before",
		}},
		"a port is switched on, alone": {said: func() []string {
			was := guard.Item{Want: "hairpin mode", Have: "no hairpin mode", Why: "a port of cni0", Action: &guard.Action{Op: guard.SetFlags, Subject: "cni0", Ports: []guard.Port{{Name: "veth1"}}}}
			return one(flagMessage(&record.Event{Subject: "veth1", Want: was.Want, Have: was.Have, Now: was.Want, Outcome: record.Corrected}, &was, false))
		}, want: []string{
			"veth1 had no hairpin mode, switched on (a port of cni0)",
		}},
		"bridges can be looked at again": {said: func() []string {
			d := newDesk(guard.Enforce)
			b := &bridges{book: book{account: &d.account, complaints: map[string]complaint{guard.AllBridges: {since: time.Now().Add(-time.Minute)}}}}
			b.prune(Trigger{}, nil)
			return d.said()
		}, want: []string{
			"bridge_flag observed: bridges is as wanted again (known), after 1m0s",
		}},
		"bridges can still not be looked at": {said: func() []string {
			d := newDesk(guard.Enforce)
			b := &bridges{book: book{account: &d.account, complaints: map[string]complaint{guard.AllBridges: {since: time.Now().Add(-time.Minute)}}}}
			b.prune(Trigger{}, []guard.Item{{Kind: record.KindFlag, Subject: guard.AllBridges}})
			return d.said()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := tt.said()
				if diff := cmp.Diff(tt.want, got); diff != "" && len(tt.want)+len(got) > 0 {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}
