// Package daemon is the loop: it waits for a reason to look, has the pass
// made, and tells systemd and the status file how things stand. It decides
// when to look, never what is right.
//
// The loop has one goroutine on a thread of its own. It waits in one system
// call, ppoll, for a write to a guarded sysctl and for everything else; then it
// looks, puts right, asks who it was, and records it.
package daemon

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/reconcile"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/pods"
)

// Settings are what the configuration asks for.
type Settings struct {
	Policy     guard.Policy
	Contention reconcile.Contention
	Resync     time.Duration // between looks at the sysctls when nothing happens
	ResyncTold time.Duration // the same where the kernel tells of every write; 0: no other
	Audit      time.Duration // between passes when nothing happens

	// Textfile is where the metrics go; "" for nowhere. The loop passes it on.
	Textfile string
}

// Options are the parts of a daemon.
type Options struct {
	// Process is which process this is, for who reads the status.
	Process instance.Process

	// Load reads the configuration, which may take as long as a disk takes. An
	// error at start ends Run; at a reload the old settings stay.
	Load func(context.Context) (Settings, error)

	// Configures reports whether a change of the file or directory at path
	// can be one of the configuration. Nil: no file is.
	Configures func(path string) bool

	// Sources makes the sources of news for settings.
	Sources func(Settings, source.Lender) ([]source.Source, error)

	// Stopped is called when the sources of former settings have stopped and
	// those of the new ones are to start. Nil: nobody wants to know.
	Stopped func()

	// Weak says what of the settings that are in force can't be kept on this
	// host. Nil: all of it can.
	Weak func(Settings) []guard.Finding

	// Rights says who makes the changes that take more rights than the others.
	// Nil: this process does.
	Rights func() string

	// Yield has the kernel let foreign values of k be stored, or no longer, where
	// it would otherwise store ours. Nil: it never does.
	Yield func(k guard.Key, yields bool)

	// PodName says what the pod with a uid and its container with an id are
	// called. It may take some milliseconds. Nil: nobody knows.
	PodName func(uid, container string) pods.Name

	Host     reconcile.Host
	Recorder reconcile.Recorder
	Log      *slog.Logger

	// Publish is given the status whenever it changed, at most once a second.
	// It must not block. Nil: nobody wants it.
	Publish func(Status)

	// Notify tells the service manager; it must not block. Nil: there is none.
	Notify func(state string)

	// Watchdog is how often the service manager wants to hear from the loop;
	// 0: never.
	Watchdog time.Duration
}

// RightsItself is what [Options.Rights] says of a daemon that needs nobody.
const RightsItself = "itself"

// Daemon keeps a host right until it is told to stop.
type Daemon struct {
	o       Options
	wait    waiter
	lending *lending
	ending  bool // nobody will read the news after this
	inbox   *source.Inbox

	settings Settings
	rec      *reconcile.Reconciler
	asides   sync.WaitGroup
	stop     func() // ends the sources and waits for them
	reloads  chan struct{}

	pace      pace      // of wake-ups by news of writes
	deaf      time.Time // news of writes wakes nobody before
	nextLook  time.Time
	lastNews  time.Time // of a write
	nextPass  time.Time // the audit, or a retry
	lastAudit time.Time // when a pass looked at all there is
	nextTend  time.Time // a look at single bridges that was put off; zero: none was
	backoff   time.Duration
	lastHint  time.Time // when a pass was last made for a hint
	due       *reconcile.Trigger
	settling  []time.Time // when to look at kube-proxy again after it has started
	reload    time.Time   // when to read the configuration again; zero: not
	asked     bool        // and that somebody asked for it
	nextAlive time.Time
	said      map[string]bool // sources of which it was said that they are lost
	status    board

	work       work
	lastLook   time.Time  // when the last look at everything ended, or when Run began
	late       bool       // it is on record that none has ended for too long
	lateStep   string     // and what it waited for
	reloadSaid bool       // it is on record that a reload waits
	ready      bool       // the first look has ended
	extended   *step.Step // where the first look was when more time was asked for
}

// New returns a daemon; Run starts it.
func New(o Options) (*Daemon, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return assemble(o, p), nil
}

func assemble(o Options, w waiter) *Daemon {
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Configures == nil {
		o.Configures = func(string) bool { return false }
	}
	if o.Stopped == nil {
		o.Stopped = func() {}
	}
	if o.Weak == nil {
		o.Weak = func(Settings) []guard.Finding { return nil }
	}
	if o.Rights == nil {
		o.Rights = func() string { return RightsItself }
	}
	if o.Publish == nil {
		o.Publish = func(Status) {}
	}
	return &Daemon{
		o: o, wait: w, lending: &lending{ring: w.Ring}, inbox: source.NewInbox(w.Ring),
		said: make(map[string]bool), reloads: make(chan struct{}, 1), extended: new(step.Step),
	}
}

// Reload has the configuration read again. It returns at once and may be
// called from any goroutine.
func (d *Daemon) Reload() {
	select {
	case d.reloads <- struct{}{}:
	default:
	}
	d.wait.Ring()
}

