package keep

import (
	"context"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/step"
)

// bridges keeps the flags of bridges, and hairpin mode at their ports. It looks at one at a time, in goroutines
// other than the loop's: one that it starts, for the bridges that wait, and that
// of whoever hears of a bridge first. The loop records what they did.
type bridges struct {
	book
	host   Host
	wait   waiter
	start  func(work func())
	policy *guard.Policy // never changed

	waiting map[string]visit // bridges that are to be looked at when it is their time
	tried   map[string]bool  // in the pass that runs, by name
	stuck   map[string]int   // corrections in a row that did not stay, by name

	listed   []guard.Bridge    // as of the last pass that could list them
	known    bool              // one could
	gone     map[int]time.Time // since when evidence has been gone, by the bridge's index
	concerns []guard.Finding   // as recorded
	moves    pace              // of records of bridges that appeared and were removed
	notes    pace              // of records of concerns
	hairpins pace              // of records of ports that were put in hairpin mode

	turn chan struct{} // full while a bridge is looked at, so that each thing is done once

	mu    sync.Mutex      // guards what follows, which the others see
	rules *guard.Policy   // what to correct by; nil: no bridge is to be kept right
	paced map[string]bool // those are fought over, and left to the loop
	done  []visit         // that wait to be recorded
	busy  bool            // bridges that have waited are looked at
}

// visit is a look at one bridge, or one port of a bridge, and what was done to it.
type visit struct {
	name    string
	policy  *guard.Policy // never changed
	trigger Trigger
	ours    bool // the configuration changes: what is done is no part of a fight
	stale   bool // flags that were set on evidence are to be taken back

	was, now guard.Item // before and after
	there    bool       // there is a judgement after
	err      error
	at       time.Time // when it was done
}

// betweenFlags is the least time between two corrections of a bridge that is
// fought over: as the loop paces its answers to sysctls.
const betweenFlags = 10 * time.Millisecond

func newBridges(a *account, h Host, wait waiter, start func(func())) bridges {
	return bridges{
		book: newBook(a), host: h, wait: wait, start: start,
		stuck: make(map[string]int), turn: make(chan struct{}, 1), paced: make(map[string]bool),
	}
}

// setPolicy keeps to p from now on. What is on record of bridges that p does not
// keep is for the next pass to forget: which those are depends on what they are.
func (b *bridges) setPolicy(p guard.Policy) {
	b.policy = &p
	b.waiting, b.gone = make(map[string]visit), nil
	b.turned = b.setPaced
	b.setRules()
}

// setRules says by what bridges are corrected, if they are.
func (b *bridges) setRules() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = nil
	if p := b.policy; (p.Bridges != nil || p.Hairpin.Keep) && b.acts() {
		b.rules = p
	}
}

// setPaced tells whoever corrects a bridge whether that is left to the loop.
func (b *bridges) setPaced(f *fight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delete(b.paced, f.subject); f.on {
		b.paced[f.subject] = true
	}
}

// ask has v made by a later call of attend.
func (b *bridges) ask(v visit) {
	if _, again := b.waiting[v.name]; !again {
		b.waiting[v.name] = v
	}
}

// correct is [Keeper.Correct].
func (b *bridges) correct(ctx context.Context, name string, t Trigger) bool {
	b.mu.Lock()
	p := b.rules
	paced := b.paced[name]
	b.mu.Unlock()
	if p == nil || paced {
		return false
	}
	b.visit(ctx, visit{name: name, policy: p, trigger: t})
	return true
}

// visit looks at the bridge, does what the plan says, and looks again.
func (b *bridges) visit(ctx context.Context, v visit) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return
	}
	if v.was, _ = b.judge(ctx, &v); v.was.Action == nil {
		return
	}
	v.err = b.host.Do(ctx, *v.was.Action)
	v.at = time.Now()
	v.now, v.there = b.judge(ctx, &v)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, v)
}

func (b *bridges) judge(ctx context.Context, v *visit) (guard.Item, bool) {
	o := b.host.SurveyBridge(ctx, v.policy, v.name)
	for i := range o.Remembered {
		o.Remembered[i].Stale = v.stale
	}
	for _, it := range guard.PlanFlags(v.policy, &o) {
		return it, true
	}
	return guard.Item{}, false
}

