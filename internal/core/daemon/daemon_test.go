package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

// nap is a waiter on channels, so that time is synctest's.
type nap struct {
	bell chan struct{} // one slot
	hot  chan struct{} // one slot; the descriptor is readable
}

func newNap() *nap { return &nap{make(chan struct{}, 1), make(chan struct{}, 1)} }

func (n *nap) Ring() {
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

func (n *nap) Wait(fd int, d time.Duration) (readable, rung bool) {
	hot := n.hot
	if fd < 0 {
		hot = nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-n.bell:
		return false, true
	case <-timer.C:
	case <-hot:
		return true, false
	}
	return false, false
}

// fakeWatch is a descriptor that tells of writes.
type fakeWatch struct {
	nap   *nap
	mu    sync.Mutex
	news  []record.Write
	stale bool

	err error // of the next tries to open it

	complete bool
	opened   int
	reads    int
	rest     *record.Write
}

func (w *fakeWatch) FD() int { return 7 }

func (w *fakeWatch) Complete() bool { return w.complete }

func (w *fakeWatch) Rest(tell func(record.Write)) {
	if w.rest != nil {
		tell(*w.rest)
	}
}

func (w *fakeWatch) Read(tell func(record.Write)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	for _, r := range w.news {
		tell(r)
	}
	w.news = nil
	return nil
}

func (w *fakeWatch) Stale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	stale := w.stale
	w.stale = false
	return stale
}

func (w *fakeWatch) Close() {}

func (w *fakeWatch) open() (Watch, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened++
	if w.err != nil {
		return nil, "", w.err
	}
	return w, "subscribed", nil
}

