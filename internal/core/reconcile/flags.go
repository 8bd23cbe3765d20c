package reconcile

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/core/words"
)

// errand is one bridge that is to be looked at, and put right.
type errand struct {
	name   string
	policy *guard.Policy // never changed
	cause  Trigger
	urgent bool // nothing else may go on before it: not to be put off
	stale  bool // flags that were set on evidence are to be taken back
}

// batch is errands that are run beside the loop. There is one at a time, so
// each is done by one goroutine and recorded once.
type batch struct {
	errands []errand
	visits  []visit       // valid when ended is closed
	ended   chan struct{} // closed
}

// visit is what became of an errand.
type visit struct {
	errand
	was, now guard.Item // before and after
	there    bool       // there is a judgement after
	acted    bool
	err      error
	at       time.Time // when it was done
}

// betweenFlags is the least time between two corrections of a bridge that is
// fought over: as the loop paces its answers to sysctls.
const betweenFlags = 10 * time.Millisecond

// maxFlagStuck is how many times in a row flags that were set may be gone at
// the next look before the kernel is believed not to keep them.
const maxFlagStuck = 5

// Bridge asks for a look at one bridge without waiting for a pass; [Reconciler.Tend]
// has it made. A bridge that is not to be kept is not touched.
func (r *Reconciler) Bridge(name string, t Trigger) {
	if r.policy.Bridges != nil {
		p := r.policy
		r.enqueue(errand{name: name, policy: &p, cause: t})
	}
}

func (r *Reconciler) enqueue(e errand) {
	if e.policy.Mode == guard.Observe {
		return
	}
	if i, again := r.waiting[e.name]; again {
		r.errands[i].stale = r.errands[i].stale || e.stale
		return
	}
	if r.waiting == nil {
		r.waiting = make(map[string]int)
	}
	r.waiting[e.name] = len(r.errands)
	r.errands = append(r.errands, e)
}

// Tend records what looks at single bridges have done, and begins the next
// ones. It never blocks, and returns when it wants to be called again: zero
// when nothing waits for the time. The end of a look rings by Options.Aside.
func (r *Reconciler) Tend(ctx context.Context, now time.Time) (again time.Time) {
	r.recordMet()
	if b := r.batch; b != nil {
		select {
		case <-b.ended:
		default:
			return time.Time{}
		}
		r.batch = nil
		for i := range b.visits {
			r.recordVisit(&b.visits[i])
		}
	}
	var due, later []errand
	for _, e := range r.errands {
		if wait := r.fought(e.name); !e.urgent && now.Before(wait) {
			again = earlier(again, wait)
			later = append(later, e)
		} else {
			due = append(due, e)
		}
	}
	if len(due) == 0 {
		return again
	}
	r.errands, r.waiting = nil, nil
	for _, e := range later {
		r.enqueue(e)
	}
	b := &batch{errands: due, ended: make(chan struct{})}
	r.batch = b
	r.o.Aside(func() {
		defer close(b.ended)
		for _, e := range b.errands {
			if ctx.Err() == nil {
				b.visits = append(b.visits, r.run(ctx, e))
			}
		}
	})
	return again
}

// fought returns when the flags of a bridge may be set again; zero when nobody
// fights about them.
func (r *Reconciler) fought(name string) time.Time {
	f := r.things[name]
	switch {
	case f == nil || !f.on:
		return time.Time{}
	case r.limits.Yield:
		return f.last.Add(r.limits.Window)
	}
	return f.last.Add(betweenFlags)
}

// tend has the errands done that wait now, and waits for them. Those that are
// put off are not waited for.
func (r *Reconciler) tend(ctx context.Context) {
	for range 3 { // a batch that was under way, ours, and the end of it
		r.Tend(ctx, time.Now())
		b := r.batch
		if b == nil {
			return
		}
		wait := func(ctx context.Context) {
			var names []string
			for _, e := range b.errands {
				names = append(names, e.name)
			}
			step.Begin(ctx, "looking at the bridges "+strings.Join(names, ", "))
			select {
			case <-b.ended:
			case <-ctx.Done():
			}
		}
		if r.beside(ctx, wait) != nil {
			return
		}
	}
}

