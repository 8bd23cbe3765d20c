package keep_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// told returns a host that is right, with a kernel that tells what news holds.
func told(t *testing.T, news *[]record.Write) (h *hosttest.Host, rec *recorder, r *keep.Keeper) {
	t.Helper()
	host, rec, _ := settled(t, policy())
	r = keep.New(policy(), limits, keep.Options{Host: host, Recorder: rec, News: func() []record.Write {
		n := *news
		*news = nil
		return n
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	rec.events = nil
	return host, rec, r
}

// TestToldBeforeStored: the kernel tells of a write, and stores it later.
func TestToldBeforeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var news []record.Write
		h, rec, r := told(t, &news)
		writer := record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service", Container: "0123456789abcdef"}
		news = []record.Write{{File: guard.IPTables.File(), Writer: writer, Exact: true, At: time.Now(), Old: "1", New: "0"}}
		at := time.Now()
		look := r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: at})
		if got := look.Next.Sub(at); got != 100*time.Microsecond {
			t.Errorf("nothing was stored yet: the next look is in %v, want 100µs", got)
		}
		time.Sleep(300 * time.Microsecond)
		look = r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		if got := look.Next.Sub(at); got != 600*time.Microsecond || rec.events != nil {
			t.Errorf("still nothing: the next look is at %v, want 600µs; records %q", got, rec.lines())
		}
		h.Write(guard.IPTables, "0")
		time.Sleep(300 * time.Microsecond)
		look = r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
		if !look.Next.IsZero() {
			t.Errorf("all is told and done, and another look is wanted at %v", look.Next)
		}
		want := []record.Event{{
			Kind: record.KindDrift, Outcome: record.Corrected, Time: at.Add(600 * time.Microsecond), Subject: string(guard.IPTables),
			Message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 600µs (written by tuned[812], container 0123456789ab)",
			Want:    "1", Old: "1", Have: "0", Now: "1", Duration: 600 * time.Microsecond, Source: "sysctl", Writer: writer, Pass: 1,
		}}
		if diff := cmp.Diff(want, rec.events, cmpopts.IgnoreFields(record.Event{}, "Err")); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		// A write that was told and never came (refused by somebody else) is
		// looked for a while, and is nobody's drift later.
		rec.events = nil
		news = []record.Write{{File: guard.IPTables.File(), Writer: writer, Exact: true, At: time.Now(), Old: "1", New: "0"}}
		looks := 0
		for look = r.Look(t.Context(), keep.Trigger{}); !look.Next.IsZero(); look = r.Look(t.Context(), keep.Trigger{}) {
			time.Sleep(time.Until(look.Next))
			looks++
		}
		if looks < 5 || looks > 15 {
			t.Errorf("%d looks for a write that never came, want about ten", looks)
		}
		h.Write(guard.IPTables, "0")
		r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
		if len(rec.events) != 1 || rec.events[0].Writer.PID != 0 {
			t.Errorf("another write is put on the account of the first: %+v", rec.events)
		}
	})
}

