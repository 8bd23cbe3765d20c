package keep

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Contention says when a series of reversals is a fight, and what then.
type Contention struct {
	Limit  int           // this many reversals of one thing
	Window time.Duration // in this time
	Yield  bool          // stop correcting until Window has been quiet
}

// recordEvery is how often a fight that goes on is recorded.
const recordEvery = time.Minute

// fight follows the reversals of one thing. It says what is to be recorded of
// them, and records nothing.
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
}

// thing is the kind of what is fought over.
func (f *fight) thing() record.Kind {
	if f.kind == record.KindDenied {
		return record.KindDrift
	}
	return f.kind
}

// add adds e, of something that was put right or never stored, and what it stands
// for. It returns what to record: e, or the beginning of a fight in its place. Of
// one that goes on it only counts.
func (f *fight) add(e record.Event, c Contention) (_ record.Event, ok bool) {
	f.last, f.subject, f.kind, f.outcome = e.Time, e.Subject, e.Kind, e.Outcome
	if e.Writer.PID != 0 {
		f.writer = e.Writer
		f.tally.know(e.Writer)
	}
	n := 1 + e.Suppressed
	if f.on {
		f.count += n
		f.total += n
		return record.Event{}, false
	}
	for len(f.times) > 0 && (len(f.times) >= c.Limit || e.Time.Sub(f.times[0]) > c.Window) {
		f.times = f.times[1:]
	}
	if len(f.times) == 0 {
		f.tally = tally{}
		f.tally.add(e.Writer, n)
	}
	f.times = append(f.times, e.Time)
	if len(f.times) < c.Limit {
		return e, true
	}
	f.on, f.began, f.recorded = true, e.Time, e.Time
	f.count, f.total = 0, n
	e.Message = f.beganMessage(e.Time.Sub(f.times[0]), c)
	e.About, e.Kind, e.Outcome, e.Suppressed = e.Kind, record.KindContention, record.Held, n
	e.Writer, e.Next = f.side(), "stop the other side, or "+spare(e.About)
	f.times = f.times[:0]
	return e, true
}

// tick returns what is to be recorded of a fight now, and when to ask again: zero
// when it has ended. last: nobody will ask again.
func (f *fight) tick(now time.Time, c Contention, last bool) (e record.Event, ok bool, again time.Time) {
	e = record.Event{
		Kind: record.KindContention, Outcome: record.Held, Time: now, Subject: f.subject,
		Duration: now.Sub(f.began), Source: record.CauseTimer, Suppressed: f.count, Writer: f.side(), About: f.kind,
	}
	end, due := f.last.Add(c.Window), f.recorded.Add(recordEvery)
	if last {
		due = now
	}
	switch {
	case last && f.count == 0:
		return e, false, time.Time{}
	case !now.Before(end):
		e.Outcome, e.Duration = record.Observed, f.last.Sub(f.began)
		e.Message = f.endedMessage(e.Duration, c)
		f.on, f.count, f.total, f.writer, f.tally = false, 0, 0, record.Process{}, tally{}
		return e, true, time.Time{}
	case now.Before(due):
		return e, false, earlier(end, due)
	}
	e.Message = f.goesOnMessage()
	f.count, f.recorded = 0, now
	return e, true, earlier(end, now.Add(recordEvery))
}

// tally counts the writes of a fight by the program that made them, as far as
// the kernel tells: also those that were too many to be told of one by one.
type tally struct {
	by    []side
	total int
}

// side is one program.
type side struct {
	writer record.Process // the last process of that name, with what is known of it
	n      int
}

// maxSides bounds a tally: names can be made up. What is beyond it counts for
// the total only.
const maxSides = 32

// add counts n writes by w, and for nobody where w is not known.
func (t *tally) add(w record.Process, n int) {
	t.total += n
	if w.PID == 0 {
		return
	}
	for i := range t.by {
		if s := &t.by[i]; s.writer.Comm == w.Comm {
			s.n += n
			if s.writer.PID != w.PID {
				s.writer = w
			}
			return
		}
	}
	if len(t.by) < maxSides {
		t.by = append(t.by, side{w, n})
	}
}

// know completes what is known of a writer.
func (t *tally) know(w record.Process) {
	for i := range t.by {
		if s := &t.by[i]; s.writer.Comm == w.Comm {
			s.writer = w
		}
	}
}

// most is the program that wrote most, or none where none is known.
func (t *tally) most() side {
	var top side
	for _, s := range t.by {
		if s.n > top.n {
			top = s
		}
	}
	return top
}

// side is the other side of the fight: the program that wrote most, or, where the
// kernel does not count, the one that the last record names.
func (f *fight) side() record.Process {
	if top := f.tally.most(); top.n > 0 && f.tally.total > 1 {
		return top.writer
	}
	return f.writer
}
