package keep

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/record"
)

// desk is an account whose records are lines.
type desk struct {
	account
	lines []string
}

func newDesk(m guard.Mode) *desk {
	d := &desk{}
	d.account = account{recorder: d, mode: m, limits: Contention{Limit: 3, Window: time.Minute}}
	return d
}

func (d *desk) Record(e record.Event) {
	d.lines = append(d.lines, fmt.Sprintf("%s %s: %s", e.Kind, e.Outcome, e.Message))
}

// said returns the lines since the last call.
func (d *desk) said() []string {
	lines := d.lines
	d.lines = nil
	return lines
}

func run(ctx context.Context, work func(context.Context)) error { work(ctx); return nil }

// A fight is what happens often enough within the window; what goes on is counted
// with all that it stands for, and ends when it has been quiet for a window.
func TestFight(t *testing.T) {
	c := Contention{Limit: 3, Window: time.Minute}
	event := func(after time.Duration, more int) record.Event {
		return record.Event{Kind: record.KindFlag, Outcome: record.Corrected, Subject: "cni0", Message: "itself", Time: at.Add(after), Suppressed: more}
	}
	for _, tt := range []struct {
		name   string
		events []record.Event
		want   []string
		on     bool
		count  int
	}{
		{"seldom", []record.Event{event(0, 0), event(40*time.Second, 0), event(70*time.Second, 0), event(2*time.Minute, 0)}, []string{"itself", "itself", "itself", "itself"}, false, 0},
		{"often", []record.Event{event(0, 0), event(time.Second, 0), event(2*time.Second, 0)}, []string{
			"itself", "itself", "cni0 was changed 3 times within 2s; nfguard goes on correcting it, at a bounded pace, and records it once a minute",
		}, true, 0},
		{"it goes on", []record.Event{event(0, 0), event(0, 0), event(0, 0), event(time.Second, 4), event(time.Second, 0)}, []string{
			"itself", "itself", "cni0 was changed 3 times within 0s; nfguard goes on correcting it, at a bounded pace, and records it once a minute", "", "",
		}, true, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f fight
			var got []string
			for _, e := range tt.events {
				out, ok := f.add(e, c)
				if got = append(got, out.Message); ok != (out.Message != "") {
					t.Errorf("to be recorded: %v, %+v", ok, out)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || f.on != tt.on || f.count != tt.count {
				t.Errorf("on %v, %d counted; records (-want +got):\n%s", f.on, f.count, diff)
			}
		})
	}
	f := fight{}
	for range 3 {
		f.add(event(0, 0), c)
	}
	f.add(event(10*time.Second, 0), c)
	if _, ok, again := f.tick(at.Add(20*time.Second), c, false); ok || !again.Equal(at.Add(time.Minute)) {
		t.Errorf("after 20 s: %v, again at %v", ok, again)
	}
	if e, ok, again := f.tick(at.Add(time.Minute), c, false); !ok || e.Outcome != record.Held || e.Suppressed != 1 || !again.Equal(at.Add(70*time.Second)) {
		t.Errorf("after a minute: %+v, again at %v", e, again)
	}
	if e, ok, again := f.tick(at.Add(70*time.Second), c, false); !ok || e.Outcome != record.Observed || f.on || !again.IsZero() {
		t.Errorf("at the end: %+v, again at %v", e, again)
	}
}

// The keeper of sysctls forgets what it knew of a key that is no longer
// configured, and keeps what it knows of the others.
func TestSysctlsForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := newDesk(guard.Enforce), hosttest.New(true)
		s := newSysctls(&d.account, Options{
			Host: h, News: func() []record.Write { return nil }, Named: func(p record.Process) record.Process { return p },
		})
		both := guard.Policy{Mode: guard.Enforce, Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}, {Key: "net.ipv4.ip_forward", Value: "0"}}}
		s.setPolicy(&both, &guard.Policy{})
		look := func() { s.look(t.Context(), Trigger{Source: record.CauseResync, Time: time.Now()}) }
		if look(); s.values[0].State != guard.Unknown {
			t.Error("there was a look before it was known what the host excuses")
		}
		s.known = true
		for range 4 {
			h.Write(guard.IPTables, "0")
			h.Write("net.ipv4.ip_forward", "1")
			look()
		}
		if got := s.fighting(); len(got) != 2 || h.Get(guard.IPTables) != "1" || h.Get("net.ipv4.ip_forward") != "0" {
			t.Errorf("fights %q", got)
		}
		h.SetErr = syscall.EROFS
		h.Write("net.ipv4.ip_forward", "1")
		look()
		if len(s.complaints) != 1 || len(s.fights) != 2 {
			t.Errorf("complaints %v, fights %v", s.complaints, s.fights)
		}
		d.said()
		one := both
		one.Sysctls = both.Sysctls[:1]
		s.setPolicy(&one, &both)
		want := []string{
			"drift observed: net.ipv4.ip_forward is left as it is (no longer configured), after 0s",
			"contention held: net.ipv4.ip_forward was changed 1 more times since the last record",
		}
		if diff := cmp.Diff(want, d.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if got := s.fighting(); len(s.complaints) != 0 || len(s.fights) != 1 || len(got) != 1 || got[0] != string(guard.IPTables) {
			t.Errorf("complaints %v, fights %v", s.complaints, got)
		}
		time.Sleep(2 * time.Minute)
		s.tick(time.Now())
		s.prune(time.Now())
		if len(s.fights) != 0 {
			t.Errorf("a fight that is over is still known: %v", s.fights)
		}
		if want := (Totals{Drifts: 9, Corrected: 8, Failed: 1}); s.totals != want {
			t.Errorf("totals %+v, want %+v", s.totals, want)
		}
	})
}