// Ahead does what has to be done before p takes the place of the policy in
// force: where the sysctls give way to flags, the flags are set first.
func (r *Reconciler) Ahead(ctx context.Context, p guard.Policy, t Trigger) {
	if r.policy.Bridges != nil || p.Bridges == nil {
		return
	}
	var o guard.Observation
	if r.beside(ctx, func(ctx context.Context) { o = r.o.Host.Survey(ctx, &p, 0) }) != nil {
		return
	}
	for _, it := range guard.PlanFlags(&p, &o) {
		if it.Action != nil {
			r.enqueue(errand{name: it.Subject, policy: &p, cause: t, urgent: true})
		}
	}
	r.tend(ctx)
}

// greeter is what it takes to meet a bridge beside the loop.
type greeter struct {
	turn sync.Mutex // held by who runs an errand, so that each thing is done once

	mu     sync.Mutex
	policy *guard.Policy       // never changed; nil: no bridge is to be kept right
	fought map[string]struct{} // the loop paces what is done to those
	visits []visit             // that wait to be recorded
}

// Meet looks at one bridge and puts it right before it returns; the next
// [Reconciler.Tend] records it. It is for who hears of a bridge, and safe from
// any goroutine. It waits as long as the kernel has it wait. False says that
// nothing was done, and that the loop is to be asked for it, by [Reconciler.Bridge].
func (r *Reconciler) Meet(ctx context.Context, name string, t Trigger) bool {
	g := &r.greeter
	g.mu.Lock()
	p := g.policy
	_, fought := g.fought[name]
	g.mu.Unlock()
	if p == nil || fought {
		return false
	}
	v := r.run(ctx, errand{name: name, policy: p, cause: t})
	if v.acted {
		g.mu.Lock()
		g.visits = append(g.visits, v)
		g.mu.Unlock()
	}
	return true
}

// instruct tells what bridges are met by.
func (r *Reconciler) instruct() {
	g := &r.greeter
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy = nil
	if r.policy.Bridges != nil && r.policy.Mode != guard.Observe {
		p := r.policy
		g.policy = &p
	}
}

// recordMet records who was met, and says who is not to be met for now.
func (r *Reconciler) recordMet() {
	g := &r.greeter
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.visits {
		r.recordVisit(&g.visits[i])
	}
	clear(g.visits)
	g.visits = g.visits[:0]
	clear(g.fought)
	for name, f := range r.things {
		if f.on && f.kind == record.KindFlag {
			if g.fought == nil {
				g.fought = make(map[string]struct{})
			}
			g.fought[name] = struct{}{}
		}
	}
}

// run looks at the bridge, does what the plan says, and looks again.
func (r *Reconciler) run(ctx context.Context, e errand) visit {
	r.greeter.turn.Lock()
	defer r.greeter.turn.Unlock()
	h := r.o.Host
	v := visit{errand: e}
	look := func() (guard.Item, bool) {
		o := h.SurveyBridge(ctx, e.policy, e.name)
		for i := range o.Remembered {
			o.Remembered[i].Stale = e.stale
		}
		for _, it := range guard.PlanFlags(e.policy, &o) {
			return it, true
		}
		return guard.Item{}, false
	}
	if v.was, _ = look(); v.was.Action == nil {
		return v
	}
	v.acted, v.err = true, h.Do(ctx, *v.was.Action)
	v.at = time.Now()
	v.now, v.there = look()
	return v
}

