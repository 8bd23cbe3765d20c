package daemon

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/core/record"
)

// pausing is the announced pause, and what was asked for.
type pausing struct {
	now     *pause.State // nil: there is none
	began   bool         // one was begun, or not, when the daemon started
	reading bool
	read    atomic.Pointer[pause.Asked] // by another goroutine; nil: nothing new
	refused Refusal
	ended   *endedPause // whose end is to be recorded after the next look at everything
}

// endedPause is a pause that has ended.
type endedPause struct {
	event record.Event
	wrong []string // "KEY is 0"
}

// Pause is an announced pause, in a Status.
type Pause struct {
	ID     string      `json:"id"` // of the request
	Since  time.Time   `json:"since"`
	Until  time.Time   `json:"until"`
	Reason string      `json:"reason"`
	By     pause.Asker `json:"by"`
}

// Refusal is why there is no pause although one was asked for.
type Refusal struct {
	ID  string `json:"id,omitempty"` // of the request; "": it was none
	Why string `json:"why"`
}

// askPause has what is asked for read, by another goroutine: the loop waits for no
// file.
func (d *Daemon) askPause(now time.Time) {
	d.at.Clear(readPause)
	switch {
	case d.o.Asked == nil:
	case d.pausing.reading:
		d.at.Set(readPause, now.Add(pauseAgain))
	default:
		d.pausing.reading = true
		d.startWork(func() {
			asked := d.o.Asked()
			d.pausing.read.Store(&asked)
		})
	}
}

// pauseAgain is when a request that comes while one is read is read.
const pauseAgain = 50 * time.Millisecond

// followPause does what has been asked for, and ends a pause whose time is over.
func (d *Daemon) followPause(now time.Time) {
	if d.at.Due(readPause, now) {
		d.askPause(now)
	}
	if asked := d.pausing.read.Swap(nil); asked != nil {
		d.pausing.reading = false
		d.decidePause(*asked, now)
	}
	if p := d.pausing.now; p != nil && d.at.Due(endPause, now) {
		d.decidePause(pause.Asked{Request: &p.Request}, now)
	}
}

// decidePause decides by what is asked for.
func (d *Daemon) decidePause(asked pause.Asked, now time.Time) {
	p := &d.pausing
	first := !p.began
	p.began = true
	if r := asked.Request; r != nil && p.refused.ID == r.ID() {
		return // said already
	}
	clock := d.o.Clock()
	locks := d.settings.Policy.Mode == guard.Lock
	c := pause.Decide(p.now, asked, d.settings.Policy.Mode == guard.Observe, first, clock)
	e := record.Event{
		Kind: record.KindPause, Outcome: record.Paused, Time: now, Subject: "nfguard", Source: record.CausePause,
		Pass: d.status.report.Pass, Message: c.Sentence(locks, clock),
	}
	if c.By != nil {
		e.Writer, e.UID, e.LoginUID = d.named(c.By.Writer()), c.By.UID, c.By.LoginUID
	}
	if c.Now != nil {
		e.Reason, e.Until = c.Now.Reason, c.Now.Until(clock)
		d.at.Set(endPause, now.Add(min(max(c.Now.Left(clock), 0), lookAtClock)))
	}
	refused := Refusal{}
	switch c.Change {
	case pause.Stays:
		if c.Now == nil && asked.Request == nil {
			p.refused = Refusal{} // what was refused is gone
		}
		return
	case pause.Begins, pause.Continues, pause.Moves:
		d.tellPauseEndNow() // of one before
		e.Now, e.Next = "paused", "nfguard resume ends it"
		p.now = c.Now
		d.rec.Pause(true) // first: what the kernel lets through must not be put right
		d.o.Pause(true)
	case pause.Ends:
		d.resume(&e, c.Was.Lasted(clock), now)
		p.refused = refused
		d.publish(now)
		return
	case pause.Refused:
		if refused.Why = c.Why; asked.Request != nil {
			refused.ID = asked.Request.ID()
		}
		if refused == p.refused {
			return
		}
		e.Outcome, e.Next = record.Failed, `ask for one by "nfguard pause"; nfguard resume takes away what was asked for`
		if c.Was != nil {
			d.resume(nil, 0, now)
		}
	}
	p.refused = refused
	d.publish(now) // first: whoever reads the record finds the new status
	d.record(e)
}

// lookAtClock is how often the clock of a pause is looked at: unlike that of the
// loop, it goes on while the machine sleeps.
const lookAtClock = 30 * time.Second

// resume has everything corrected again, and e, if that is not nil, recorded when it
// is.
func (d *Daemon) resume(e *record.Event, lasted time.Duration, now time.Time) {
	if e != nil {
		ended := &endedPause{event: *e}
		ended.event.Duration, ended.event.Have = lasted, "paused"
		for _, it := range d.rec.Current(d.status.report.Items) {
			if !it.Verdict.Settled() {
				have := it.Have
				if have == "" {
					have = "unknown"
				}
				ended.wrong = append(ended.wrong, it.Subject+" was "+have)
			}
		}
		d.pausing.ended = ended
	}
	d.pausing.now = nil
	d.at.Clear(endPause)
	d.o.Pause(false) // first: from now on nothing new is stored
	d.rec.Pause(false)
	d.at.Set(lookAtSysctls, now)
	d.wanted = nil
	d.wantAtOnce(keep.Trigger{Source: record.CausePause, Time: now, Look: guard.LookAll})
}

// tellPauseEnd records the end of a pause, after the look that put all right; items are
// what that has left.
func (d *Daemon) tellPauseEnd(ended *endedPause, items []guard.Item, pass uint64) {
	if ended == nil || d.pausing.ended != ended {
		return
	}
	d.pausing.ended = nil
	e := ended.event
	e.Pass = pass
	var still []string
	for i := range items {
		if it := &items[i]; !it.Verdict.Settled() {
			still = append(still, it.Subject)
		}
	}
	switch {
	case len(still) > 0:
		e.Outcome, e.Now, e.Next = record.Failed, "not as wanted", "nfguard status says why"
		e.Message += "; not as wanted now: " + someOf(still)
	case len(ended.wrong) > 0:
		e.Outcome, e.Now = record.Corrected, "as wanted"
		e.Message += "; put right, as it was at its end: " + someOf(ended.wrong)
	default:
		e.Outcome, e.Now = record.Observed, "as wanted"
		e.Message += "; all was as wanted at its end"
	}
	d.record(e)
}

// tellPauseEndNow records the end of a pause that no look has followed.
func (d *Daemon) tellPauseEndNow() {
	r := &d.status.report
	d.tellPauseEnd(d.pausing.ended, d.rec.Current(r.Items), r.Pass)
}

// someOf is a list for a sentence, that has an end.
func someOf(list []string) string {
	const most = 8
	if n := len(list) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), n)
	}
	return strings.Join(list, ", ")
}

// pauseNow is the part of a status about the pause, and the sentence about it.
func (d *Daemon) pauseNow() (p *Pause, sentence string) {
	s := d.pausing.now
	if s == nil {
		return nil, ""
	}
	clock := d.o.Clock()
	return &Pause{
		ID: s.ID(), Since: clock.Time(s.Began), Until: s.Until(clock), Reason: s.Reason, By: s.By,
	}, s.InForce(clock)
}