// Run keeps the host right until ctx is cancelled, and returns nil then. It
// fails only if the configuration cannot be read.
func (d *Daemon) Run(ctx context.Context) error {
	d.status.started = time.Now()
	d.lastLook = d.status.started
	d.extendStart(d.status.started)
	settings, err := d.o.Load(ctx)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer context.AfterFunc(ctx, d.wait.Ring)()

	d.settings = settings
	d.rec = reconcile.New(settings.Policy, settings.Contention, reconcile.Options{
		Host: d.o.Host, Recorder: naming{d}, Beside: d.beside, Aside: d.aside, News: d.news, Named: d.named, Yield: d.o.Yield,
	})
	sources, err := d.o.Sources(settings, d.lending)
	if err != nil {
		return err
	}
	d.startSources(sources)
	defer func() { d.stop() }()
	d.confess(settings)

	report := d.pass(ctx, reconcile.Trigger{Source: "start", Look: guard.LookAll})
	if report.Aborted == nil {
		d.ready = true
		d.awaitSources(len(sources), 500*time.Millisecond, func(h source.Health) bool { return h.Up })
		d.begin(report)
	}
	for ctx.Err() == nil {
		d.turn(ctx)
	}
	d.end(ctx)
	return nil
}

// turn waits for a reason to look, and looks.
func (d *Daemon) turn(ctx context.Context) {
	readable := d.await(d.housekeep(time.Now()))
	if ctx.Err() != nil {
		return
	}
	d.consider(d.inbox.Take()) // first: what the look finds may be what a hint is about
	d.look(ctx, readable)
	now := time.Now()
	if !d.reload.IsZero() && !now.Before(d.reload) {
		d.reconfigure(ctx, now)
	}
	if d.settles(now) {
		d.want(reconcile.Trigger{Source: "exec", Time: now, Look: guard.LookKubeProxy})
	}
	switch {
	case d.due != nil && now.Sub(d.lastHint) >= settle:
		t := *d.due
		d.lastHint = now
		d.pass(ctx, t)
	case !now.Before(d.nextPass):
		d.pass(ctx, reconcile.Trigger{Source: "audit", Time: now, Look: guard.LookAll})
	}
}

// The waits before something is looked at again that changes in bursts. The
// first hint is served at once.
const (
	settle       = 200 * time.Millisecond // between two passes for hints
	settleConfig = 500 * time.Millisecond // after the last change of a configuration file
)

// want asks for a pass. The first trigger of several is kept: it came first.
// What each wants to be looked at adds up.
func (d *Daemon) want(t reconcile.Trigger) {
	if d.due == nil {
		d.due = &t
		return
	}
	d.due.Look |= t.Look
}

// lookFor says what news of a source is a reason to look at, beside what
// every pass looks at.
func lookFor(source string) guard.Look {
	switch source {
	case "exec", "unit", "rules":
		return guard.LookKubeProxy
	case "file":
		return guard.LookNextBoot
	}
	return 0
}

// afterStart is when everything is looked at again after kube-proxy has
// started: it touches sysctls, and writes its rules, later than it is
// executed.
var afterStart = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}

// settles reports whether one of the looks after a start is due.
func (d *Daemon) settles(now time.Time) (due bool) {
	for len(d.settling) > 0 && !now.Before(d.settling[0]) {
		due, d.settling = true, d.settling[1:]
	}
	return due
}

// consider turns hints into what is to be done.
func (d *Daemon) consider(hints []source.Hint) {
	for _, h := range hints {
		d.o.Log.Debug("hint", "source", h.Source, "reason", h.Reason, "path", h.Path)
		d.want(reconcile.Trigger{Source: h.Source, Time: h.Time, Look: lookFor(h.Source)})
		if h.Device != "" {
			d.rec.Bridge(h.Device, reconcile.Trigger{Source: h.Source, Time: h.Time})
		}
		if (h.Source == "exec" || h.Source == "unit") && !strings.HasPrefix(h.Reason, source.Subscribed) {
			d.settling = d.settling[:0]
			for _, wait := range afterStart {
				d.settling = append(d.settling, h.Time.Add(wait))
			}
		}
		if h.Source == "file" && h.Reason != source.Subscribed && d.o.Configures(h.Path) {
			d.reload = time.Now().Add(settleConfig)
		}
	}
	select {
	case <-d.reloads:
		d.reload, d.asked = time.Now(), true
	default:
	}
}

// pass has everything looked at.
func (d *Daemon) pass(ctx context.Context, t reconcile.Trigger) reconcile.Report {
	d.consider(d.inbox.Take()) // right before the look
	if d.due != nil {
		t.Look |= d.due.Look
		d.due = nil
	}
	if time.Since(d.lastAudit) >= d.settings.Audit { // what hints is not to put it off for ever
		t.Look |= guard.LookAll
	}
	if w := d.lending.lent(); w != nil {
		if err := w.Check(); err != nil {
			d.lending.giveBack(err)
		}
	}
	d.beginWork("look")
	report := d.rec.Pass(ctx, t)
	d.endWork()
	now := time.Now()
	if report.Aborted != nil {
		if ctx.Err() == nil {
			d.o.Log.Error("pass aborted", "error", report.Aborted)
		}
		d.nextPass = now.Add(time.Second)
		return report
	}
	if t.Look&guard.LookAll == guard.LookAll {
		d.lastAudit = now
	}
	if report.Verdict() == guard.Right {
		d.backoff = 0
		d.nextPass = now.Add(d.settings.Audit)
	} else {
		d.backoff = min(max(2*d.backoff, time.Second), d.settings.Audit)
		d.nextPass = now.Add(d.backoff)
	}
	d.nextLook = now // what the pass put off, and what came during its end
	d.inbox.Kick()   // a source may have waited for what the pass mended
	d.status.took(report)
	d.lookEnded(now)
	d.o.Log.Debug("pass", "source", t.Source, "verdict", string(report.Verdict()))
	return report
}
