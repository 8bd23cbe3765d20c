package daemon

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/core/source"
)

const askedAt = "/run/nfguard/pause.json"

// desk is where a pause is asked for, and what the kernel's program was told.
type desk struct {
	mu     sync.Mutex
	start  time.Time
	slept  time.Duration // the machine has, without the loop's clock
	asked  pause.Asked
	kernel []bool
}

const uptime = 3 * time.Hour

func (d *desk) clock() pause.Clock {
	d.mu.Lock()
	defer d.mu.Unlock()
	return pause.Clock{Boot: "b00t", Since: uptime + time.Since(d.start) + d.slept, Wall: time.Now()}
}

// ask puts a request there.
func (d *desk) ask(verb string, length time.Duration) {
	c := d.clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = pause.Asked{Request: &pause.Request{
		Schema: 1, Verb: verb, Boot: "b00t", Asked: c.Since.Microseconds(), For: length.Microseconds(), Reason: "a new CNI plugin",
		Process: instance.Process{PID: 812}, By: pause.Asker{PID: 812, Comm: "nfguard", UID: "0", Seen: true},
	}}
}

func (d *desk) put(a pause.Asked) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = a
}

func (d *desk) at(o *Options) {
	d.start = time.Now()
	o.AskedAt, o.Clock = askedAt, d.clock
	o.Asked = func() pause.Asked { d.mu.Lock(); defer d.mu.Unlock(); return d.asked }
	o.Pause = func(on bool) { d.mu.Lock(); defer d.mu.Unlock(); d.kernel = append(d.kernel, on) }
}

func (d *desk) told() []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.kernel
	d.kernel = nil
	return k
}

// rings is news of the file.
func (r *rig) rings() {
	r.file.in <- source.Hint{Source: "file", About: source.Files, Kind: source.Appeared, Path: askedAt, Time: time.Now()}
	synctest.Wait()
}

const by = "asked for by nfguard[812] (uid 0): a new CNI plugin"

// A pause begins and ends at once, and what is changed in it is put right at its end,
// while a look hangs.
func TestPauseDoesNotWaitForALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d desk
		r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) { d.at(o) })
		time.Sleep(10 * time.Second)
		release := r.host.HangSurvey(hungFile)
		time.Sleep(time.Until(r.start.Add(70 * time.Second)))
		r.said()
		if diff := cmp.Diff([]bool{false}, d.told()); diff != "" {
			t.Errorf("the kernel, at start: %s", diff)
		}
		d.ask(pause.Pause, 30*time.Second)
		until := time.Now().Add(30 * time.Second).Format(time.TimeOnly)
		r.rings()
		r.host.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		want := []string{
			"1m10s pause paused: paused for 30s, until " + until + ": nothing is corrected until then; " + by,
			"1m10s drift paused: net.bridge.bridge-nf-call-iptables is 0, wanted 1 (written by tuned[812], tuned.service); left so: nfguard is paused",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("it begins (-want +got):\n%s", diff)
		}
		time.Sleep(29 * time.Second)
		s := r.snapshotNow()
		if s.State != "degraded" || s.Pause == nil || !strings.HasPrefix(s.Sentence, "paused until "+until+" by nfguard[812] (uid 0): a new CNI plugin; ") || r.host.Get(guard.IPTables) != "0" {
			t.Errorf("in the pause: %s, the key is %s", s.Sentence, r.host.Get(guard.IPTables))
		}
		if diff := cmp.Diff([]bool{true}, d.told()); diff != "" {
			t.Errorf("the kernel, in the pause: %s", diff)
		}
		r.said()
		time.Sleep(2 * time.Second)
		want = []string{"1m40s drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 30s, at the end of a pause"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("it ends (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]bool{false}, d.told()); diff != "" {
			t.Errorf("the kernel, after the pause: %s", diff)
		}
		release()
		time.Sleep(time.Second)
		want = []string{"1m41s pause corrected: the pause has ended after 30s: its time was over; put right, as it was at its end: net.bridge.bridge-nf-call-iptables was 0"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("after the look (-want +got):\n%s", diff)
		}
		if s := r.snapshotNow(); s.Pause != nil || s.State != "healthy" || s.Totals.Drifts != 1 || s.Totals.Corrected != 1 {
			t.Errorf("in the end: %s, %+v", s.Sentence, s.Totals)
		}
	})
}

// A daemon that starts in a pause changes nothing before its end: no more its first look
// than the kernel's program.
func TestPauseAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d desk
		h := hosttest.New(true)
		h.Write(guard.IPTables, "0")
		r := newRig(t, h, func(o *Options, _ *Settings) {
			d.at(o)
			d.ask(pause.Pause, time.Minute)
		})
		time.Sleep(50 * time.Second)
		if got := r.host.Get(guard.IPTables); got != "0" {
			t.Errorf("the key is %s", got)
		}
		if diff := cmp.Diff([]bool{true, true}, d.told()); diff != "" {
			t.Errorf("the kernel: %s", diff)
		}
		log := r.said()
		until := r.start.Add(time.Minute).Format(time.TimeOnly)
		if want := "0s pause paused: still paused after a start, until " + until + ": nothing is corrected until then; " + by; log[0] != want {
			t.Errorf("want %q first: %q", want, log)
		}
		if want := "0s READY=1"; log[len(log)-1] != want {
			t.Errorf("want %q last: %q", want, log)
		}
		time.Sleep(20 * time.Second)
		if got := r.host.Get(guard.IPTables); got != "1" {
			t.Errorf("after the pause the key is %s", got)
		}
	})
}

