package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/source"
)

// fails has the next tries to open the watch fail by err, nil: no longer.
func (w *fakeWatch) fails(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// A watch that cannot be opened is tried again as a source is, shows as one, and
// what was written meanwhile is found by the resync.
func TestWatchThatCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		want := source.Health{Name: "sysctl", Up: true, How: "subscribed", Since: r.start, LastNews: r.start, Hints: 1}
		if diff := cmp.Diff(want, r.snapshotNow().Sources[0]); diff != "" {
			t.Errorf("before (-want +got):\n%s", diff)
		}

		broken := errors.New("fanotify: too many open files")
		r.watch.fails(broken)
		r.watch.mu.Lock()
		r.watch.stale, r.watch.opened = true, 0
		r.watch.mu.Unlock()
		time.Sleep(55 * time.Second) // the audit is at 1m0s
		r.watch.fails(nil)
		r.host.Write(guard.IPTables, "0")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		got := r.said()
		wantRecords := []string{
			"1m3s source failed: no news from the source sysctl: fanotify: too many open files; what it would have told is found later, by looking",
			"1m5.7s drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, after at most 900ms (nobody was seen writing it)",
			"1m7s source observed: news from the source sysctl again (subscribed)",
		}
		if diff := cmp.Diff(wantRecords, got); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		// At the audit and after it, then 1, 2 and 4 s later.
		if r.watch.opened != 5 {
			t.Errorf("it was tried %d times, want 5", r.watch.opened)
		}
		if h := r.snapshotNow().Sources[0]; !h.Up || h.Restarts != 4 || h.Since.Sub(r.start) != 67*time.Second {
			t.Errorf("after: %+v", h)
		}
	})
}

// A watch that fails at the start, since the module is not loaded, is opened as
// soon as the pass has loaded it.
func TestWatchWaitsForTheModule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(false)
		h.Hang = make(chan struct{}) // modprobe
		r := newRig(t, h, func(o *Options, _ *Settings) {
			sources := o.Sources
			o.Sources = func(s Settings) (Opener, []source.Source, error) {
				open, list, err := sources(s)
				return func() (Watch, string, error) {
					if h.Get(guard.IPTables) == "" {
						return nil, "", errors.New("no such file")
					}
					return open()
				}, list, err
			}
		})
		time.Sleep(200 * time.Millisecond)
		close(h.Hang)
		synctest.Wait()
		if s := r.snapshotNow().Sources[0]; !s.Up || time.Since(s.Since) != 0 {
			t.Errorf("after the module was loaded: %+v", s)
		}
	})
}

func TestNoWatchWithoutSysctls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), func(o *Options, s *Settings) {
			s.Policy.Sysctls = nil
			sources := o.Sources
			o.Sources = func(s Settings) (Opener, []source.Source, error) {
				_, list, err := sources(s)
				return nil, list, err
			}
		})
		time.Sleep(10 * time.Second)
		if s := r.snapshotNow(); len(s.Sources) != 2 || s.State != "healthy" {
			t.Errorf("%s, sources %+v", s.State, s.Sources)
		}
	})
}

// stubborn is a source whose first run does not end when it is told to.
type stubborn struct {
	pipe
	runs    int
	release chan struct{}
}

func (s *stubborn) Run(ctx context.Context, hint func(source.Hint)) error {
	if s.runs++; s.runs > 1 {
		return s.pipe.Run(ctx, hint)
	}
	hint(source.Hint{Source: s.name, About: s.about, Kind: source.Subscribed, Reason: "subscribed"})
	<-s.release
	return nil
}

// A source that hangs holds a reload for two seconds, and nothing else: the
// sysctls are kept meanwhile, and its successor is up.
func TestSourceThatHangsInAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stubborn{pipe: pipe{name: "rules", about: source.Rules}, release: make(chan struct{})}
		r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) {
			sources := o.Sources
			o.Sources = func(settings Settings) (Opener, []source.Source, error) {
				open, list, err := sources(settings)
				return open, append(list, s), err
			}
		})
		time.Sleep(10 * time.Second)
		r.said()
		r.mu.Lock()
		r.settings.Audit = 2 * time.Minute
		r.mu.Unlock()
		r.Reload()
		time.Sleep(time.Second)
		r.host.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		time.Sleep(5 * time.Second)
		want := []string{
			"10s RELOADING=1",
			"11s drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 0s (written by tuned[812], tuned.service)",
			"12s config observed: the configuration was reloaded",
			"12s READY=1",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		close(s.release)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if status := r.snapshotNow(); status.State != "healthy" || len(r.said()) != 0 {
			t.Errorf("%s: %s", status.State, status.Sentence)
		}
	})
}