// The keeper of bridges forgets those that are gone or no longer kept.
func TestBridgesForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := newDesk(guard.Enforce), hosttest.New(true)
		h.SetBridges(guard.Bridge{Name: "cni0", Index: 3}, guard.Bridge{Name: "cni1", Index: 4})
		b := newBridges(&d.account, h, run, func(work func()) { work() })
		p := guard.Policy{Mode: guard.Enforce, Bridges: &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4}}}
		b.setPolicy(p)
		pass := func() {
			o := h.Survey(t.Context(), &p, 0)
			b.tried = make(map[string]bool)
			b.act(t.Context(), Trigger{Source: record.CauseAudit}, guard.PlanFlags(&p, &o))
			o = h.Survey(t.Context(), &p, 0)
			b.prune(Trigger{Source: record.CauseAudit}, guard.PlanFlags(&p, &o))
		}
		pass()
		h.FlagsFixed = true
		h.SetFlags("cni0", guard.Flags{})
		h.FlagErr = errors.New("operation not permitted")
		h.SetFlags("cni1", guard.Flags{})
		pass()
		h.FlagErr = nil
		pass()
		if len(b.complaints) != 0 || len(b.stuck) != 2 {
			t.Errorf("complaints %v, stuck %v", b.complaints, b.stuck)
		}
		h.SetBridges()
		time.Sleep(2 * time.Minute)
		b.tick(time.Now())
		pass()
		if len(b.complaints)+len(b.stuck)+len(b.fights)+len(b.on) != 0 {
			t.Errorf("of bridges that are gone: complaints %v, stuck %v, fights %v", b.complaints, b.stuck, b.fights)
		}
		if !b.correct(t.Context(), "cni0", Trigger{}) {
			t.Error("it is not corrected by whoever hears of it")
		}
		p.Bridges = nil
		b.setPolicy(p)
		if b.correct(t.Context(), "cni0", Trigger{}) {
			t.Error("it is corrected although no bridge is to be kept")
		}
	})
}

