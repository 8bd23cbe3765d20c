package daemon

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/step"
)

const hungFile = "reading /etc/cni/net.d/10-x.conf"

// M4, B2: a look that hangs shows with what it waits for, is late after two audit
// intervals, on record once, and the sysctls are kept meanwhile.
func TestLookThatHangsIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) { o.Watchdog = 10 * time.Second })
		time.Sleep(10 * time.Second)
		release := r.host.HangSurvey(hungFile)
		r.said()
		began := r.start.Add(time.Minute) // the audit
		time.Sleep(time.Until(began.Add(3 * time.Second)))
		s := r.snapshotNow()
		const calm = "br_netfilter loaded, 2 of 2 keys as wanted"
		want := Look{Began: began, Step: hungFile, StepBegan: began}
		if diff := cmp.Diff(want, r.look(s)); diff != "" || s.State != "healthy" ||
			s.Sentence != calm+"; a look has run since "+began.Format(time.TimeOnly)+": "+hungFile {
			t.Errorf("after 3 s it is %s: %s (-want +got):\n%s", s.State, s.Sentence, diff)
		}

		r.host.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		synctest.Wait()
		if got := r.host.Get(guard.IPTables); got != "1" {
			t.Errorf("while the look hangs, the sysctl is left %s", got)
		}

		r.said()
		time.Sleep(10 * time.Minute)
		s = r.snapshotNow()
		want.Late = true
		last := r.start
		if diff := cmp.Diff(want, r.look(s)); diff != "" || s.State != "degraded" ||
			!strings.HasSuffix(s.Sentence, "; no look has ended since "+last.Format(time.TimeOnly)+": "+hungFile+" since "+began.Format(time.TimeOnly)) {
			t.Errorf("after 10 min it is %s: %s (-want +got):\n%s", s.State, s.Sentence, diff)
		}
		var records, alive []string
		for _, line := range r.said() {
			if strings.HasSuffix(line, "WATCHDOG=1") {
				alive = append(alive, line)
			} else {
				records = append(records, line)
			}
		}
		wantRecords := []string{"2m0s look failed: no look has ended for 2m0s: " + hungFile + " has taken 1m0s; the sysctls are kept meanwhile, and nothing else"}
		if diff := cmp.Diff(wantRecords, records); diff != "" || len(alive) < 100 {
			t.Errorf("%d watchdog messages; records (-want +got):\n%s", len(alive), diff)
		}

		release()
		time.Sleep(1500 * time.Millisecond)
		wantRecords = []string{"11m3s look observed: a look has ended, 11m3s after the one before; it had waited at: " + hungFile}
		if diff := cmp.Diff(wantRecords, r.said()); diff != "" {
			t.Errorf("at the end (-want +got):\n%s", diff)
		}
		s = r.snapshotNow()
		if diff := cmp.Diff(Look{}, r.look(s)); diff != "" || s.State != "healthy" || s.Sentence != calm+"; 1 corrected so far" {
			t.Errorf("in the end it is %s: %s (-want +got):\n%s", s.State, s.Sentence, diff)
		}
	})
}

// look is that of a status without the times of the kernel's clock, which is not
// the bubble's.
func (*rig) look(s Status) Look {
	s.Look.Ended, s.Look.LateAt = 0, 0
	return s.Look
}

// A reload that was asked for while a look hangs is made after it, and until then
// it is said that it waits.
func TestReloadWaitsForALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		release := r.host.HangSurvey(hungFile)
		time.Sleep(time.Until(r.start.Add(70 * time.Second)))
		r.said()
		r.mu.Lock()
		r.settings.Policy.Sysctls = r.settings.Policy.Sysctls[:1]
		r.mu.Unlock()
		r.Reload()
		time.Sleep(10 * time.Second)
		r.Reload()
		time.Sleep(10 * time.Second)
		want := []string{"1m10s config failed: a reload was asked for, and waits for a look that has run for 10s: " + hungFile + "; the old configuration stays in force"}
		s := r.snapshotNow()
		if diff := cmp.Diff(want, r.said()); diff != "" || !s.Look.ReloadWaits || s.State != "degraded" || !strings.HasSuffix(s.Sentence, "; a reload waits for it") {
			t.Errorf("%s: %s; records (-want +got):\n%s", s.State, s.Sentence, diff)
		}
		release()
		want = []string{"1m30s RELOADING=1", "1m30s config observed: the configuration was reloaded", "1m30s READY=1"}
		got := r.said()
		time.Sleep(2 * time.Second)
		s = r.snapshotNow()
		if diff := cmp.Diff(want, got); diff != "" || s.Look.ReloadWaits || s.State != "healthy" {
			t.Errorf("%s: %s; records (-want +got):\n%s", s.State, s.Sentence, diff)
		}
	})
}