// The machine sleeps through the end of a pause: that is found out by the clock that goes
// on then.
func TestPauseWhileTheMachineSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d desk
		r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) { d.at(o) })
		time.Sleep(10 * time.Second)
		d.ask(pause.Pause, 8*time.Hour)
		r.rings()
		r.host.Write(guard.IPTables, "0")
		time.Sleep(time.Minute)
		if got := r.host.Get(guard.IPTables); got != "0" {
			t.Errorf("in the pause the key is %s", got)
		}
		d.mu.Lock()
		d.slept = 10 * time.Hour
		d.mu.Unlock()
		time.Sleep(lookAtClock + time.Second)
		if got := r.host.Get(guard.IPTables); got != "1" {
			t.Errorf("after the pause the key is %s", got)
		}
	})
}

// What ends a pause, and what does not; and the record says how it was at its end.
func TestPauseEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(r *rig, d *desk)
		want []string
	}{
		{
			name: "resume; the key was put right meanwhile",
			do: func(r *rig, d *desk) {
				r.host.Write(guard.IPTables, "1")
				time.Sleep(time.Second)
				d.ask(pause.Resume, 0)
				r.rings()
			},
			want: []string{`pause observed: the pause has ended after 21s: "nfguard resume" was asked for by nfguard[812] (uid 0); all was as wanted at its end`},
		},
		{
			name: "the file is removed, and nobody tells of it",
			do: func(_ *rig, d *desk) {
				d.put(pause.Asked{})
				time.Sleep(time.Minute)
			},
			want: []string{
				"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after …, at the end of a pause",
				"pause corrected: the pause has ended after …: its file was removed; put right, as it was at its end: net.bridge.bridge-nf-call-iptables was 0",
			},
		},
		{
			name: "the file is no request any more, and stays so",
			do: func(r *rig, d *desk) {
				d.put(pause.Asked{Err: errors.New("it is no request of nfguard")})
				r.rings()
				time.Sleep(5 * time.Minute)
			},
			want: []string{
				"pause failed: a pause was refused: it is no request of nfguard; the one before has ended with it, after 20s",
				"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 10s, at the end of a pause",
			},
		},
		{
			name: "the value cannot be set",
			do: func(r *rig, d *desk) {
				r.host.SetErr = errors.New("no")
				d.ask(pause.Resume, 0)
				r.rings()
			},
			want: []string{
				"drift failed: net.bridge.bridge-nf-call-iptables is 0, wanted 1; could not set it: no",
				`pause failed: the pause has ended after 20s: "nfguard resume" was asked for by nfguard[812] (uid 0); not as wanted now: net.bridge.bridge-nf-call-iptables`,
			},
		},
		{
			name: "a reload does not",
			do: func(r *rig, _ *desk) {
				r.mu.Lock()
				r.settings.Audit = 2 * time.Minute
				r.mu.Unlock()
				r.Reload()
			},
			want: []string{
				"RELOADING=1", "config observed: the configuration was reloaded", "READY=1",
				"drift paused: net.bridge.bridge-nf-call-iptables is 0, wanted 1; left so: nfguard is paused",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d desk
				r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) { d.at(o) })
				time.Sleep(10 * time.Second)
				d.ask(pause.Pause, time.Hour)
				r.rings()
				time.Sleep(10 * time.Second)
				r.host.Write(guard.IPTables, "0")
				r.watch.tell(guard.IPTables)
				time.Sleep(10 * time.Second)
				r.said()
				tt.do(r, &d)
				time.Sleep(time.Second)
				var got []string
				for i, line := range r.said() {
					_, line, _ = strings.Cut(line, " ")
					if i < len(tt.want) && strings.Contains(tt.want[i], "after …") {
						line = cutAfter(line)
					}
					got = append(got, line)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// cutAfter replaces the duration behind "after".
func cutAfter(line string) string {
	before, rest, ok := strings.Cut(line, "after ")
	if !ok {
		return line
	}
	i := strings.IndexAny(rest, ":,")
	return before + "after …" + rest[i:]
}

// In mode observe there is nothing to pause, which is said once, and is not forgotten: the
// request does not come into force when the mode changes.
func TestPauseInObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d desk
		r := newRig(t, hosttest.New(true), func(o *Options, s *Settings) { d.at(o); s.Policy.Mode = guard.Observe })
		time.Sleep(10 * time.Second)
		r.said()
		d.ask(pause.Pause, time.Hour)
		r.rings()
		time.Sleep(5 * time.Minute)
		want := []string{"10s pause failed: a pause that nfguard[812] (uid 0) asked for was refused: in mode observe nothing is corrected anyway"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if s := r.snapshotNow(); s.Refused == nil || s.Refused.Why != "in mode observe nothing is corrected anyway" || s.Refused.ID == "" || s.Pause != nil {
			t.Errorf("status: %+v, %+v", s.Refused, s.Pause)
		}
		r.mu.Lock()
		r.settings.Policy.Mode = guard.Enforce
		r.mu.Unlock()
		r.Reload()
		time.Sleep(5 * time.Minute)
		r.host.Write(guard.IPTables, "0")
		time.Sleep(2 * time.Second)
		if got := r.host.Get(guard.IPTables); got != "1" {
			t.Errorf("after the mode has changed, the key is %s", got)
		}
	})
}