// tell is the kernel: somebody has written.
func (w *fakeWatch) tell(k guard.Key) {
	w.tellBy(k, record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service"})
}

func (w *fakeWatch) tellBy(k guard.Key, by record.Process) {
	w.mu.Lock()
	w.news = append(w.news, record.Write{File: k.File(), Writer: by})
	w.mu.Unlock()
	select {
	case w.nap.hot <- struct{}{}:
	default:
	}
}

// pipe is a source that hints what it is given, or fails.
type pipe struct {
	name  string
	about source.Topic
	in    chan source.Hint
	fail  chan error
}

func (p *pipe) Name() string { return p.name }

func (p *pipe) Run(ctx context.Context, hint func(source.Hint)) error {
	hint(source.Hint{Source: p.name, About: p.about, Kind: source.Subscribed, Reason: "subscribed"})
	for {
		select {
		case h := <-p.in:
			hint(h)
		case err := <-p.fail:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// rig is a daemon on a host in memory.
type rig struct {
	*Daemon
	t     *testing.T
	host  *hosttest.Host
	nap   *nap
	watch *fakeWatch
	link  *pipe
	file  *pipe
	start time.Time

	mu       sync.Mutex
	settings Settings
	loadErr  error
	events   []record.Event
	log      []string // records and notifications, each after the time since the start
	status   Status
	quiet    bool
	extended []time.Duration // when more time to start was asked for

	cancel context.CancelFunc
	done   chan error
}

func (r *rig) Record(e record.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.say(fmt.Sprintf("%s %s: %s", e.Kind, e.Outcome, e.Message))
}

func (r *rig) say(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.quiet {
		r.log = append(r.log, fmt.Sprintf("%v %s", time.Since(r.start), what))
	}
}

// said returns what was recorded and notified since the last call.
func (r *rig) said() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return log
}

// newRig starts a daemon inside a synctest bubble.
func newRig(t *testing.T, h *hosttest.Host, change func(*Options, *Settings)) *rig {
	t.Helper()
	n := newNap()
	r := &rig{
		t: t, host: h, nap: n, watch: &fakeWatch{nap: n}, start: time.Now(), done: make(chan error, 1),
		link: &pipe{"link", source.Devices, make(chan source.Hint), make(chan error)},
		file: &pipe{"file", source.Files, make(chan source.Hint), make(chan error)},
	}
	r.settings = Settings{
		Policy: guard.Policy{
			Mode: guard.Enforce, Module: "br_netfilter",
			Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}, {Key: "net.ipv4.ip_forward", Value: "0"}},
		},
		Contention: keep.Contention{Limit: 10, Window: time.Minute},
		Resync:     900 * time.Millisecond, Audit: time.Minute,
	}
	o := Options{
		Load: func(context.Context) (Settings, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.settings, r.loadErr
		},
		Sources: func(Settings) (Opener, []source.Source, error) {
			return r.watch.open, []source.Source{r.link, r.file}, nil
		},
		Configures: func(path string) bool { return path == "/etc/nfguard/nfguard.toml" },
		Host:       h, Recorders: []keep.Recorder{r}, Log: slog.New(slog.DiscardHandler),
		Publish: func(s Status) { r.mu.Lock(); r.status = s; r.mu.Unlock() },
		Notify: func(s string) {
			if s == "EXTEND_TIMEOUT_USEC=20000000" {
				r.mu.Lock()
				r.extended = append(r.extended, time.Since(r.start))
				r.mu.Unlock()
			} else if !strings.HasPrefix(s, "STATUS=") {
				r.say(strings.TrimSpace(strings.Split(s, "\n")[0]))
			}
		},
	}
	if change != nil {
		change(&o, &r.settings)
	}
	r.Daemon = assemble(o, n)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

const onGuard = "start observed: started (devel, mode enforce): br_netfilter loaded, 2 of 2 keys as wanted"

func TestReadyAfterTheFirstPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		h.Write(guard.IPTables, "0")
		var atReady string
		r := newRig(t, h, func(o *Options, _ *Settings) {
			notify := o.Notify
			o.Notify = func(s string) {
				if s == "READY=1" {
					atReady = h.Get(guard.IPTables)
				}
				notify(s)
			}
		})
		want := []string{
			"0s drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, as found at start",
			"0s " + onGuard + "; 1 corrected so far; news from sysctl, link, file",
			"0s READY=1",
		}
		got := r.said()
		for i := range got { // the sources start in any order
			if strings.Contains(got[i], onGuard) {
				got[i] = want[1]
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || atReady != "1" {
			t.Errorf("at start (-want +got):\n%s\nthe key was %s at READY", diff, atReady)
		}
		r.cancel()
		time.Sleep(time.Second)
		want = []string{"0s STOPPING=1", "0s stop observed: stopped, the host stays as it is; 1 corrected, 0 attempts failed"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("at the end (-want +got):\n%s", diff)
		}
	})
}

// TestEndCountsTheRest: what the kernel refused and did not tell of one by one is
// on record when the daemon ends.
func TestEndCountsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		r.watch.mu.Lock()
		r.watch.rest = &record.Write{
			File: guard.IPTables.File(), Writer: record.Process{PID: 812, Comm: "tuned"},
			Exact: true, At: time.Now(), Outcome: record.Denied, Missed: 41,
		}
		r.watch.mu.Unlock()
		r.cancel()
		time.Sleep(time.Second)
		want := []string{
			"10s STOPPING=1",
			"10s denied denied: net.bridge.bridge-nf-call-iptables stays 1: 42 more writes by tuned[812] were refused",
			"10s stop observed: stopped, the host stays as it is; 0 corrected, 0 attempts failed",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("at the end (-want +got):\n%s", diff)
		}
	})
}

func TestForeignWriteIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		r.host.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		want := []string{"10s drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 0s (written by tuned[812], tuned.service)"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Second)
		if s := r.snapshotNow(); s.State != "healthy" || s.Totals.Corrected != 1 || s.Sentence != "br_netfilter loaded, 2 of 2 keys as wanted; 1 corrected so far" {
			t.Errorf("status: %+v", s)
		}
	})
}

