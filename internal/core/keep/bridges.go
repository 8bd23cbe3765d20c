package keep

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/step"
)

// bridges keeps the flags of bridges. It looks at one at a time, in goroutines
// other than the loop's: one that it starts, for the bridges that wait, and that
// of whoever hears of a bridge first. The loop records what they did.
type bridges struct {
	book
	host   Host
	wait   func(context.Context, func(context.Context)) error
	start  func(work func())
	policy *guard.Policy // never changed

	queue   []visit        // bridges that wait for a look,
	place   map[string]int // and where they stand there, by name
	running chan struct{}  // closed when those that are looked at now are done; nil: none are
	names   []string       // of those
	stuck   map[string]int // corrections in a row that did not stay, by name

	listed   []guard.Bridge    // as of the last pass that could list them
	known    bool              // one could
	gone     map[int]time.Time // since when evidence has been gone, by the bridge's index
	concerns []guard.Finding   // as recorded
	moves    pace              // of records of bridges that appeared and were removed
	notes    pace              // of records of concerns

	turn sync.Mutex // held by who looks at a bridge, so that each thing is done once

	mu     sync.Mutex          // guards what follows, which the others see
	rules  *guard.Policy       // what to correct by; nil: no bridge is to be kept right
	fought map[string]struct{} // the loop paces what is done to those
	done   []visit             // that wait to be recorded
}

// visit is a look at one bridge, and what was done to it.
type visit struct {
	name    string
	policy  *guard.Policy // never changed
	trigger Trigger
	urgent  bool // nothing else may go on before it: not to be put off
	stale   bool // flags that were set on evidence are to be taken back

	was, now guard.Item // before and after
	there    bool       // there is a judgement after
	acted    bool
	err      error
	at       time.Time // when it was done
}

// betweenFlags is the least time between two corrections of a bridge that is
// fought over: as the loop paces its answers to sysctls.
const betweenFlags = 10 * time.Millisecond

func newBridges(a *account, h Host, wait func(context.Context, func(context.Context)) error, start func(func())) bridges {
	return bridges{book: newBook(a), host: h, wait: wait, start: start, stuck: make(map[string]int)}
}

// setPolicy keeps to p from now on. What is on record of bridges that p does not
// keep is for the next pass to forget: which those are depends on what they are.
func (b *bridges) setPolicy(p guard.Policy) {
	b.policy = &p
	b.queue, b.place, b.gone = nil, nil, nil
	b.turned = b.tell
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = nil
	if p.Bridges != nil && p.Mode != guard.Observe {
		b.rules = b.policy
	}
}

// tell tells who corrects bridges whether the loop paces that now.
func (b *bridges) tell(f *fight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delete(b.fought, f.subject); f.on {
		if b.fought == nil {
			b.fought = make(map[string]struct{})
		}
		b.fought[f.subject] = struct{}{}
	}
}

// ask has v made by the next call of attend.
func (b *bridges) ask(v visit) {
	if v.policy.Mode == guard.Observe {
		return
	}
	if i, again := b.place[v.name]; again {
		b.queue[i].stale = b.queue[i].stale || v.stale
		return
	}
	if b.place == nil {
		b.place = make(map[string]int)
	}
	b.place[v.name] = len(b.queue)
	b.queue = append(b.queue, v)
}

// correct is [Keeper.Correct].
func (b *bridges) correct(ctx context.Context, name string, t Trigger) bool {
	b.mu.Lock()
	p := b.rules
	_, fought := b.fought[name]
	b.mu.Unlock()
	if p == nil || fought {
		return false
	}
	b.visit(ctx, visit{name: name, policy: p, trigger: t})
	return true
}

// visit looks at the bridge, does what the plan says, and looks again.
func (b *bridges) visit(ctx context.Context, v visit) {
	b.turn.Lock()
	defer b.turn.Unlock()
	if v.was, _ = b.judge(ctx, &v); v.was.Action == nil {
		return
	}
	v.acted, v.err = true, b.host.Do(ctx, *v.was.Action)
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
	if b.running != nil {
		select {
		case <-b.running:
			b.running = nil
		default:
		}
	}
	b.recordDone()
	if b.running != nil || len(b.queue) == 0 {
		return time.Time{}
	}
	queue := b.queue
	b.queue, b.place = nil, nil
	var due []visit
	for _, v := range queue {
		if wait := b.free(v.name); !v.urgent && now.Before(wait) {
			again = earlier(again, wait)
			b.ask(v)
		} else {
			due = append(due, v)
		}
	}
	if len(due) > 0 {
		b.begin(ctx, due)
	}
	return again
}

func (b *bridges) begin(ctx context.Context, due []visit) {
	b.names = b.names[:0]
	for i := range due {
		b.names = append(b.names, due[i].name)
	}
	running := make(chan struct{})
	b.running = running
	b.start(func() {
		defer close(running)
		for _, v := range due {
			if ctx.Err() == nil {
				b.visit(ctx, v)
			}
		}
	})
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

// finish has the bridges looked at that wait now, and waits for that. Those that
// are put off are not waited for.
func (b *bridges) finish(ctx context.Context) {
	for range 3 { // those under way, ours, and the end of them
		b.attend(ctx, time.Now())
		running := b.running
		if running == nil {
			return
		}
		doing := "looking at the bridges " + strings.Join(b.names[:min(len(b.names), maxNames)], ", ")
		if len(b.names) > maxNames {
			doing += ", …"
		}
		if b.wait(ctx, func(ctx context.Context) {
			step.Begin(ctx, doing)
			select {
			case <-running:
			case <-ctx.Done():
			}
		}) != nil {
			return
		}
	}
}

// prepare sets the flags that p asks for.
func (b *bridges) prepare(ctx context.Context, p guard.Policy, t Trigger) {
	var o guard.Observation
	if b.wait(ctx, func(ctx context.Context) { o = b.host.Survey(ctx, &p, 0) }) != nil {
		return
	}
	for _, it := range guard.PlanFlags(&p, &o) {
		if it.Action != nil {
			b.ask(visit{name: it.Subject, policy: &p, trigger: t, urgent: true})
		}
	}
	b.finish(ctx)
}

// act has the flags put right that items ask for and that were not tried in this
// pass yet, and reports whether there were any.
func (b *bridges) act(ctx context.Context, t Trigger, items []guard.Item, tried map[string]bool) bool {
	acted := false
	for i := range items {
		it := &items[i]
		if it.Kind != record.KindFlag || it.Action == nil || tried[it.Subject] {
			continue
		}
		acted, tried[it.Subject] = true, true
		b.ask(visit{name: it.Subject, policy: b.policy, trigger: t, stale: it.Action.Op == guard.ClearFlags && it.Action.Evidence})
	}
	if acted {
		b.finish(ctx)
	}
	return acted
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
