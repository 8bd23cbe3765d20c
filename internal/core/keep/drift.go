package keep

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// correction is one reversal of a sysctl that waits to be recorded.
type correction struct {
	key     int
	have    string
	since   time.Time // when it was first seen there
	found   time.Time // right after it was read
	at      time.Time // right after it was written over
	former  time.Time // the look before, which did not find it; zero: there was none
	asked   bool      // it is the configuration that has changed
	paused  bool      // a pause has left it so
	outcome record.Outcome
	err     error
}

// keptOut is a write to a key whose value the kernel did not store.
type keptOut struct {
	key int
	record.Write
}

// The kernel stores a value within microseconds after it has told of it, unless
// the writer is preempted just there. So it is looked for after soon, then each
// time when the news is twice as old, until it is overdue.
const (
	soon    = 100 * time.Microsecond
	overdue = time.Second
)

// hear takes the news, sorts it by key, and reports whether there was any.
func (s *sysctls) hear() bool {
	news, now := s.news(), time.Now()
	unnamed, foreign := false, false // news that names no key; and that was not of us
	for _, w := range news {
		i, ok := s.byFile[w.File]
		switch {
		case w.File == "":
			s.some = append(s.some, w)
			unnamed, foreign = true, foreign || !w.Vague && w.Writer.PID != 0
			continue
		case !ok: // it was guarded before a reload
			continue
		}
		k := &s.keys[i]
		s.heed(k, &w, now)
		switch {
		case w.Outcome != "":
			s.kept = append(s.kept, keptOut{i, w})
		case w.Exact && w.New == "": // they are only counted. (An empty write changes nothing.)
			if w.Writer.PID != 0 {
				s.tells(i)
				k.counted = &record.Write{File: w.File, Writer: w.Writer, Who: w.Who}
			}
		default:
			s.tells(i)
			k.told = append(k.told, w)
		}
	}
	if unnamed && s.limits.Yield {
		for _, f := range s.on {
			f.last = now
		}
	}
	for i := 0; foreign && i < len(s.keys); i++ {
		s.keys[i].stuck = 0
	}
	return len(news) > 0
}

// tells notes that there is news of a key, which expect looks through.
func (s *sysctls) tells(i int) {
	if k := &s.keys[i]; len(k.told) == 0 && k.counted == nil {
		s.told = append(s.told, i)
	}
}

// heed notes what a foreign write means for its key: a value that did not stay
// was overtaken, and a fight in which we yielded goes on. News that names nobody
// may be of our own write, and says nothing of a value that does not stay.
func (s *sysctls) heed(k *key, w *record.Write, now time.Time) {
	f := s.fights[string(k.Key)]
	if f != nil && w.Exact {
		f.tally.add(w.Writer, 1+w.Missed)
	}
	if !w.Vague && w.Writer.PID != 0 {
		k.stuck = 0
	}
	if f != nil && f.on && s.limits.Yield {
		f.last = now
	}
}

// expect keeps the writes of which the kernel told before it stored the value,
// until a look finds the value, and says when to look. Other news is of the past.
func (s *sysctls) expect(now time.Time, seen *Seen) {
	told := s.told[:0]
	for _, i := range s.told {
		k := &s.keys[i]
		waits := k.told[:0]
		k.counted = nil
		for _, w := range k.told {
			if age := now.Sub(w.At); w.Exact && age < overdue {
				waits = append(waits, w)
				seen.wants(now.Add(max(age, soon)))
			}
		}
		if k.told = waits; len(waits) > 0 {
			told = append(told, i)
		}
	}
	s.told, s.some = told, s.some[:0]
}

// recordPending records the corrections, now that they are done, and what the
// kernel did not store.
func (s *sysctls) recordPending(t Trigger) {
	for i := range s.pending {
		s.recordCorrection(&s.pending[i], t)
	}
	for i := range s.kept {
		w := &s.kept[i]
		k := &s.keys[w.key]
		s.left(keptEvent(k.Setting, &w.Write, s.who(k, &w.Write)))
	}
	s.pending, s.kept = s.pending[:0], s.kept[:0]
}