func (r *rig) snapshotNow() Status {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Whoever shares the process gets what is in force and the last pass, with each
// audit and as soon as either changed: the metrics live by it.
func TestPublishesWhatIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var published atomic.Int64
		r := newRig(t, hosttest.New(true), func(o *Options, _ *Settings) {
			publish := o.Publish
			o.Publish = func(s Status) { published.Add(1); publish(s) }
		})
		time.Sleep(10 * time.Second)
		s := r.snapshotNow()
		if s.Settings.Audit != time.Minute || len(s.Report.Items) != 3 || s.Report.Pass != s.Pass {
			t.Errorf("want the settings and the pass, got %+v and %+v", s.Settings, s.Report)
		}
		before := published.Load()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := published.Load() - before; n != 10 {
			t.Errorf("want it with each of 10 audits, got it %d times", n)
		}
		r.mu.Lock()
		r.settings.Textfile = "/var/lib/node_exporter/nfguard.prom"
		r.mu.Unlock()
		r.Reload()
		time.Sleep(2 * time.Second)
		if got := r.snapshotNow().Settings.Textfile; got != "/var/lib/node_exporter/nfguard.prom" {
			t.Errorf("after a reload the textfile is %q", got)
		}
	})
}

// A write that nobody tells of is found by the resync, within its period.
func TestUnseenWriteIsFoundByTheResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		r.host.Write(guard.IPTables, "0")
		time.Sleep(900 * time.Millisecond)
		got := r.said()
		if len(got) != 1 || !strings.Contains(got[0], "set back to 1, after at most 900ms (nobody was seen writing it)") {
			t.Errorf("records: %q", got)
		}
	})
}

// modprobe hangs in the kernel: other keys are kept all the same, the
// watchdog hears from us, and we can be stopped.
func TestHungModprobe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(false)
		h.Hang = make(chan struct{})
		r := newRig(t, h, func(o *Options, _ *Settings) { o.Watchdog = 30 * time.Second })
		time.Sleep(5 * time.Second)
		h.Write("net.ipv4.ip_forward", "1")
		r.watch.tell("net.ipv4.ip_forward")
		time.Sleep(15 * time.Second)
		want := []string{
			"0s WATCHDOG=1",
			"5s drift corrected: net.ipv4.ip_forward was 1, set back to 0 after 0s (written by tuned[812], tuned.service)",
			"15s WATCHDOG=1",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("while modprobe hangs (-want +got):\n%s", diff)
		}
		stop := time.Now()
		r.cancel()
		if err := <-r.done; err != nil || time.Since(stop) > 3*time.Second {
			t.Errorf("stopped after %v: %v", time.Since(stop), err)
		}
		r.done <- nil
		close(h.Hang)
	})
}

// Everything gone: the module is loaded again at once, and the watch that
// sat on its files is renewed.
func TestModuleGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		r.host.Unload()
		r.link.in <- source.Hint{Source: "uevent", About: source.Module, Kind: source.Removed, Reason: "module unloaded"}
		got := r.said()
		if len(got) != 1 || !strings.HasPrefix(got[0], "10s module corrected: br_netfilter was not loaded, loaded in ") {
			t.Errorf("records: %q", got)
		}
		if r.watch.opened != 2 {
			t.Errorf("the watch was opened %d times, want 2", r.watch.opened)
		}
	})
}

func TestStaleWatchIsRenewedAtTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.watch.mu.Lock()
		r.watch.stale = true
		r.watch.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if r.watch.opened != 2 {
			t.Errorf("the watch was opened %d times, want 2", r.watch.opened)
		}
	})
}

func TestFailedPassIsRetriedByBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(false)
		h.LoadErr = errors.New("load br_netfilter: exit status 1")
		start := time.Now()
		newRig(t, h, nil)
		var tries []string
		for len(tries) < 9 {
			time.Sleep(time.Millisecond)
			for range h.Writes() {
				tries = append(tries, time.Since(start).Round(time.Second).String())
			}
		}
		want := []string{"0s", "1s", "3s", "7s", "15s", "31s", "1m3s", "2m3s", "3m3s"}
		if diff := cmp.Diff(want, tries); diff != "" {
			t.Errorf("tries (-want +got):\n%s", diff)
		}
	})
}

