package reconcile

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// The store of a value follows the news of it within microseconds, unless its
// writer is preempted just there; after soon it is looked for again, and again
// at twice its age, until forget.
const (
	soon   = 100 * time.Microsecond
	forget = time.Second
)

// keepEvidence keeps what the kernel told of before it happened, until the
// look that finds it, and says when to look. Other news is of the past.
func (r *Reconciler) keepEvidence(now time.Time, look *Look) {
	kept := r.seen[:0]
	for _, e := range r.seen {
		if age := now.Sub(e.At); e.Exact && age < forget {
			kept = append(kept, e)
			look.Next = earlier(look.Next, now.Add(max(age, soon)))
		}
	}
	r.seen = kept
}

// heed notes what news of foreign writes means for their keys: a value that
// did not stay was overtaken, and a fight that we yielded goes on. News that
// names nobody may be of our own write, and says nothing of a value that does
// not stay.
func (r *Reconciler) heed(news []record.Write) {
	now := time.Now()
	for i := range r.keys {
		k := &r.keys[i]
		for _, e := range news {
			if e.File != k.file && e.File != "" {
				continue
			}
			if e.Exact && e.File == k.file {
				k.fight.tally.add(e.Writer, 1+e.Missed)
			}
			if !e.Vague && e.Writer.PID != 0 {
				k.stuck = 0
			}
			if k.fight.on && r.limits.Yield {
				k.fight.last = now
			}
		}
	}
}

// recordCorrections turns the corrections into events, now that they are
// done, and what the kernel did not store, and forgets the evidence for them.
func (r *Reconciler) recordCorrections(t Trigger) {
	for i := range r.pending {
		r.recordCorrection(&r.pending[i], t)
	}
	r.pending = r.pending[:0]
	kept := r.seen[:0]
	for _, e := range r.seen {
		if e.Outcome != "" {
			r.recordKept(e)
		} else {
			kept = append(kept, e)
		}
	}
	r.seen = kept
}

// counts reports whether w stands for writes that the kernel did not tell of one
// by one, and so not of their values. (An empty write changes nothing.)
func counts(w *record.Write) bool { return w.Exact && w.New == "" }

// who is the writer, with all that can still be read of it. One that fights
// is not looked up again.
func (r *Reconciler) who(w *record.Write, f *fight) record.Process {
	switch {
	case f.on && f.writer.PID == w.Writer.PID:
		return f.writer
	case w.Who == nil:
		return r.o.Named(w.Writer)
	}
	return r.o.Named(w.Who())
}

// recordKept records a write whose value the kernel did not store. One that it
// refused was denied; one that it rewrote is a drift, of no duration.
func (r *Reconciler) recordKept(d record.Write) {
	for i := range r.keys {
		k := &r.keys[i]
		if k.file != d.File {
			continue
		}
		e := record.Event{
			Kind: record.KindDenied, Outcome: d.Outcome, Time: d.At, Subject: string(k.Key),
			Want: k.Value, Old: d.Old, Have: d.New, Now: k.Value,
			Duration: -1, Source: "sysctl", Writer: r.who(&d, &k.fight), Pass: r.passes, Suppressed: d.Missed,
		}
		if n := uint64(1 + d.Missed); d.Outcome == record.Rewritten {
			e.Kind, e.Duration = record.KindDrift, 0
			r.totals.Drifts += n
			r.totals.Corrected += n
		} else {
			r.totals.Denied += n
		}
		e.Message = keptMessage(&e)
		r.reversal(&k.fight, e)
	}
}

func (r *Reconciler) recordCorrection(c *correction, t Trigger) {
	k := &r.keys[c.key]
	e := record.Event{
		Kind: record.KindDrift, Outcome: c.outcome, Time: c.at, Subject: string(k.Key),
		Want: k.Value, Have: c.have, Now: k.Value,
		Duration: -1, Source: t.Source, Pass: r.passes, Err: c.err,
	}
	told, by := false, record.Write{}
	kept := r.seen[:0]
	for _, s := range r.seen {
		mine := (s.File == k.file || s.File == "") && s.Outcome == "" && !s.Vague && !s.At.After(c.found)
		if mine {
			told, by, e.Old = true, s, s.Old
			if s.Exact {
				c.since = s.At
			}
		}
		if !mine || !s.Exact { // one without a time may be of several corrections
			kept = append(kept, s)
		}
	}
	r.seen = kept
	e.Writer = r.who(&by, &k.fight)
	switch {
	case told:
		e.Source, e.Duration = "sysctl", max(c.at.Sub(c.since), 0)
	case c.asked:
		e.Source = "reload"
	case t.Source == "sysctl", t.Source == "reload":
		e.Source = "resync" // no news of that write, and no change of this key's configuration: found by looking
	}
	var bound time.Duration // how long it can have stood at most; 0: unknown
	if !told && !c.asked && !c.former.IsZero() {
		bound = c.at.Sub(c.former)
	}
	if c.outcome == record.Reverted && !told { // by whom? The next looks tell whether it holds
		k.unheld++
		return
	}
	e.Suppressed = k.unheld
	k.unheld = 0
	n := uint64(1 + e.Suppressed)
	r.totals.Drifts += n
	switch c.outcome {
	case record.Corrected, record.Reverted:
		r.totals.Corrected += n
		r.change("set", e, nil)
		e.Message = driftMessage(&e, bound)
		r.settled(e.Subject)
		if e.Source == "reload" { // nobody fights who has the configuration changed
			r.o.Recorder.Record(e)
			return
		}
		r.reversal(&k.fight, e)
	case record.Failed:
		r.totals.Failed += n
		e.Now, e.Next = c.have, next(c.err)
		r.change("set", e, c.err)
		e.Message = driftMessage(&e, bound)
		r.complain(e)
	case record.Observed, record.Held, record.Denied, record.Rewritten: // only the first occurs
		e.Now = c.have
		e.Message = driftMessage(&e, bound)
		r.reversal(&k.fight, e)
	}
}

func (r *Reconciler) change(op string, e record.Event, err error) {
	if len(r.changes) >= 64 { // a report is for people; the counters count
		return
	}
	c := Change{Op: op, Subject: e.Subject, From: e.Have, To: e.Want}
	if err != nil {
		c.Error, c.Next = err.Error(), e.Next
	}
	r.changes = append(r.changes, c)
}