// attend records what was done to bridges, and begins with those that wait. It
// never blocks, and returns when it wants to be called again: zero when nothing
// waits for the time. The end of what it begins has it called, too.
func (b *bridges) attend(ctx context.Context, now time.Time) (again time.Time) {
	if b.recordDone() || len(b.waiting) == 0 || !b.acts() {
		return time.Time{}
	}
	var due []visit
	for name, v := range b.waiting {
		if wait := b.free(name); now.Before(wait) {
			again = earlier(again, wait)
		} else {
			due = append(due, v)
			delete(b.waiting, name)
		}
	}
	if len(due) > 0 {
		b.setBusy(true)
		b.start(func() {
			defer b.setBusy(false)
			b.visitAll(ctx, due)
		})
	}
	return again
}

func (b *bridges) setBusy(busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = busy
}

// recordDone records what was done to bridges since the last call, and reports
// whether some that have waited are still looked at.
func (b *bridges) recordDone() (busy bool) {
	b.mu.Lock()
	done, busy := b.done, b.busy
	b.done = nil
	b.mu.Unlock()
	for i := range done {
		b.recordVisit(&done[i])
	}
	return busy
}

// free returns when the flags of a bridge may be set again; zero when nobody
// fights about them.
func (b *bridges) free(name string) time.Time {
	f := b.on[name]
	switch {
	case f == nil:
		return time.Time{}
	case b.limits.Yield:
		return f.last.Add(b.limits.Window)
	}
	return f.last.Add(betweenFlags)
}

func (b *bridges) visitAll(ctx context.Context, due []visit) {
	for _, v := range due {
		if ctx.Err() == nil {
			step.Begin(ctx, "looking at the bridge "+v.name)
			b.visit(ctx, v)
		}
	}
}

// waitFor makes those visits, waits for them, and records what they did.
func (b *bridges) waitFor(ctx context.Context, due []visit) {
	if len(due) > 0 {
		_ = b.wait(ctx, func(ctx context.Context) { b.visitAll(ctx, due) }) // an error is of ctx: the pass ends, too
		b.recordDone()
	}
}

// prepare sets the flags that p asks for.
func (b *bridges) prepare(ctx context.Context, p guard.Policy, t Trigger) {
	var o guard.Observation
	if b.wait(ctx, func(ctx context.Context) { o = b.host.Survey(ctx, &p, 0) }) != nil {
		return
	}
	var due []visit
	for _, it := range guard.PlanFlags(&p, &o) {
		if it.Action != nil {
			due = append(due, visit{name: it.Subject, policy: &p, trigger: t, ours: true})
		}
	}
	b.waitFor(ctx, due)
}

// act has the flags put right that items ask for and that were not tried in this
// pass yet, and reports whether there were any. Bridges that are fought over wait
// for their time, and are not waited for.
func (b *bridges) act(ctx context.Context, t Trigger, items []guard.Item) bool {
	var due []visit
	before := len(b.tried)
	for i := range items {
		it := &items[i]
		if it.Kind != record.KindFlag || it.Action == nil || b.tried[it.Subject] {
			continue
		}
		b.tried[it.Subject] = true
		v := visit{name: it.Subject, policy: b.policy, trigger: t, stale: it.Action.Op == guard.ClearFlags && it.Action.Evidence}
		if it.Action.Op == guard.SetFlags && time.Now().Before(b.free(v.name)) {
			b.ask(v)
		} else {
			due = append(due, v)
		}
	}
	b.waitFor(ctx, due)
	return len(b.tried) > before
}

// evidenceGone is how long evidence has to be gone before what was set on it is
// taken back: longer than the pods of a node are away in a rollout or a restart
// of the kubelet, for each time takes two records.
const evidenceGone = 10 * time.Minute

// age says of which bridges the evidence has been gone for long enough. Only
// looks that found out everything count, one after the other: what a look could
// not see may have been there, so after one that failed, or is not certain, the
// time begins anew, and after a start or a reload, too. It errs towards what
// was so far.
func (b *bridges) age(now time.Time, o *guard.Observation) {
	was := b.gone
	b.gone = make(map[int]time.Time)
	for _, m := range guard.OnGoneEvidence(b.policy, o) {
		since, ok := was[m.Index]
		if !ok {
			since = now
		}
		b.gone[m.Index] = since
	}
	for i := range o.Remembered {
		m := &o.Remembered[i]
		since, ok := b.gone[m.Index]
		m.Stale = ok && now.Sub(since) >= evidenceGone
	}
}
