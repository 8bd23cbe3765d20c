package pause

import (
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/words"
)

// Asked is what was asked for: a request, nothing, or something that is no
// request.
type Asked struct {
	Request *Request
	Err     error
}

// State is a pause that is in force.
type State struct {
	Request
	Began time.Duration // by CLOCK_BOOTTIME; its request may be of later
}

// Change is what becomes of the pause that is in force.
type Change uint8

// The changes.
const (
	Stays     Change = iota // as it is, in force or not
	Begins                  // by a request
	Continues               // it was in force before the daemon was started
	Moves                   // another request has taken its place
	Ends
	Refused // what was asked for; nothing is in force then
)

// Decision is what the daemon does.
type Decision struct {
	Change Change
	Now    *State // in force from now on; nil: none
	Was    *State // in force until now; nil: none was
	By     *Asker // who asked for the change; nil: nobody
	Why    string // of an end, and of a refusal
}

// Decide says what becomes of was, the pause in force, nil if there is none, by what
// is asked for now. first: the daemon has just started. observes: it corrects nothing
// anyway.
func Decide(was *State, asked Asked, observes, first bool, now Clock) Decision {
	ends := func(why string, by *Asker) Decision { return Decision{Change: Ends, Was: was, Why: why, By: by} }
	refused := func(why string, by *Asker) Decision { return Decision{Change: Refused, Was: was, Why: why, By: by} }
	r := asked.Request
	switch {
	case asked.Err != nil:
		return refused(asked.Err.Error(), nil)
	case r == nil && was != nil:
		return ends("its file was removed", nil)
	case r != nil && r.Schema != 1:
		return refused(r.Check(now).Error(), nil)
	case r == nil, r.Boot != now.Boot && was == nil: // a directory that outlives a reboot
		return Decision{}
	case r.Boot != now.Boot:
		return ends("its file is of another boot", nil)
	}
	if err := r.Check(now); err != nil {
		return refused(err.Error(), &r.By)
	}
	switch {
	case r.Verb == Resume && was == nil:
		return Decision{}
	case r.Verb == Resume:
		return ends(`"nfguard resume" was asked for by `+r.By.String(), &r.By)
	case r.Ends() <= now.Since && was == nil: // it has ended already
		return Decision{}
	case r.Ends() <= now.Since:
		return ends("its time was over", nil)
	case was != nil && was.ID() == r.ID():
		return Decision{Now: was, Was: was}
	case observes && !first:
		return refused("in mode observe nothing is corrected anyway", &r.By)
	}
	d := Decision{Change: Begins, Now: &State{Request: *r, Began: usec(r.Asked)}, Was: was, By: &r.By}
	switch {
	case was != nil:
		d.Change, d.Now.Began = Moves, was.Began
	case r.Since > 0:
		d.Now.Began = usec(r.Since)
	}
	if first {
		d.Change = Continues
	}
	return d
}

// Until is when s ends by itself, as the wall clock has it now.
func (s *State) Until(now Clock) time.Time { return now.Time(s.Ends()) }

// Left is how long s still takes.
func (s *State) Left(now Clock) time.Duration { return s.Ends() - now.Since }

// Lasted is how long s has been in force.
func (s *State) Lasted(now Clock) time.Duration { return max(now.Since-s.Began, 0) }

// Sentence says what d is about, for the record; locks: foreign values are refused
// else. Of an end it is the beginning only.
func (d *Decision) Sentence(locks bool, now Clock) string {
	what := "nothing is corrected until then"
	if locks {
		what = "nothing is corrected until then, and writers are let through"
	}
	until := func(s *State) string { return clockTime(s.Until(now), now.Wall) }
	asked := func(s *State) string { return "asked for by " + s.By.String() + ": " + s.Reason }
	switch d.Change {
	case Begins:
		return fmt.Sprintf("paused for %s, until %s: %s; %s", words.Brief(usec(d.Now.For)), until(d.Now), what, asked(d.Now))
	case Continues:
		return fmt.Sprintf("still paused after a start, until %s: %s; %s", until(d.Now), what, asked(d.Now))
	case Moves:
		return fmt.Sprintf("the pause was changed: it ends at %s, not at %s; %s", until(d.Now), until(d.Was), asked(d.Now))
	case Ends:
		return fmt.Sprintf("the pause has ended after %s: %s", words.Short(d.Was.Lasted(now)), d.Why)
	case Refused:
		s := "a pause was refused: " + d.Why
		if d.By != nil {
			s = "a pause that " + d.By.String() + " asked for was refused: " + d.Why
		}
		if d.Was != nil {
			s += "; the one before has ended with it, after " + words.Short(d.Was.Lasted(now))
		}
		return s
	case Stays:
	}
	return ""
}

// InForce is s in a few words, for the status.
func (s *State) InForce(now Clock) string {
	return fmt.Sprintf("paused until %s by %s: %s", clockTime(s.Until(now), now.Wall), s.By.String(), s.Reason)
}

// clockTime is a time of day, with its date where that is not today's.
func clockTime(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