// A configuration on a disk that hangs holds up the reload, not the loop.
func TestReloadThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) {
			load, first := o.Load, true
			o.Load = func(ctx context.Context) (Settings, error) {
				if !first {
					step.Begin(ctx, "reading /etc/nfguard/nfguard.toml")
					<-release
				}
				first = false
				return load(ctx)
			}
		})
		time.Sleep(10 * time.Second)
		r.said()
		r.Reload()
		time.Sleep(3 * time.Second)
		r.host.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		synctest.Wait()
		s := r.snapshotNow()
		if got := r.host.Get(guard.IPTables); got != "1" || !strings.Contains(s.Sentence, "; a reload has run since 00:00:10: reading /etc/nfguard/nfguard.toml") {
			t.Errorf("while the reload hangs, the sysctl is %s; %s", got, s.Sentence)
		}
		r.said()
		time.Sleep(10 * time.Minute)
		want := []string{"2m0s look failed: no look has ended for 2m0s: reading /etc/nfguard/nfguard.toml has taken 1m50s; the sysctls are kept meanwhile, and nothing else"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		close(release)
		time.Sleep(time.Second)
		got := r.said()
		if len(got) != 4 || !strings.Contains(got[1], "config observed: the configuration was read again: nothing has changed") ||
			!strings.Contains(got[3], "look observed: a look has ended, 10m") {
			t.Errorf("at the end: %q", got)
		}
	})
}

// The first look sets the sysctls also while it hangs at something else. The
// service manager gives it time while it gets on, and not for ever.
func TestFirstLookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		h.Write(guard.IPTables, "0")
		release := h.HangSurvey(hungFile)
		r := newRig(t, h, nil)
		time.Sleep(5 * time.Second)
		s := r.snapshotNow()
		if got := h.Get(guard.IPTables); got != "1" || s.State != "degraded" ||
			s.Sentence != "starting: the first look has run since 00:00:00: "+hungFile+"; 1 corrected so far" {
			t.Errorf("the sysctl is %s; %s: %s", got, s.State, s.Sentence)
		}
		want := []string{
			"0s drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, as found at start",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		// At the start, and for the one step, which the loop sees at once or with the
		// next look at the sysctls.
		if got := r.extended; len(got) != 2 || got[0] != 0 || got[1] > 900*time.Millisecond {
			t.Errorf("it does not get on, and asks for time: %v", got)
		}
		release()
		synctest.Wait()
		if got := r.said(); got[len(got)-1] != "5s READY=1" {
			t.Errorf("at the end: %q", got)
		}
		time.Sleep(2 * time.Second)
		if s = r.snapshotNow(); s.State != "healthy" {
			t.Errorf("in the end it is %s: %s", s.State, s.Sentence)
		}
	})
}

func TestStartThatGetsOnIsGivenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		release := h.HangSurvey("a")
		r := newRig(t, h, nil)
		for range 400 { // a starved machine: a step every two seconds
			time.Sleep(2 * time.Second)
			step.Begin(step.Follow(t.Context(), &r.work.at), "b")
		}
		synctest.Wait()
		n := len(r.extended)
		last := r.extended[n-1]
		if n < 80 || n > 95 || last > startLimit || last < startLimit-3*time.Second {
			t.Errorf("asked %d times for time, at last after %v", n, last)
		}
		release()
	})
}

// The look at a single bridge for which a look at everything waits is a step of it.
func TestLookThatWaitsForABridge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		r := newRig(t, h, scoped)
		time.Sleep(10 * time.Second)
		h.HangLook = make(chan struct{}) // somebody holds rtnl_lock
		h.SetBridges(guard.Bridge{Name: "cni1", Index: 4})
		time.Sleep(time.Minute)
		if s := r.snapshotNow(); s.Look.Step != "looking at the bridge cni1" {
			t.Errorf("it is at %q; %s", s.Look.Step, s.Sentence)
		}
		close(h.HangLook)
		time.Sleep(2 * time.Second)
		if s := r.snapshotNow(); s.Look.Step != "" || s.State != "healthy" {
			t.Errorf("in the end it is at %q; %s", s.Look.Step, s.Sentence)
		}
	})
}