// What is recorded of a look at a bridge follows from what was there before and
// after, and from who asked for it.
func TestFlagEvent(t *testing.T) {
	bare := guard.Item{Verdict: guard.Wrong, Want: "iptables 1", Have: "iptables 0", Why: "matches cni*", Action: &guard.Action{Op: guard.SetFlags}}
	kept := guard.Item{Verdict: guard.Right, Want: "iptables 1", Have: "iptables 1"}
	heard := Trigger{Source: record.CauseLink, Time: before(2 * time.Millisecond)}
	for _, tt := range []struct {
		name    string
		v       visit
		outcome record.Outcome
		want    record.Event
	}{
		{"heard of", visit{was: bare, now: kept, there: true, trigger: heard}, record.Corrected, record.Event{
			Now: "iptables 1", Source: record.CauseLink, Duration: 2 * time.Millisecond,
			Message: "bridge cni0 had iptables 0, set to 1 after 2ms (matches cni*)",
		}},
		{"found", visit{was: bare, now: kept, there: true, trigger: Trigger{Source: record.CauseStart, Time: before(time.Second)}}, record.Corrected, record.Event{
			Now: "iptables 1", Source: record.CauseStart,
			Message: "bridge cni0 had iptables 0, set to 1, as found at start (matches cni*)",
		}},
		{"removed meanwhile", visit{was: bare, trigger: heard}, record.Corrected, record.Event{
			Now: "iptables 1", Source: record.CauseLink, Duration: 2 * time.Millisecond,
			Message: "bridge cni0 had iptables 0, set to 1 after 2ms (matches cni*)",
		}},
		{"changed again", visit{was: bare, now: bare, there: true, trigger: heard}, record.Reverted, record.Event{
			Now: "iptables 0", Source: record.CauseLink, Duration: 2 * time.Millisecond,
			Message: "bridge cni0 had iptables 0, set to 1 after 2ms (matches cni*), and changed again at once",
		}},
		{"refused", visit{was: bare, now: bare, there: true, err: syscall.EPERM}, record.Failed, record.Event{
			Now: "iptables 0", Err: syscall.EPERM, Next: next(syscall.EPERM),
			Message: "cni0 is iptables 0, wanted iptables 1: operation not permitted",
		}},
		{"not kept", visit{was: bare, now: bare, there: true}, record.Failed, record.Event{
			Now: "iptables 0", Err: errNotKept, Next: next(errNotKept),
			Message: "cni0 is iptables 0, wanted iptables 1: " + errNotKept.Error(),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.v.name, tt.v.at = "cni0", at
			tt.want.Kind, tt.want.Outcome, tt.want.Time, tt.want.Subject = record.KindFlag, tt.outcome, at, "cni0"
			tt.want.Want, tt.want.Have = "iptables 1", "iptables 0"
			if diff := cmp.Diff(tt.want, flagEvent(&tt.v, tt.outcome), cmpopts.EquateErrors()); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

// What comes of an action is judged by the next look, and not by what it returned.
func TestAttemptEvent(t *testing.T) {
	was := guard.Item{Kind: record.KindModule, Subject: "br_netfilter", Have: "not loaded", Action: &guard.Action{Op: guard.LoadModule}}
	denied := &guard.Item{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Wrong, Have: "not loaded"}
	loaded := &guard.Item{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Right, Have: "loaded"}
	for _, tt := range []struct {
		name  string
		now   *guard.Item
		err   error
		want  string
		right bool
		count Totals
	}{
		{"loaded", loaded, nil, "corrected: br_netfilter was not loaded, loaded in 20ms", true, Totals{Drifts: 1, Corrected: 1}},
		{"loaded, whatever modprobe says", loaded, syscall.EPERM, "corrected: br_netfilter was not loaded, loaded in 20ms", true, Totals{Drifts: 1, Corrected: 1}},
		{"refused", denied, syscall.EPERM, "failed: br_netfilter is not loaded, wanted loaded: operation not permitted", false, Totals{Failed: 1}},
		{"without effect", denied, nil, "reverted: br_netfilter is not loaded, wanted loaded: " + errNotKept.Error(), false, Totals{Failed: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := record.Event{Kind: tt.now.Kind, Subject: tt.now.Subject, Want: "loaded", Have: tt.now.Have, Now: tt.now.Have}
			e, right := attemptEvent(tt.now, e, attempt{was, tt.err, 20 * time.Millisecond}, nil)
			if got := string(e.Outcome) + ": " + e.Message; got != tt.want || right != tt.right || e.Have != "not loaded" {
				t.Errorf("right %v, %q, want %q; had %q", right, got, tt.want, e.Have)
			}
			if got := count(&e); got != tt.count {
				t.Errorf("it counts as %+v, want %+v", got, tt.count)
			}
		})
	}
}

// The keeper of files writes each once in a pass, and forgets what is no longer
// configured.
func TestFiles(t *testing.T) {
	d, h := newDesk(guard.Enforce), hosttest.New(true)
	f := files{book: newBook(&d.account), host: h, wait: run, tried: make(map[string]attempt)}
	p := guard.Policy{
		Mode: guard.Enforce, Module: "br_netfilter", SysctlD: "/etc/sysctl.d/x.conf",
		Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}},
	}
	pass := func() {
		o := h.Survey(t.Context(), &p, 0)
		f.act(t.Context(), guard.PlanDropins(&p, &o))
		o = h.Survey(t.Context(), &p, 0)
		for _, it := range guard.PlanDropins(&p, &o) {
			f.settle(&it, record.Event{Kind: it.Kind, Subject: it.Subject, Want: it.Want, Now: it.Have}, nil)
		}
	}
	h.WriteErr = syscall.ENOSPC
	pass()
	if o := h.Survey(t.Context(), &p, 0); f.act(t.Context(), guard.PlanDropins(&p, &o)) || len(h.Writes()) != 1 {
		t.Error("what failed was tried again in the same pass")
	}
	p.SysctlD = ""
	f.setPolicy(&p)
	want := []string{
		"dropin failed: /etc/sysctl.d/x.conf is absent, wanted as written by nfguard: no space left on device",
	}
	got := d.said()
	if len(got) != 2 || got[0] != want[0] || len(f.complaints) != 0 {
		t.Errorf("records %q, complaints %v", got, f.complaints)
	}
}

// The follower of kube-proxy changes nothing, and asks nobody.
func TestProxyByItself(t *testing.T) {
	d := newDesk(guard.Enforce)
	p := proxy{account: &d.account}
	if p.now() != guard.ProxyUnknown {
		t.Errorf("before a look it is %s", p.now())
	}
	rep := &Report{Items: []guard.Item{{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Right}}}
	running := guard.KubeProxy{Processes: []guard.Process{{PID: 1, Comm: "kube-proxy"}}}
	p.look(Trigger{Time: at}, rep, &guard.KubeProxy{})
	p.look(Trigger{Time: at}, rep, &running)
	p.look(Trigger{Time: at}, rep, nil) // not looked at
	p.look(Trigger{Time: at}, rep, &guard.KubeProxy{ProcessesErr: syscall.EIO, RulesErr: syscall.EIO})
	p.look(Trigger{Time: at}, rep, &guard.KubeProxy{})
	want := []string{
		"kube_proxy observed: kube-proxy[1] started (no rules); the node was ready: br_netfilter loaded, no key and no bridge to keep, no bridge yet",
		"kube_proxy observed: kube-proxy[1] ended; no rules",
	}
	if diff := cmp.Diff(want, d.said()); diff != "" || p.now() != guard.ProxyGone {
		t.Errorf("%s, records (-want +got):\n%s", p.now(), diff)
	}
}