// The first hint is served at once, the burst that follows as one.
func TestBurstOfHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		before := r.snapshotNow().Pass
		for i := range 100 {
			r.link.in <- source.Hint{Source: "link", About: source.Devices, Kind: source.Appeared, Reason: fmt.Sprintf("bridge br%d appeared", i)}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if passes := r.snapshotNow().Pass - before; passes != 2 {
			t.Errorf("%d passes for 100 hints within 0.1 s, want 2", passes)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.Reload() // the status has just been written
		time.Sleep(100 * time.Millisecond)
		r.said()
		r.mu.Lock()
		r.loadErr = errors.New("nfguard.toml:3: mod: no such key")
		r.mu.Unlock()
		r.Reload()
		time.Sleep(time.Millisecond)
		want := []string{
			"10.1s RELOADING=1",
			"10.1s config failed: the configuration was not reloaded, the old one stays in force: nfguard.toml:3: mod: no such key",
			"10.1s READY=1",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("a bad file (-want +got):\n%s", diff)
		}
		if s := r.snapshotNow(); s.State != "degraded" || s.ConfigError == "" {
			t.Errorf("the status does not know at once: %+v", s)
		}
		time.Sleep(899 * time.Millisecond)
		r.host.Write(guard.IPTables, "0") // the old one is in force
		r.watch.tell(guard.IPTables)
		if got := r.said(); len(got) != 1 {
			t.Errorf("records: %q", got)
		}

		// An editor saves, twice; the file is good, and asks for ip_forward.
		r.mu.Lock()
		r.loadErr = nil
		r.settings.Policy.Sysctls = []guard.Setting{{Key: "net.ipv4.ip_forward", Value: "1"}}
		r.mu.Unlock()
		r.file.in <- source.Hint{Source: "file", About: source.Files, Kind: source.Appeared, Reason: "created", Path: "/etc/nfguard/nfguard.toml"}
		time.Sleep(100 * time.Millisecond)
		r.file.in <- source.Hint{Source: "file", About: source.Files, Kind: source.Changed, Reason: "written", Path: "/etc/nfguard/nfguard.toml"}
		time.Sleep(2 * time.Second)
		want = []string{
			"11.6s RELOADING=1",
			"11.6s config observed: the configuration was reloaded",
			"11.6s READY=1",
			"11.6s drift corrected: net.ipv4.ip_forward was 0, set to 1, as the changed configuration asks",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("a good file (-want +got):\n%s", diff)
		}
		if s := r.snapshotNow(); s.State != "healthy" {
			t.Errorf("status: %+v", s)
		}

		// A file is touched: nothing to say. Somebody asks: an answer.
		r.file.in <- source.Hint{Source: "file", About: source.Files, Kind: source.Changed, Reason: "written", Path: "/etc/nfguard/nfguard.toml"}
		time.Sleep(2 * time.Second)
		if got := r.said(); got != nil {
			t.Errorf("a file was touched: %q", got)
		}
		r.Reload()
		time.Sleep(time.Second)
		if got := r.said(); len(got) != 3 || !strings.HasSuffix(got[1], "config observed: the configuration was read again: nothing has changed") {
			t.Errorf("asked to reload: %q", got)
		}
	})
}

func TestBadConfigurationAtStart(t *testing.T) {
	bad := errors.New("nfguard.toml:3: mod: no such key")
	d := assemble(Options{Load: func(context.Context) (Settings, error) { return Settings{}, bad }}, newNap())
	if err := d.Run(t.Context()); !errors.Is(err, bad) {
		t.Errorf("Run: %v", err)
	}
}

func TestLostSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		r.link.fail <- errors.New("no buffer space available") // back within 1 s, and 2: not worth a record
		time.Sleep(9 * time.Second)
		if got := r.said(); got != nil {
			t.Errorf("a short loss is recorded: %q", got)
		}
		for range 3 { // away for 2, 4 and 8 s
			r.link.fail <- errors.New("no buffer space available")
			time.Sleep(10 * time.Second)
		}
		want := []string{
			"32s source failed: no news from the source link: no buffer space available; what it would have told is found later, by looking",
			"33s source observed: news from the source link again (subscribed)",
			"42s source failed: no news from the source link: no buffer space available; what it would have told is found later, by looking",
			"47s source observed: news from the source link again (subscribed)",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// A writer in a tight loop gets a bounded number of answers, and costs a
// bounded number of looks and records.
func TestTightLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), nil)
		time.Sleep(10 * time.Second)
		r.said()
		r.watch.mu.Lock()
		r.watch.reads = 0
		r.watch.mu.Unlock()
		const d = 60 * time.Second
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
			r.host.Write(guard.IPTables, "0")
			r.watch.tell(guard.IPTables)
		}
		time.Sleep(100 * time.Millisecond)
		r.watch.mu.Lock()
		reads := r.watch.reads
		r.watch.mu.Unlock()
		// Each answer reads twice: the news, and that there is no more.
		if limit := 2 * (burst + 61*int(time.Second/storm) + 100); reads > limit {
			t.Errorf("%d reads in a minute, want at most %d", reads, limit)
		}
		if got := r.said(); len(got) > 12 {
			t.Errorf("%d records for a minute of fighting: %q", len(got), got)
		}
		if v := r.host.Get(guard.IPTables); v != "1" {
			t.Errorf("after the storm the key is %s", v)
		}
	})
}

