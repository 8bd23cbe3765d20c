package keep_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// fightFor has a stranger write 0 every step for d, and returns a line for
// each record.
func fightFor(t *testing.T, c keep.Contention, step, d, quiet time.Duration) (lines []string, corrected uint64, stood int) {
	t.Helper()
	h, rec := hosttest.New(true), new(recorder)
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	writer := record.Process{PID: 812, Comm: "tuned"}
	var news []record.Write
	r := keep.New(p, c, keep.Options{Host: h, Recorder: rec, News: func() []record.Write {
		n := news
		news = nil
		return n
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	start := time.Now()
	for time.Since(start) < d {
		h.Write(guard.IPTables, "0")
		news = []record.Write{{File: guard.IPTables.File(), Writer: writer}}
		r.Tick(time.Now())
		r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		if h.Get(guard.IPTables) == "0" {
			stood++
		}
		time.Sleep(step)
	}
	for end := time.Now().Add(quiet); time.Now().Before(end); {
		if next := r.Tick(time.Now()); next.IsZero() {
			r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
			time.Sleep(time.Until(end))
		} else {
			time.Sleep(time.Until(next))
		}
	}
	if h.Get(guard.IPTables) != "1" {
		t.Errorf("the key is %s after the fight", h.Get(guard.IPTables))
	}
	drifts, counted := 0, 0
	for _, e := range rec.events {
		if e.Kind == record.KindDrift {
			drifts++
			continue
		}
		counted += e.Suppressed
		lines = append(lines, fmt.Sprintf("%s %s %d: %s", e.Kind, e.Outcome, e.Suppressed, e.Message))
	}
	corrected = r.Totals().Corrected
	if uint64(drifts+counted) != corrected {
		t.Errorf("%d corrections, but %d drift records and %d counted by others", corrected, drifts, counted)
	}
	return append([]string{fmt.Sprintf("%d drift records", drifts)}, lines...), corrected, stood
}

func TestFightIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, corrected, stood := fightFor(t, limits, 100*time.Millisecond, 150*time.Second, 2*time.Minute)
		want := []string{
			"9 drift records",
			"contention held 1: net.bridge.bridge-nf-call-iptables was changed 10 times within 900ms (written by tuned[812]); nfguard goes on correcting it, at a bounded pace, and records it once a minute",
			"contention held 599: net.bridge.bridge-nf-call-iptables was changed 599 more times since the last record (written by tuned[812])",
			"contention held 600: net.bridge.bridge-nf-call-iptables was changed 600 more times since the last record (written by tuned[812])",
			"contention held 291: net.bridge.bridge-nf-call-iptables was changed 291 more times since the last record (written by tuned[812])",
			"contention observed 0: nobody has changed net.bridge.bridge-nf-call-iptables for 1m0s; it was changed 1490 more times in the 2m29s before (written by tuned[812])",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if corrected != 1500 || stood != 0 {
			t.Errorf("%d corrected, %d stood; want all 1500 corrected", corrected, stood)
		}
	})
}

func TestFightIsYielded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limits
		c.Yield = true
		lines, corrected, stood := fightFor(t, c, 100*time.Millisecond, 30*time.Second, 3*time.Minute)
		if corrected != 11 { // ten before it yields, one when it has been quiet
			t.Errorf("%d corrections, want 11", corrected)
		}
		if stood != 290 {
			t.Errorf("the foreign value stood %d times of 300, want 290", stood)
		}
		if len(lines) < 3 || lines[0] != "10 drift records" {
			t.Errorf("records: %q", lines)
		}
	})
}

// Ten drifts spread over an hour are no fight.
func TestSlowDriftIsNoFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, _, _ := fightFor(t, limits, 7*time.Second, 10*time.Minute, time.Second)
		if diff := cmp.Diff([]string{"86 drift records"}, lines); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// In mode observe a fight is recorded as one, too.
func TestFightIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec := hosttest.New(true), new(recorder)
		p := policy()
		p.Mode, p.ModulesLoad, p.SysctlD = guard.Observe, "", ""
		r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
		r.Pass(t.Context(), keep.Trigger{Source: "start"})
		rec.events = nil
		for range 600 { // twenty seconds
			for _, v := range []string{"0", "1"} {
				h.Write(guard.IPTables, v)
				r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
			}
			time.Sleep(20 * time.Second / 600)
		}
		for next := r.Tick(time.Now()); !next.IsZero(); next = r.Tick(time.Now()) {
			time.Sleep(time.Until(next))
		}
		if n := len(rec.events); n > limits.Limit+2 {
			t.Errorf("%d records", n)
		}
		stands := 0
		for _, e := range rec.events {
			stands += e.Suppressed
			if e.Kind == record.KindDrift {
				stands++
			}
		}
		if stands != 600 || r.Totals().Drifts != 600 {
			t.Errorf("the records stand for %d drifts, counted are %d, want 600", stands, r.Totals().Drifts)
		}
		want := []string{
			"contention held: net.bridge.bridge-nf-call-iptables was changed 10 times within 300ms; mode observe leaves it so, and that is recorded once a minute",
			"contention held: net.bridge.bridge-nf-call-iptables was changed 590 more times since the last record",
			"contention observed: nobody has changed net.bridge.bridge-nf-call-iptables for 1m0s; it was changed 590 more times in the 20s before",
		}
		if diff := cmp.Diff(want, rec.lines()[limits.Limit-1:]); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// Who reloads again and again is nobody's adversary.
func TestReloadsAreNoFight(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	rec.events = nil
	for i := range 2 * limits.Limit {
		p.Sysctls = slices.Clone(p.Sysctls)
		p.Sysctls[0].Value = strconv.Itoa(i % 2)
		r.SetPolicy(p, limits)
		r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	}
	if f := r.Fights(); len(f) != 0 || len(rec.events) != 2*limits.Limit {
		t.Errorf("fights: %q; %d records, want one for each reload", f, len(rec.events))
	}
}
