package keep

import (
	"maps"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// account is what the parts of a Keeper share: where events go, and what is said
// of all of them.
type account struct {
	recorder Recorder
	limits   Contention
	mode     guard.Mode
	paused   bool
	pass     uint64   // the pass that runs, or ran last, counted from 1
	changes  []Change // since that began
}

func (a *account) record(e record.Event) {
	e.Pass = a.pass
	a.recorder.Record(e)
}

// acts reports whether what is wrong is put right.
func (a *account) acts() bool { return a.mode != guard.Observe && !a.paused }

// change notes what op did, or tried, for the report.
func (a *account) change(op guard.Op, e *record.Event) {
	if len(a.changes) >= 64 { // a report is for people; the counters count
		return
	}
	c := Change{Op: op.String(), Subject: e.Subject, From: e.Have, To: e.Want}
	if e.Err != nil {
		c.Error, c.Next = e.Err.Error(), e.Next
	}
	a.changes = append(a.changes, c)
}

// Totals count what was done since the start.
type Totals struct {
	Drifts    uint64 `json:"drifts"`    // found, or rewritten by the kernel
	Corrected uint64 `json:"corrected"` // put right, the same
	Failed    uint64 `json:"failed"`    // attempts that failed
	Denied    uint64 `json:"denied"`    // foreign writes that the kernel refused, in mode lock
}

func (t *Totals) add(u Totals) {
	t.Drifts += u.Drifts
	t.Corrected += u.Corrected
	t.Failed += u.Failed
	t.Denied += u.Denied
}

// count is what e, and those that it stands for, add to the totals.
func count(e *record.Event) Totals {
	n := uint64(1 + e.Suppressed)
	switch {
	case e.Kind == record.KindDenied:
		return Totals{Denied: n}
	case e.Outcome == record.Observed, e.Outcome == record.Paused:
		return Totals{Drifts: n}
	case e.Source == record.CausePause && e.Err == nil: // it was counted as a drift in the pause
		return Totals{Corrected: n}
	case e.Err == nil:
		return Totals{Drifts: n, Corrected: n}
	case e.Kind == record.KindDrift || e.Kind == record.KindFlag:
		return Totals{Drifts: n, Failed: n}
	}
	return Totals{Failed: n} // of the module or a drop-in, which is tried again in each pass
}

// book is what one part has on record of the things that it keeps.
type book struct {
	*account
	complaints map[string]complaint
	fights     map[string]*fight // over what was changed within a while
	on         map[string]*fight // those that are fights by now
	turned     func(*fight)      // one has begun or ended; nil: nobody wants to know
	totals     Totals
}

func newBook(a *account) book {
	return book{account: a, complaints: make(map[string]complaint), fights: make(map[string]*fight), on: make(map[string]*fight)}
}

// corrected counts and records e, which op put right. What the policy's change
// asks for, and not somebody else's, is no fight.
func (b *book) corrected(op guard.Op, e record.Event, ours bool) {
	b.totals.add(count(&e))
	b.change(op, &e)
	delete(b.complaints, e.Subject)
	if ours {
		b.record(e)
	} else {
		b.reversal(e)
	}
}

// failed counts and records e, which op could not put right.
func (b *book) failed(op guard.Op, e record.Event) {
	b.totals.add(count(&e))
	b.change(op, &e)
	b.complain(e)
}

// left counts and records e, which was left so, or never stored.
func (b *book) left(e record.Event) {
	b.totals.add(count(&e))
	b.reversal(e)
}

// reversal records e, or counts it where it is part of a fight.
func (b *book) reversal(e record.Event) {
	f := b.fights[e.Subject]
	if f == nil {
		f = new(fight)
		b.fights[e.Subject] = f
	}
	was := f.on
	e, ok := f.add(e, b.limits)
	if f.on != was {
		b.turn(f)
	}
	if ok {
		b.record(e)
	}
}

func (b *book) turn(f *fight) {
	if delete(b.on, f.subject); f.on {
		b.on[f.subject] = f
	}
	if b.turned != nil {
		b.turned(f)
	}
}

// tick records the fights that go on or have ended, and returns when it wants to
// be called again.
func (b *book) tick(now time.Time) (again time.Time) {
	for _, subject := range b.fighting() {
		again = earlier(again, b.tell(b.on[subject], now, false))
	}
	return again
}

// leave records what the fights that go on have come to.
func (b *book) leave(now time.Time) {
	for _, subject := range b.fighting() {
		b.tell(b.on[subject], now, true)
	}
}

// tell records what f has come to where that is due, or if last, where there is
// anything to tell.
func (b *book) tell(f *fight, now time.Time, last bool) (again time.Time) {
	e, ok, again := f.tick(now, b.limits, last)
	if ok {
		b.record(e)
	}
	if !f.on {
		b.turn(f)
	}
	return again
}

// fighting are the subjects of the fights that go on, in order.
func (b *book) fighting() []string { return slices.Sorted(maps.Keys(b.on)) }

// complaint is what stands recorded about a subject. It is not repeated until
// it changes, and its end is recorded too.
type complaint struct {
	kind    record.Kind
	message string
	since   time.Time
}

func (b *book) complain(e record.Event) {
	c, ok := b.complaints[e.Subject]
	switch {
	case c.message == e.Message:
		return
	case !ok:
		c.since = e.Time
	}
	b.complaints[e.Subject] = complaint{e.Kind, e.Message, c.since}
	b.record(e)
}

// ended records the end of a complaint that somebody else settled, and how it is
// now.
func (b *book) ended(e record.Event, how, why string) {
	c, ok := b.complaints[e.Subject]
	if !ok {
		return
	}
	delete(b.complaints, e.Subject)
	e.Outcome, e.Duration, e.Next = record.Observed, e.Time.Sub(c.since), ""
	e.Message = endedMessage(&e, how, why)
	b.record(e)
}

// settle records what a thing has come to in a pass that did nothing about it. e
// is its event as far as it is known. told: another record has said already that
// it is wrong.
func (b *book) settle(it *guard.Item, e record.Event, told bool) {
	switch {
	case it.Verdict == guard.Right:
		b.ended(e, "is as wanted again", "")
	case it.Verdict == guard.Excused:
		b.ended(e, "is left as it is", ": "+it.Reason)
	case !told:
		e.Outcome, e.Err = record.Failed, it.Err
		e.Message = wrongMessage(it)
		if !b.acts() && it.Kind != record.KindDropin || b.mode == guard.Observe {
			e.Outcome = b.unacted()
		}
		if e.Outcome == record.Paused {
			e.Message += "; " + whyLeft(e.Outcome)
		}
		b.complain(e)
	}
}

// forget forgets the things that are no longer configured, and records the end
// of what stands recorded about them.
func (b *book) forget(now time.Time, guarded func(record.Kind, string) bool) {
	for _, subject := range slices.Sorted(maps.Keys(b.complaints)) {
		if kind := b.complaints[subject].kind; !guarded(kind, subject) {
			b.ended(record.Event{
				Kind: kind, Time: now, Subject: subject, Now: "no longer configured", Source: record.CauseReload,
			}, "is left as it is", "")
		}
	}
	for subject, f := range b.fights {
		if !guarded(f.thing(), subject) {
			if f.on {
				b.tell(f, now, true)
			}
			delete(b.fights, subject)
			delete(b.on, subject)
		}
	}
}

// prune forgets what was changed too long ago to be part of a fight.
func (b *book) prune(now time.Time) {
	for subject, f := range b.fights {
		if !f.on && now.Sub(f.last) > b.limits.Window {
			delete(b.fights, subject)
		}
	}
}
