package keep_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// TestPause: what is changed in a pause is recorded once and left so, except for the
// drop-ins; and its end puts all right, which is no other drift and no fight.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec, k := settled(t, policy())
		k.Pause(true)
		h.Write(guard.IPTables, "0")
		h.SetFile(sysctlD, "# Written by nfguard\nand changed\n")
		for _, source := range []record.Cause{"sysctl", "audit"} {
			k.Look(t.Context(), keep.Trigger{Source: source, Time: time.Now()})
			k.Pass(t.Context(), keep.Trigger{Source: source, Time: time.Now()})
			time.Sleep(time.Minute)
		}
		want := []string{
			"drift paused: net.bridge.bridge-nf-call-iptables is 0, wanted 1; left so: nfguard is paused",
			"dropin corrected: /etc/sysctl.d/99-zz-nfguard.conf was changed, written again",
		}
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("a value is changed, and a drop-in (-want +got):\n%s", diff)
		}
		if got := h.Writes(); len(got) != 1 || got[0].Op != guard.WriteFile {
			t.Errorf("in the pause it did %v", got)
		}

		h.Unload()
		for range 2 {
			k.Pass(t.Context(), keep.Trigger{Source: "uevent", Time: time.Now()})
		}
		want = []string{"module paused: br_netfilter is not loaded, wanted loaded: without it no bridged packet is handed to iptables; left so: nfguard is paused"}
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("the module is unloaded (-want +got):\n%s", diff)
		}
		if got := h.Writes(); got != nil {
			t.Errorf("in the pause it did %v", got)
		}
		h.Load()
		h.Write(guard.IPTables, "0")
		k.Pass(t.Context(), keep.Trigger{Source: "uevent", Time: time.Now()})
		want = []string{"module observed: br_netfilter is as wanted again (loaded), after 0s"} // that the key is 0 is on record
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("somebody loads it (-want +got):\n%s", diff)
		}

		time.Sleep(time.Hour)
		before := k.Totals()
		k.Pause(false)
		rep := k.Pass(t.Context(), keep.Trigger{Source: record.CausePause, Time: time.Now()})
		if rep.Verdict() != guard.Right {
			t.Errorf("after the pause: %s", rep.Verdict())
		}
		got := rec.events[0]
		if got.Source != record.CausePause || got.Duration != time.Hour || got.Outcome != record.Corrected {
			t.Errorf("%+v", got)
		}
		want = []string{"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 1h0m0s, at the end of a pause"}
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("it ends (-want +got):\n%s", diff)
		}
		if after := k.Totals(); after.Drifts != before.Drifts || after.Corrected != before.Corrected+1 {
			t.Errorf("totals: %+v, then %+v", before, after)
		}
		h.Write(guard.IPTables, "0")
		k.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		if e := rec.events; len(e) != 1 || e[0].Outcome != record.Corrected || e[0].Source == record.CausePause {
			t.Errorf("after the pause: %q", rec.lines())
		}
	})
}

// A module that is away at the end of a pause is loaded, and that is the pause's.
func TestPauseEndsWithoutTheModule(t *testing.T) {
	h, rec, k := settled(t, policy())
	k.Pause(true)
	h.Unload()
	k.Pass(t.Context(), keep.Trigger{Source: "uevent"})
	if got := k.Complaints(); len(got) != 1 || got["br_netfilter"] == "" {
		t.Errorf("complaints: %q", got)
	}
	before := k.Totals()
	rec.events = nil
	k.Pause(false)
	rep := k.Pass(t.Context(), keep.Trigger{Source: record.CausePause})
	if rep.Verdict() != guard.Right || len(rec.events) != 1 || rec.events[0].Kind != record.KindModule || rec.events[0].Outcome != record.Corrected {
		t.Errorf("%s: %q", rep.Verdict(), rec.lines())
	}
	if after := k.Totals(); after.Corrected != before.Corrected+1 || after.Drifts != before.Drifts || len(k.Complaints()) != 0 {
		t.Errorf("totals: %+v, then %+v; complaints: %q", before, after, k.Complaints())
	}
}