// TestNextWriterIsNotBlamed: the loop is held up right after it has put a value
// back, and hears of that writer and of the next one together.
func TestNextWriterIsNotBlamed(t *testing.T) {
	first, next := record.Process{PID: 1, Comm: "sh"}, record.Process{PID: 2, Comm: "sysctl"}
	by := func(w record.Process) record.Write {
		return record.Write{File: guard.IPTables.File(), Writer: w, Exact: true, At: time.Now(), Old: "1", New: "0"}
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, h *hosttest.Host, r *keep.Keeper, news *[]record.Write)
		want []string
	}{
		{
			name: "by the loop",
			do: func(t *testing.T, h *hosttest.Host, r *keep.Keeper, news *[]record.Write) {
				*news = []record.Write{by(first)}
				h.Write(guard.IPTables, "0")
				h.AfterSet = func(h *hosttest.Host, k guard.Key) {
					h.AfterSet = nil
					time.Sleep(8 * time.Millisecond)
					h.Write(guard.IPTables, "0")
					*news = append(*news, by(next))
					time.Sleep(2 * time.Millisecond)
				}
			},
			want: []string{
				"drift reverted: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 10ms (written by sh[1]), and changed again at once",
				"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 2ms (written by sysctl[2])",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var news []record.Write
				h, rec, r := told(t, &news)
				tt.do(t, h, r, &news)
				r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
				if diff := cmp.Diff(tt.want, rec.lines()); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestRewritten: a write that the kernel rewrote is a drift of no duration, many
// of them are a fight, and in one that yields the kernel lets the key be.
func TestRewritten(t *testing.T) {
	for _, yields := range []bool{false, true} {
		t.Run(fmt.Sprint("yields: ", yields), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var news []record.Write
				var told []string
				host, rec, _ := settled(t, policy())
				c := limits
				c.Yield = yields
				r := keep.New(policy(), c, keep.Options{
					Host: host, Recorder: rec,
					News:  func() []record.Write { n := news; news = nil; return n },
					Yield: func(k guard.Key, yields bool) { told = append(told, fmt.Sprint(k, " ", yields)) },
				})
				r.Pass(t.Context(), keep.Trigger{Source: "start"})
				rec.events, told = nil, nil
				write := func(missed int, value string) {
					news = append(news, record.Write{
						File: guard.IPTables.File(), Writer: record.Process{PID: 812, Comm: "tuned"},
						Exact: true, At: time.Now(), Old: "1", New: value, Outcome: record.Rewritten, Missed: missed,
					})
					r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
				}
				for range limits.Limit {
					write(0, "0")
				}
				write(99, "") // not told of one by one
				if n := uint64(limits.Limit + 100); r.Totals().Drifts != n || r.Totals().Corrected != n || r.Totals().Denied != 0 {
					t.Errorf("totals %+v, want %d", r.Totals(), n)
				}
				for _, e := range rec.events[:limits.Limit-1] {
					if e.Kind != record.KindDrift || e.Outcome != record.Rewritten || e.Duration != 0 {
						t.Errorf("recorded %+v", e)
					}
				}
				begins := fmt.Sprintf("contention held: net.bridge.bridge-nf-call-iptables was written to %d times within 0s (written by tuned[812]); none of it is stored; that is recorded once a minute", limits.Limit)
				var want []string
				if yields {
					begins = strings.Replace(begins, "none of it is stored; that is recorded once a minute", "nfguard leaves it alone until nobody has written to it for 1m0s", 1)
					want = append(want, "net.bridge.bridge-nf-call-iptables true")
				} else {
					want = append(want, "net.bridge.bridge-nf-call-iptables false")
				}
				if got := rec.lines(); len(got) != limits.Limit || got[limits.Limit-1] != begins {
					t.Errorf("%d records, the last one %q, want %q", len(got), got[len(got)-1], begins)
				}
				time.Sleep(2 * limits.Window)
				r.Tick(time.Now())
				want = append(want, "net.bridge.bridge-nf-call-iptables false")
				if diff := cmp.Diff(want, told); diff != "" {
					t.Errorf("the kernel was told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What a storm leaves is said with its writer where that is known.
func TestStormIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var news []record.Write
		_, rec, r := told(t, &news)
		for _, w := range []record.Process{{PID: 812, Comm: "python3"}, {}} {
			news = append(news, record.Write{
				File: guard.IPTables.File(), Writer: w, Exact: true, At: time.Now(), Outcome: record.Denied, Missed: 6234,
			})
		}
		r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		want := []string{
			"denied denied: net.bridge.bridge-nf-call-iptables stays 1: 6235 more writes by python3[812] were refused",
			"denied denied: net.bridge.bridge-nf-call-iptables stays 1: 6235 more writes were refused",
		}
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// TestFightSaysWhoDidHowMany: of a storm of which the kernel tells a few writes
// one by one, the rest has its writers too.
func TestFightSaysWhoDidHowMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var news []record.Write
		h, rec, r := told(t, &news)
		python, other := record.Process{PID: 812, Comm: "python3"}, record.Process{PID: 99, Comm: "sysctl"}
		say := func(w record.Process, value string, missed int) {
			news = append(news, record.Write{File: guard.IPTables.File(), Writer: w, Exact: true, At: time.Now(), New: value, Missed: missed})
		}
		for range limits.Limit {
			h.Write(guard.IPTables, "0")
			say(python, "0", 0)
			r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		}
		say(python, "", 5999) // not told of one by one, and stored
		say(record.Process{}, "", 999)
		say(other, "", 99)
		r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		before := len(rec.events)
		time.Sleep(2 * limits.Window)
		r.Tick(time.Now())
		want := fmt.Sprintf("(written by python3[812], %d of %d writes)", 6000+limits.Limit, 7100+limits.Limit)
		if n := len(rec.events); n != before+1 || !strings.HasSuffix(rec.events[before].Message, want) || rec.events[before].Writer.PID != 812 {
			t.Errorf("want %s, recorded %q", want, rec.lines()[before:])
		}
		if got := r.Totals(); got.Drifts != uint64(limits.Limit) {
			t.Errorf("what is only counted became drifts: %+v", got)
		}
	})
}

func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var news []record.Write
		_, rec, r := told(t, &news)
		deny := func(o record.Outcome, missed int) {
			news = append(news, record.Write{
				File: guard.IPTables.File(), Writer: record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service"},
				Exact: true, At: time.Now(), Old: "1", New: "0", Outcome: o, Missed: missed,
			})
			r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
		}
		deny(record.Denied, 0)
		deny(record.Rewritten, 0)
		want := []string{
			"denied denied: net.bridge.bridge-nf-call-iptables stays 1: tuned[812], tuned.service wrote 0 and was refused",
			"drift rewritten: net.bridge.bridge-nf-call-iptables stays 1: tuned[812], tuned.service wrote 0, which was rewritten",
		}
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		for range 100 {
			deny(record.Denied, 999)
			time.Sleep(100 * time.Millisecond)
		}
		counted := 0
		for _, e := range rec.events {
			counted += e.Suppressed
			if e.Kind == record.KindDenied {
				counted++
			}
		}
		if n := len(rec.events); n != 8 { // ten make it a fight, with the two above
			t.Errorf("%d records of a fight that was lost a hundred thousand times: %q", n, rec.lines())
		}
		time.Sleep(2 * time.Minute)
		rec.events = nil
		r.Tick(time.Now())
		for _, e := range rec.events {
			counted += e.Suppressed
		}
		if counted != 100_000 || r.Totals().Denied != 100_001 || r.Totals().Drifts != 1 {
			t.Errorf("%d denials are on record, and %d in the totals", counted, r.Totals().Denied)
		}
		last := []string{"contention observed: nobody has written to net.bridge.bridge-nf-call-iptables for 1m0s; " +
			"it was written to 92999 more times in the 9.2s before (written by tuned[812], tuned.service)"}
		if diff := cmp.Diff(last, rec.lines()); diff != "" {
			t.Errorf("the end (-want +got):\n%s", diff)
		}
	})
}
