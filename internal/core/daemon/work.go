package daemon

import (
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

// work is what the loop waits for while it keeps the sysctls: a look at
// everything, with what that asks for, or a reload.
type work struct {
	kind  string    // "look" or "reload"
	began time.Time // zero: there is none
	at    step.Current
	shown *step.Step // as it was published

	lastLook   time.Time  // when the last look at everything ended, or when Run began
	late       bool       // it is on record that none has ended for too long
	lateStep   string     // and what it waited for
	reloadSaid bool       // it is on record that a reload waits
	ready      bool       // the first look has ended
	extended   *step.Step // where the first look was when more time was asked for
}

// Look is the progress of the looks at everything, in a Status. The times in
// microseconds are of CLOCK_MONOTONIC, which nobody sets: by them a reader tells
// the age of the last look.
type Look struct {
	Ended  int64 `json:"ended_monotonic_usec,omitempty"`   // the last one; 0: none has
	LateAt int64 `json:"late_at_monotonic_usec,omitempty"` // when the next one is late if it has not ended
	Late   bool  `json:"late"`                             // it is

	// A look, or a reload, that runs now and takes long.
	Began       time.Time `json:"began,omitzero"`
	Step        string    `json:"step,omitempty"` // what it waits for: "reading /etc/sysctl.d/10-x.conf"
	StepBegan   time.Time `json:"step_began,omitzero"`
	ReloadWaits bool      `json:"reload_waits"` // a reload was asked for, and waits for its end
}

const (
	// slow is how long work takes before it is told of. A look takes milliseconds,
	// and some hundred of them where it loads the module.
	slow = time.Second

	// lateAudits is how many audit intervals there may be between the ends of
	// two looks.
	lateAudits = 2
)

// The service manager gives a start its TimeoutStartSec=. While the first look
// gets on, it is asked for more time, each time for what the longest step may
// take (modprobe: 12 s) on a machine that is starved. After startLimit no more is
// asked for: the units that wait for nfguard are to start, even without it.
const (
	extension  = 20 * time.Second
	startLimit = 3 * time.Minute
)

func (d *Daemon) beginWork(kind string) {
	d.work.kind, d.work.began, d.work.shown = kind, time.Now(), nil
	d.work.at.Reset()
}

func (d *Daemon) endWork() {
	if d.work.shown != nil || d.lasts(time.Now()) {
		d.show()
	}
	d.work.began, d.work.reloadSaid = time.Time{}, false
	d.at.Clear(tellWork)
}

// lasts reports whether there is work that takes long.
func (d *Daemon) lasts(now time.Time) bool {
	return !d.work.began.IsZero() && now.Sub(d.work.began) >= slow
}

// lookEnded notes the end of a look, and records it if its delay was recorded.
func (d *Daemon) lookEnded(now time.Time) {
	if d.work.late {
		d.work.late = false
		d.record(record.Event{
			Kind: record.KindLook, Outcome: record.Observed, Time: now, Subject: lookSubject,
			Have: d.work.lateStep, Now: "ended", Duration: now.Sub(d.work.lastLook), Source: "timer", Pass: d.status.report.Pass,
			Message: fmt.Sprintf("a look has ended, %s after the one before; it had waited at: %s", words.Short(now.Sub(d.work.lastLook)), d.work.lateStep),
		})
	}
	d.work.lastLook = now
}

const lookSubject = "look at everything"

// lateAt is when the next look is late if it has not ended by then.
func (d *Daemon) lateAt() time.Time { return d.work.lastLook.Add(lateAudits * d.settings.Audit) }

// tellWork tells of work that lasts: in the status where it is, in a record that
// it is late, and that a reload waits for it.
func (d *Daemon) tellWork(now time.Time) {
	d.extendStart(now)
	if d.work.began.IsZero() {
		return
	}
	if !d.lasts(now) {
		d.at.Set(tellWork, d.work.began.Add(slow))
		return
	}
	at := d.work.at.Now()
	if at == nil {
		at = &step.Step{What: "beginning", Since: d.work.began}
	}
	if d.work.shown == nil || *at != *d.work.shown {
		d.work.shown = at
		d.show()
	}
	if d.at.Due(readConfiguration, now) && !d.work.reloadSaid {
		d.work.reloadSaid = true
		d.show()
		d.record(record.Event{
			Kind: record.KindConfig, Outcome: record.Failed, Time: now, Subject: "configuration", Source: "reload",
			Message: fmt.Sprintf("a reload was asked for, and waits for a %s that has run for %s: %s; the old configuration stays in force",
				d.work.kind, words.Short(now.Sub(d.work.began)), at.What),
			Next: lateNext,
		})
	}
	if !d.work.late && !now.Before(d.lateAt()) {
		d.work.late, d.work.lateStep = true, at.What
		d.show()
		d.record(record.Event{
			Kind: record.KindLook, Outcome: record.Failed, Time: now, Subject: lookSubject,
			Have: at.What, Now: "late", Duration: now.Sub(d.work.lastLook), Source: "timer", Pass: d.status.report.Pass,
			Message: fmt.Sprintf("no look has ended for %s: %s has taken %s; the sysctls are kept meanwhile, and nothing else",
				words.Short(now.Sub(d.work.lastLook)), at.What, words.Short(now.Sub(at.Since))),
			Next: lateNext,
		})
	}
	d.at.Set(tellWork, now.Add(slow))
	if !d.work.late {
		d.at.Sooner(tellWork, d.lateAt())
	}
}

const lateNext = "see what holds it up: a disk or a network mount that hangs, a program that does not end; it goes on by itself when that has ended"

// extendStart asks the service manager for more time if the first look has made
// progress since it was last asked.
func (d *Daemon) extendStart(now time.Time) {
	if d.work.ready || now.Sub(d.status.started) > startLimit {
		return
	}
	if at := d.work.at.Now(); at != d.work.extended {
		d.work.extended = at
		d.o.Notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extension.Microseconds()))
	}
}

// lookNow is the part of a status about the looks, and the sentence about it.
func (d *Daemon) lookNow(now time.Time) (l Look, sentence string) {
	clock := monotonic.Nano()
	usec := func(t time.Time) int64 { return (clock + t.Sub(now).Nanoseconds()) / 1000 }
	l = Look{LateAt: usec(d.lateAt()), Late: d.work.late, ReloadWaits: d.work.reloadSaid}
	if d.status.report.Pass > 0 {
		l.Ended = usec(d.work.lastLook)
	}
	if at := d.work.shown; at != nil && d.lasts(now) {
		l.Began, l.Step, l.StepBegan = d.work.began, at.What, at.Since
	}
	clockTime := func(t time.Time) string { return t.Local().Format(time.TimeOnly) }
	switch {
	case l.Late && l.Step != "":
		sentence = fmt.Sprintf("no look has ended since %s: %s since %s", clockTime(d.work.lastLook), l.Step, clockTime(l.StepBegan))
	case l.Late:
		sentence = "no look has ended since " + clockTime(d.work.lastLook)
	case l.Step != "" && d.status.report.Pass == 0:
		sentence = fmt.Sprintf("the first look has run since %s: %s", clockTime(l.Began), l.Step)
	case l.Step != "":
		sentence = fmt.Sprintf("a %s has run since %s: %s", d.work.kind, clockTime(l.Began), l.Step)
	case d.status.report.Pass == 0:
		sentence = "the first look has not ended"
	}
	if l.ReloadWaits {
		sentence += "; a reload waits for it"
	}
	return l, sentence
}