// Neither the loop nor who hears of a bridge first sets its flags in a pause, nor does a
// change of the scope.
func TestPauseLeavesBridges(t *testing.T) {
	h := twoBridges()
	k, rec := start(t, h, scoped())
	k.Pause(true)
	rec.events = nil
	h.SetFlags("cni0", none)
	if k.Correct(t.Context(), "cni0", keep.Trigger{Source: "link"}) {
		t.Error("it is corrected at once")
	}
	k.Ask("cni0", keep.Trigger{Source: "link"})
	for range 2 {
		k.Look(t.Context(), keep.Trigger{Source: "link"})
		k.Pass(t.Context(), keep.Trigger{Source: "link"})
	}
	if h.Flags("cni0") != none {
		t.Errorf("its flags are %v", h.Flags("cni0"))
	}
	if e := rec.events; len(e) != 1 || e[0].Kind != record.KindFlag || e[0].Outcome != record.Paused {
		t.Errorf("records: %q", rec.lines())
	}
	k.SetPolicy(scoped(), limits) // a reload does not end it
	if k.Correct(t.Context(), "cni0", keep.Trigger{Source: "link"}) {
		t.Error("after a reload it is corrected at once")
	}
	k.Pause(false)
	rep := k.Pass(t.Context(), keep.Trigger{Source: record.CausePause})
	if rep.Verdict() != guard.Right || h.Flags("cni0") != both {
		t.Errorf("after the pause: %s, %v", rep.Verdict(), h.Flags("cni0"))
	}
	h.SetFlags("cni0", none)
	if !k.Correct(t.Context(), "cni0", keep.Trigger{Source: "link"}) || h.Flags("cni0") != both {
		t.Errorf("after the pause, of news: %v", h.Flags("cni0"))
	}

	h = twoBridges()
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	k, _ = start(t, h, p)
	k.Pause(true)
	k.Prepare(t.Context(), scoped(), keep.Trigger{Source: "reload"})
	if h.Flags("cni0") != none {
		t.Errorf("a change of the scope in a pause sets %v", h.Flags("cni0"))
	}
}

// A bridge that is fought over waits for its time, and not in a pause.
func TestPauseLeavesBridgesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := twoBridges()
		k, _ := start(t, h, scoped())
		for range limits.Limit + 1 {
			h.SetFlags("cni0", none)
			k.Pass(t.Context(), keep.Trigger{Source: "link"})
			time.Sleep(20 * time.Millisecond)
		}
		if got := k.Fights(); len(got) != 1 {
			t.Fatalf("fights: %q", got)
		}
		h.SetFlags("cni0", none)
		k.Ask("cni0", keep.Trigger{Source: "link"})
		k.Pause(true)
		for range 10 {
			time.Sleep(20 * time.Millisecond)
			k.Look(t.Context(), keep.Trigger{Source: "resync"})
		}
		if h.Flags("cni0") != none {
			t.Errorf("in the pause its flags are %v", h.Flags("cni0"))
		}
	})
}

// Somebody who changes a value all the time in a pause does not flood the journal.
func TestPauseIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec, k := settled(t, policy())
		k.Pause(true)
		for i := range 100 {
			h.Write(guard.IPTables, []string{"0", "1"}[i%2])
			k.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
			time.Sleep(time.Millisecond)
		}
		lines := rec.lines()
		want := "contention held: net.bridge.bridge-nf-call-iptables was changed 10 times within 18ms; nfguard is paused and leaves it so, and that is recorded once a minute"
		if len(lines) != limits.Limit || lines[len(lines)-1] != want {
			t.Errorf("%d records, the last is %q", len(lines), lines[len(lines)-1])
		}
		h.Write(guard.IPTables, "0")
		k.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		k.Pause(false)
		k.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
		if got := h.Get(guard.IPTables); got != "1" {
			t.Errorf("after the pause it is %s", got)
		}
	})
}

// In mode observe a pause changes nothing, not even the outcome.
func TestPauseInObserve(t *testing.T) {
	p := policy()
	p.Mode, p.ModulesLoad, p.SysctlD = guard.Observe, "", ""
	h, rec := hosttest.New(true), new(recorder)
	k := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	k.Pass(t.Context(), keep.Trigger{Source: "start"})
	k.Pause(true)
	h.Write(guard.IPTables, "0")
	k.Look(t.Context(), keep.Trigger{Source: "sysctl"})
	want := []string{"drift observed: net.bridge.bridge-nf-call-iptables is 0, wanted 1; left so in mode observe"}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Error(diff)
	}
	k.Pause(false)
	k.Pass(t.Context(), keep.Trigger{Source: record.CausePause})
	if lines := rec.lines(); h.Get(guard.IPTables) != "0" || lines != nil {
		t.Errorf("after it the key is %s: %q", h.Get(guard.IPTables), lines)
	}
}