func (s *sysctls) recordCorrection(c *correction, t Trigger) {
	k := &s.keys[c.key]
	w := s.cause(k, c)
	if c.outcome == record.Reverted && w == nil { // recorded when the next looks have told whether it holds
		k.unheld++
		return
	}
	e := driftEvent(k.Setting, c, w, t)
	e.Suppressed = k.unheld
	k.unheld = 0
	if w != nil {
		e.Writer = s.who(k, w)
	}
	e.Message = driftMessage(&e, c.bound(w))
	switch c.outcome {
	case record.Corrected, record.Reverted: // a change of the configuration is no fight, nor is the end of a pause
		s.corrected(guard.SetSysctl, e, e.Source == record.CauseReload || e.Source == record.CausePause)
	case record.Failed:
		s.failed(guard.SetSysctl, e)
	case record.Observed, record.Paused, record.Held, record.Denied, record.Rewritten: // only the first two occur
		s.left(e)
	}
}

// cause takes the writes to k that c accounts for, and returns the last of them,
// or nil.
func (s *sysctls) cause(k *key, c *correction) (last *record.Write) {
	later := k.told[:0:0]
	for _, w := range k.told {
		mine := !w.Vague && !w.At.After(c.found)
		if mine {
			last = &w
		}
		if !mine || !w.Exact { // one without a time may be of several corrections
			later = append(later, w)
		}
	}
	k.told = later
	if last == nil {
		last = k.counted
	}
	for i := range s.some {
		if last == nil && !s.some[i].Vague {
			last = &s.some[i]
		}
	}
	return last
}

// who returns the writer of w, with all that can still be read of it. One that
// fights is not looked up again.
func (s *sysctls) who(k *key, w *record.Write) record.Process {
	f := s.on[string(k.Key)]
	switch {
	case f != nil && f.writer.PID == w.Writer.PID:
		return f.writer
	case w.Who == nil:
		return s.named(w.Writer)
	}
	return s.named(w.Who())
}

// driftEvent is the event of c, which w caused; nil: nobody told of it.
func driftEvent(s guard.Setting, c *correction, w *record.Write, t Trigger) record.Event {
	e := record.Event{
		Kind: record.KindDrift, Outcome: c.outcome, Time: c.at, Subject: string(s.Key),
		Want: s.Value, Have: c.have, Now: s.Value, Source: t.Source, Err: c.err,
	}
	if c.outcome == record.Failed || c.outcome == record.Observed || c.outcome == record.Paused {
		e.Now, e.Next = c.have, next(c.err)
	}
	switch {
	case c.paused && c.outcome != record.Paused && !c.asked:
		e.Source, e.Duration = record.CausePause, max(c.at.Sub(c.since), 1)
	case w != nil:
		since := c.since
		if w.Exact {
			since = w.At
		}
		e.Source, e.Old, e.Duration = record.CauseSysctl, w.Old, max(c.at.Sub(since), 1)
	case c.asked:
		e.Source = record.CauseReload
	case t.Source == record.CauseSysctl, t.Source == record.CauseReload, t.Source == record.CausePause:
		e.Source = record.CauseResync // no news of that write, and no change of this key's configuration: found by looking
	}
	return e
}

// bound is how long the value can have stood there at most, where only that is
// known; 0: not even that.
func (c *correction) bound(w *record.Write) time.Duration {
	if w != nil || c.asked || c.former.IsZero() {
		return 0
	}
	return c.at.Sub(c.former)
}

// keptEvent is the event of a write whose value the kernel did not store. One that
// it refused was denied; one that it rewrote is a drift, of no duration.
func keptEvent(s guard.Setting, w *record.Write, who record.Process) record.Event {
	e := record.Event{
		Kind: record.KindDenied, Outcome: w.Outcome, Time: w.At, Subject: string(s.Key),
		Want: s.Value, Old: w.Old, Have: w.New, Now: s.Value, Source: record.CauseSysctl, Writer: who, Suppressed: w.Missed,
	}
	if w.Outcome == record.Rewritten {
		e.Kind = record.KindDrift
	}
	e.Message = keptMessage(&e)
	return e
}