func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(0, 0)
	for i := range burst - 1 {
		if wait := p.take(now); !wait.IsZero() {
			t.Fatalf("turn %d has to wait until %v", i, wait)
		}
	}
	for i := range 3 {
		if wait := p.take(now); wait != now.Add(storm) {
			t.Fatalf("turn %d after the burst: wait until %v", i, wait)
		}
		now = now.Add(storm)
	}
	for i := range 100 {
		now = now.Add(between)
		if wait := p.take(now); !wait.IsZero() {
			t.Fatalf("turn %d at the pace that can be kept: wait until %v", i, wait)
		}
	}
	now = now.Add(time.Hour)
	if wait := p.take(now); !wait.IsZero() {
		t.Errorf("an hour later: wait until %v", wait)
	}
}

// TestHintsDoNotPutOffTheAudit: where there is news all the time, what nobody
// tells of is looked for all the same.
func TestHintsDoNotPutOffTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), func(_ *Options, s *Settings) { s.Audit = time.Minute })
		time.Sleep(10 * time.Second)
		r.said()
		r.host.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{{PID: 1, Comm: "kube-proxy"}}})
		for range 6 {
			time.Sleep(10 * time.Second)
			r.inbox.Put(source.Hint{Source: "link", About: source.Devices, Kind: source.Changed, Reason: "bridge cnio0 changed"})
		}
		time.Sleep(time.Second)
		want := []string{"1m0s kube_proxy observed: kube-proxy[1] started (no rules); the node was ready: br_netfilter loaded, 2 of 2 keys as wanted, no bridge yet"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// TestAfterKubeProxyStarted: what it does later is looked for, though nobody
// tells of it; and what several hints want to be looked at adds up.
func TestAfterKubeProxyStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), func(_ *Options, s *Settings) { s.Audit = time.Hour })
		time.Sleep(10 * time.Second)
		r.said()
		k := guard.KubeProxy{Processes: []guard.Process{{PID: 1, Comm: "kube-proxy"}}}
		r.host.SetKubeProxy(k)
		r.inbox.Put(source.Hint{Source: "link", About: source.Devices, Kind: source.Appeared, Reason: "bridge cnio0 appeared"})
		r.inbox.Put(source.Hint{Source: "exec", About: source.Processes, Kind: source.Appeared, Reason: "kube-proxy[1] started"})
		for i, wait := range []time.Duration{500 * time.Millisecond, 3 * time.Second, 10 * time.Second, 15 * time.Second} {
			time.Sleep(wait)
			k.Rules = []guard.Rules{{Mode: "iptables", IPv4: i%2 == 0, IPv6: i%2 == 1}}
			r.host.SetKubeProxy(k)
		}
		time.Sleep(time.Minute)
		const ready = "; the node was ready: br_netfilter loaded, 2 of 2 keys as wanted, no bridge yet"
		want := []string{
			"10s kube_proxy observed: kube-proxy[1] started (no rules)" + ready,
			"14s kube_proxy observed: kube-proxy's rules are there: iptables mode, IPv4, 1s after its start" + ready,
			"18s kube_proxy observed: kube-proxy's rules have changed: iptables mode, IPv6" + ready,
			"28s kube_proxy observed: kube-proxy's rules have changed: iptables mode, IPv4" + ready,
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}
