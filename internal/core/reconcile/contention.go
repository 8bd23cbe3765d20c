package reconcile

import (
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// Contention says when a series of reversals is a fight, and what then.
type Contention struct {
	Limit  int           // this many reversals of one thing
	Window time.Duration // in this time
	Yield  bool          // stop correcting until Window has been quiet
}

// recordEvery is how often a fight that goes on is recorded.
const recordEvery = time.Minute

// fight follows the reversals of one thing.
type fight struct {
	times    []time.Time // of the last reversals, at most Limit of them
	on       bool
	began    time.Time
	last     time.Time
	recorded time.Time
	count    int // reversals since the last record
	total    int
	writer   record.Process
	tally    tally
	subject  string
	kind     record.Kind
	outcome  record.Outcome
	stuck    int // corrections in a row that did not stay
}

// did says what the other side does to the subject.
func (f *fight) did() string {
	if f.kind == record.KindDenied || f.outcome == record.Rewritten {
		return "written to"
	}
	return "changed"
}

// reversal records e, which was put right or never stored, or counts it and
// those that it stands for where it is part of a fight.
func (r *Reconciler) reversal(f *fight, e record.Event) {
	f.last, f.subject, f.kind, f.outcome = e.Time, e.Subject, e.Kind, e.Outcome
	if e.Writer.PID != 0 {
		f.writer = e.Writer
		f.tally.know(e.Writer)
	}
	if f.on {
		f.count += 1 + e.Suppressed
		f.total += 1 + e.Suppressed
		return
	}
	for len(f.times) > 0 && (len(f.times) >= r.limits.Limit || e.Time.Sub(f.times[0]) > r.limits.Window) {
		f.times = f.times[1:]
	}
	if len(f.times) == 0 {
		f.tally = tally{}
		f.tally.add(e.Writer, 1+e.Suppressed)
	}
	f.times = append(f.times, e.Time)
	if len(f.times) < r.limits.Limit {
		r.o.Recorder.Record(e)
		return
	}
	f.on, f.began, f.recorded = true, e.Time, e.Time
	f.count, f.total = 0, 1+e.Suppressed
	policy := "nfguard goes on correcting it, at a bounded pace, and records it once a minute"
	switch {
	case e.Kind == record.KindDenied:
		policy = "none of it is stored; that is recorded once a minute"
	case e.Outcome == record.Observed:
		policy = "mode observe leaves it so, and that is recorded once a minute"
	case r.limits.Yield:
		policy = "nfguard leaves it alone until nobody has written to it for " + words.Short(r.limits.Window)
	case e.Outcome == record.Rewritten:
		policy = "none of it is stored; that is recorded once a minute"
	}
	r.yield(f)
	e.About, e.Kind, e.Outcome, e.Suppressed = e.Kind, record.KindContention, record.Held, 1+e.Suppressed
	e.Message = fmt.Sprintf("%s was %s %d times within %s%s; %s",
		e.Subject, f.did(), r.limits.Limit, words.Short(e.Time.Sub(f.times[0])), f.by(), policy)
	e.Writer = f.side()
	e.Next = "stop the other side, or " + spare(e.About)
	r.o.Recorder.Record(e)
	f.times = f.times[:0]
}

// yield tells the kernel whether to leave a key to the other side. Only mode
// enforce yields: in mode lock nobody else has a say.
func (r *Reconciler) yield(f *fight) {
	if r.o.Yield != nil && f.kind == record.KindDrift {
		r.o.Yield(guard.Key(f.subject), r.policy.Mode == guard.Enforce && r.limits.Yield && f.on)
	}
}

// spare says how to leave alone what is fought over.
func spare(kind record.Kind) string {
	switch kind { //nolint:exhaustive // those that are put right
	case record.KindFlag:
		return "add the bridge to ignore under [bridges]"
	case record.KindDropin:
		return "set enabled = false under [persist]"
	case record.KindModule:
		return "set mode = \"observe\""
	}
	return "set the key to \"ignore\" under [sysctl]"
}

// Tick records what is due by the clock: the fights that go on or ended, changes
// that are over, counts of what came and went. It returns when it wants to be
// called again: zero when nothing is due later.
func (r *Reconciler) Tick(now time.Time) (again time.Time) {
	for i := range r.keys {
		again = earlier(again, r.tick(&r.keys[i].fight, now))
	}
	for _, f := range r.things {
		again = earlier(again, r.tick(f, now))
	}
	return earlier(again, earlier(r.tickProxy(now), r.tickBridges(now)))
}

func (r *Reconciler) tick(f *fight, now time.Time) time.Time {
	if !f.on {
		return time.Time{}
	}
	e := record.Event{
		Kind: record.KindContention, Outcome: record.Held, Time: now, Subject: f.subject,
		Duration: now.Sub(f.began), Source: "timer", Pass: r.passes, Suppressed: f.count, Writer: f.side(), About: f.kind,
	}
	if now.Sub(f.last) >= r.limits.Window {
		f.on = false
		e.Outcome, e.Duration = record.Observed, f.last.Sub(f.began)
		e.Message = fmt.Sprintf("nobody has %s %s for %s; it was %s %d more times in the %s before%s",
			f.did(), f.subject, words.Short(r.limits.Window), f.did(), f.total-1, words.Short(e.Duration), f.by())
		r.o.Recorder.Record(e)
		f.count, f.total, f.writer, f.tally = 0, 0, record.Process{}, tally{}
		r.yield(f)
		return time.Time{}
	}
	end := f.last.Add(r.limits.Window)
	if due := f.recorded.Add(recordEvery); now.Before(due) {
		return earlier(end, due)
	}
	e.Message = fmt.Sprintf("%s was %s %d more times since the last record%s", f.subject, f.did(), f.count, f.by())
	r.o.Recorder.Record(e)
	f.count, f.recorded = 0, now
	return earlier(end, now.Add(recordEvery))
}

// Leave records what the kernel has kept out until now, what the fights that go
// on have come to, for nobody will record their end, and a change of
// kube-proxy's rules.
func (r *Reconciler) Leave(now time.Time) {
	if r.o.News != nil {
		news := r.o.News()
		r.seen = append(r.seen, news...)
		r.heed(news)
		r.recordCorrections(Trigger{})
	}
	if r.proxy.change != nil {
		r.recordRules()
	}
	for i := range r.keys {
		r.leave(&r.keys[i].fight, now)
	}
	for _, f := range r.things {
		r.leave(f, now)
	}
}

func (r *Reconciler) leave(f *fight, now time.Time) {
	if f.on && f.count > 0 {
		f.recorded = now.Add(-recordEvery)
		r.tick(f, now)
	}
}

// Fights returns the subjects that somebody fights about.
func (r *Reconciler) Fights() []string {
	var on []string
	for i := range r.keys {
		if r.keys[i].fight.on {
			on = append(on, string(r.keys[i].Key))
		}
	}
	for subject, f := range r.things {
		if f.on {
			on = append(on, subject)
		}
	}
	return on
}