// recordVisit records what a look at one bridge has done. What it left alone,
// and what could not be looked at, is for the pass to tell.
func (r *Reconciler) recordVisit(v *visit) {
	taken := v.acted && v.was.Action.Op == guard.ClearFlags
	if !v.acted || !v.there && v.err != nil { // it went meanwhile
		return
	}
	e := record.Event{
		Kind: record.KindFlag, Outcome: record.Corrected, Time: v.at, Subject: v.name,
		Want: v.was.Want, Have: v.was.Have, Now: v.was.Want, Duration: -1, Source: v.cause.Source, Pass: r.passes,
	}
	if v.cause.Source == "link" && !v.cause.Time.IsZero() {
		e.Duration = v.at.Sub(v.cause.Time)
	}
	r.totals.Drifts++
	f := r.thing(v.name)
	f.kind = record.KindFlag
	right := !v.there || v.now.Verdict == guard.Right || v.now.Verdict == guard.Excused
	if f.stuck++; right {
		f.stuck = 0
	}
	if v.there {
		e.Now = v.now.Have
	}
	if right || v.err == nil && (f.on || f.stuck < maxFlagStuck) {
		if !right {
			e.Outcome = record.Reverted
		}
		r.totals.Corrected++
		e.Message = flagMessage(&e, v.was.Why, taken)
		r.change(v.was.Action.Op.String(), e, nil)
		r.settled(v.name)
		if taken || v.urgent { // our own change of mind is no fight
			r.o.Recorder.Record(e)
			return
		}
		r.reversal(f, e)
		return
	}
	r.totals.Failed++
	if e.Outcome, e.Err = record.Failed, v.err; v.err == nil {
		e.Err = errNotKept
	}
	e.Next = next(e.Err)
	e.Message = stuckMessage(&e)
	r.change(v.was.Action.Op.String(), e, e.Err)
	r.complain(e)
}

func flagMessage(e *record.Event, why string, taken bool) string {
	s := fmt.Sprintf("bridge %s had %s", e.Subject, e.Have)
	switch {
	case taken && why != "":
		return s + ", set by nfguard on evidence, taken back: for " + words.Short(evidenceGone) + " there was none (" + why + ")"
	case taken:
		return s + ` of scope "bridges", taken back: the sysctls are in effect`
	}
	s += ", set to "
	if e.Now == e.Want || e.Outcome == record.Reverted {
		s += "1"
	} else {
		s += e.Now
	}
	switch {
	case e.Duration >= 0:
		s += " after " + words.Short(e.Duration)
	case e.Source == "start":
		s += ", as found at start"
	}
	s += " (" + why + ")"
	if e.Outcome == record.Reverted {
		s += ", and changed again at once"
	}
	return s
}

// prune forgets what was said and done about bridges that are gone, or are not
// kept any more. That none could be looked at has an end that is recorded.
func (r *Reconciler) prune(t Trigger, items []guard.Item) {
	now := time.Now()
	judged := make(map[string]bool, len(items))
	for _, it := range items {
		if it.Kind == record.KindFlag {
			judged[it.Subject] = true
		}
	}
	for subject, c := range r.standing {
		if c.kind != record.KindFlag || judged[subject] {
			continue
		}
		if subject == guard.AllBridges {
			r.ended(record.Event{Kind: c.kind, Time: now, Subject: subject, Now: "known", Source: t.Source, Pass: r.passes}, "is as wanted again", "")
		}
		r.settled(subject)
	}
	for subject, f := range r.things {
		if f.kind == record.KindFlag && !f.on && now.Sub(f.last) > r.limits.Window && !judged[subject] {
			delete(r.things, subject)
		}
	}
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
func (r *Reconciler) age(now time.Time, o *guard.Observation) {
	var gone map[int]time.Time
	for _, m := range guard.OnGoneEvidence(&r.policy, o) {
		since, ok := r.gone[m.Index]
		if !ok {
			since = now
		}
		if gone == nil {
			gone = make(map[int]time.Time)
		}
		gone[m.Index] = since
	}
	r.gone = gone
	for i := range o.Remembered {
		m := &o.Remembered[i]
		since, ok := gone[m.Index]
		m.Stale = ok && now.Sub(since) >= evidenceGone
	}
}
