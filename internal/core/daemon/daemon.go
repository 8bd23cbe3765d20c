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
	"runtime"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/step"
)

// Daemon keeps a host right until it is told to stop.
type Daemon struct {
	o       Options
	wait    waiter
	inbox   *source.Inbox
	reloads chan struct{}

	settings Settings
	rec      *keep.Keeper
	sources  func() *sync.WaitGroup // tells the sources to end, and is what to wait for
	started  sync.WaitGroup         // work that was started and is not waited for
	ending   bool                   // nobody will read the news after this

	at    deadlines
	watch watch
	pace  pace // of wake-ups by news of writes

	wanted       *keep.Trigger // the pass that hints ask for
	lastForHints time.Time     // when such a pass was last made
	settling     []time.Time   // when to look at kube-proxy again after it has started
	backoff      time.Duration // before the next pass after one that left something wrong
	asked        bool          // somebody has asked for the reload that is due

	lost   map[string]bool // sources of which it is on record that they are lost
	status board
	work   work

	pausing pausing
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
	o.complete()
	return &Daemon{
		o: o, wait: w, inbox: source.NewInbox(w.Ring), lost: make(map[string]bool),
		reloads: make(chan struct{}, 1), work: work{extended: new(step.Step)},
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
	now := time.Now()
	d.status.started, d.work.lastLook = now, now
	d.extendStart(now)
	settings, err := d.o.Load(ctx)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer context.AfterFunc(ctx, d.wait.Ring)()

	d.settings = settings
	d.rec = keep.New(settings.Policy, settings.Contention, keep.Options{
		Host: d.o.Host, Recorder: naming{d}, Wait: d.runWork, Go: d.startWork, News: d.news, Named: d.named, Yield: d.o.Yield,
	})
	if d.o.Asked != nil { // before anything is put right, or kept out
		d.decidePause(d.o.Asked(), now)
	}
	d.o.Pause(d.pausing.now != nil)
	opener, sources, err := d.o.Sources(settings)
	if err != nil {
		return err
	}
	if d.o.Watchdog > 0 {
		d.at.Set(feedWatchdog, now)
	}
	d.startSources(ctx, opener, sources)
	defer func() {
		awaitShortly(d.sources())
		d.stopWatch()
	}()
	d.recordWeak(settings)

	report := d.pass(ctx, keep.Trigger{Source: "start", Look: guard.LookAll})
	if report.Aborted == nil {
		d.work.ready = true
		d.awaitSources(ctx, len(sources), 500*time.Millisecond, func(h source.Health) bool { return h.Up })
		d.begin(report)
	}
	for ctx.Err() == nil {
		d.turn(ctx)
	}
	d.end()
	return nil
}

// turn waits for a reason to look, and looks.
func (d *Daemon) turn(ctx context.Context) {
	d.upkeep(time.Now())
	readable, rung := d.await(d.at.Next())
	if ctx.Err() != nil {
		return
	}
	d.hear(ctx, readable, rung)
	now := time.Now()
	if d.at.Due(readConfiguration, now) {
		d.reconfigure(ctx, now)
	}
	if d.at.Due(lookAtKubeProxy, now) {
		d.lookAfterStart(now)
	}
	switch {
	case d.at.Due(passForHints, now):
		t := *d.wanted
		d.lastForHints = now
		d.pass(ctx, t)
	case d.at.Due(passAnyway, now):
		d.pass(ctx, keep.Trigger{Source: "audit", Time: now, Look: guard.LookAll})
	}
}

// hear takes the hints if it was rung for, and looks at the sysctls.
func (d *Daemon) hear(ctx context.Context, readable, rung bool) {
	if rung {
		d.takeHints() // first: what the look finds may be what a hint is about
	}
	d.look(ctx, readable)
	if rung { // single bridges may have been looked at, of which some records are put off
		d.at.Set(tellFights, time.Now())
	}
}

// show has the status published soon.
func (d *Daemon) show() { d.at.Sooner(publish, d.status.published.Add(publishEvery)) }

// upkeep does what is due by the clock at any time.
func (d *Daemon) upkeep(now time.Time) {
	if d.at.Due(feedWatchdog, now) {
		d.o.Notify("WATCHDOG=1")
		d.at.Set(feedWatchdog, now.Add(d.o.Watchdog/2))
	}
	if d.at.Due(openWatch, now) {
		d.retryWatch(now)
	}
	if d.at.Due(tellFights, now) {
		d.at.Set(tellFights, d.rec.Tick(now))
	}
	if d.at.Due(tellSources, now) {
		d.tellSources(now)
	}
	if d.at.Due(readPause, now) || d.at.Due(endPause, now) || d.pausing.read.Load() != nil {
		d.followPause(now)
	}
	if d.at.Due(publish, now) {
		d.publish(now)
	}
}

// pass has everything looked at.
func (d *Daemon) pass(ctx context.Context, t keep.Trigger) keep.Report {
	d.takeHints() // right before the look
	if d.wanted != nil {
		t.Look |= d.wanted.Look
		d.wanted = nil
	}
	d.at.Clear(passForHints)
	began := time.Now()
	if d.at.Due(lookAtAll, began) { // a source that hints all the time must not put it off for ever
		t.Look |= guard.LookAll
	}
	d.renewWatch(began)
	ended := d.pausing.ended // later ones wait for the next look
	d.beginWork("look")
	report := d.rec.Pass(ctx, t)
	d.endWork()
	now := time.Now()
	if report.Aborted != nil {
		if ctx.Err() == nil {
			d.o.Log.Error("pass aborted", "error", report.Aborted)
		}
		d.at.Set(passAnyway, now.Add(time.Second))
		return report
	}
	if t.Look&guard.LookAll == guard.LookAll {
		d.at.Set(lookAtAll, now.Add(d.settings.Audit))
	}
	wait := d.settings.Audit
	if report.Verdict() == guard.Right {
		d.backoff = 0
	} else {
		d.backoff = min(max(2*d.backoff, time.Second), d.settings.Audit)
		wait = d.backoff
	}
	d.at.Set(passAnyway, now.Add(wait))
	d.at.Set(tellFights, now)
	d.at.Set(lookAtSysctls, now) // what the pass put off, and what came during its end
	if len(report.Changes) > 0 { // it may have loaded the module, with its sysctls
		d.renewWatch(now)
	}
	if !d.at[openWatch].IsZero() { // it, or a source, may have waited for what the pass put right
		d.watch.wait = 0
		d.retryWatch(now)
	}
	d.inbox.Retry()
	d.status.took(report)
	d.tellPauseEnd(ended, report.Items, report.Pass)
	d.at.Set(readPause, now) // news of it may have been lost
	d.show()
	d.lookEnded(now)
	d.o.Log.Debug("pass", "source", t.Source, "verdict", string(report.Verdict()))
	return report
}
