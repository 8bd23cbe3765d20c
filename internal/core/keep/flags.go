package keep

import (
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// maxFlagStuck is how many times in a row flags that were set may be gone at
// the next look before we take it that the kernel does not keep them.
const maxFlagStuck = 5

// recordVisit records what was done to one bridge. What was left alone, and what
// could not be looked at, is for the pass to tell.
func (b *bridges) recordVisit(v *visit) {
	if !v.there && v.err != nil { // it was removed meanwhile
		return
	}
	right := v.right()
	if b.stuck[v.name]++; right {
		delete(b.stuck, v.name)
	}
	outcome := record.Corrected
	switch {
	case right:
	case v.err == nil && (b.on[v.name] != nil || b.stuck[v.name] < maxFlagStuck):
		outcome = record.Reverted
	default:
		outcome = record.Failed
	}
	e, op := flagEvent(v, outcome), v.was.Action.Op
	if outcome != record.Failed && v.was.Action.Fresh() { // pods come all the time
		b.recordFresh(op, e, right)
		return
	}
	if outcome == record.Failed {
		b.failed(op, e)
	} else {
		b.corrected(op, e, v.takes() || v.ours)
	}
}

// recordFresh records that ports of new pods were put in hairpin mode, which is no
// drift and nobody's fight. Where that did not stay, the CNI plugin has just set
// it, too: there is news of that.
func (b *bridges) recordFresh(op guard.Op, e record.Event, right bool) {
	delete(b.stuck, e.Subject)
	if right {
		b.change(op, &e)
		delete(b.complaints, e.Subject)
		b.recordPaced(&b.hairpins, e, "bridges or ports were put in hairpin mode")
	}
}

// right reports whether the bridge is as wanted, or away, after v.
func (v *visit) right() bool {
	return !v.there || v.now.Verdict.Settled()
}

// takes reports whether v took flags back that we had set.
func (v *visit) takes() bool { return v.was.Action.Op == guard.ClearFlags }

// flagEvent is the event of v, which had that outcome.
func flagEvent(v *visit, outcome record.Outcome) record.Event {
	e := record.Event{
		Kind: record.KindFlag, Outcome: outcome, Time: v.at, Subject: v.name,
		Want: v.was.Want, Have: v.was.Have, Now: v.was.Want, Source: v.trigger.Source,
	}
	if e.Source == record.CauseLink && !v.trigger.Time.IsZero() {
		e.Duration = max(v.at.Sub(v.trigger.Time), 1)
	}
	if v.there {
		e.Now = v.now.Have
	}
	if a := v.was.Action; len(a.Ports) > 0 {
		if e.New = a.Fresh(); a.Subject != v.name {
			e.Bridge = a.Subject
		}
	}
	if outcome == record.Failed {
		if e.Err = v.err; e.Err == nil {
			e.Err = errNotKept
		}
		e.Next = next(e.Err)
		e.Message = stuckMessage(&e)
	} else {
		e.Message = flagMessage(&e, &v.was, v.takes())
	}
	return e
}

func flagMessage(e *record.Event, was *guard.Item, taken bool) string {
	a, why := was.Action, was.Why
	ports, flags := len(a.Ports) > 0, a.Flags != (guard.Flags{})
	s := fmt.Sprintf("bridge %s had %s", e.Subject, e.Have)
	if ports && a.Subject != e.Subject { // it is one of them
		s = fmt.Sprintf("%s had %s", e.Subject, e.Have)
	}
	switch {
	case taken && why != "":
		return s + ", set by nfguard on evidence, taken back: for " + words.Short(evidenceGone) + " there was none (" + why + ")"
	case taken:
		return s + ` of scope "bridges", taken back: the sysctls are in effect`
	case ports && !flags:
		s += ", switched on"
	case e.Now == e.Want || e.Outcome == record.Reverted:
		s += ", set to 1"
	default:
		s += ", set to " + e.Now
	}
	if ports && flags {
		s += " and switched on"
	}
	if ports && a.Subject == e.Subject {
		s += " at " + a.Hairpins()
	}
	switch {
	case e.Duration > 0:
		s += " after " + words.Short(e.Duration)
	case e.Source == record.CauseStart:
		s += ", as found at start"
	}
	s += " (" + why + ")"
	if e.Outcome == record.Reverted {
		s += ", and changed again at once"
	}
	return s
}

// prune forgets what was recorded of bridges that have been removed, or are no
// longer kept. The end of "no bridge could be looked at" is recorded.
func (b *bridges) prune(t Trigger, items []guard.Item) {
	b.recordDone()
	now := time.Now()
	b.book.prune(now)
	judged := make(map[string]bool)
	for i := range items {
		if items[i].Kind == record.KindFlag {
			judged[items[i].Subject] = true
		}
	}
	if !judged[guard.AllBridges] {
		b.ended(record.Event{Kind: record.KindFlag, Time: now, Subject: guard.AllBridges, Now: "known", Source: t.Source}, "is as wanted again", "")
	}
	for subject := range b.complaints {
		if !judged[subject] {
			delete(b.complaints, subject)
		}
	}
	for subject := range b.stuck {
		if !judged[subject] {
			delete(b.stuck, subject)
		}
	}
}

// noted remembers the bridges that are listed now, and returns those that have
// been removed and those that have appeared since the last time. One that was made anew under its name
// has another index, and is both.
func (b *bridges) noted(now []guard.Bridge) (removed, appeared []guard.Bridge) {
	if index := func(b guard.Bridge) int { return b.Index }; b.known {
		removed, appeared = without(b.listed, now, index), without(now, b.listed, index)
	}
	b.listed, b.known = now, true
	return removed, appeared
}

// recordMoves records which bridges were removed and which appeared, each by
// itself unless there are many. ready says how the guarded things stand.
func (b *bridges) recordMoves(t Trigger, removed, appeared []guard.Bridge, ready string) {
	const more = "bridges appeared or were removed"
	e := record.Event{Kind: record.KindBridge, Outcome: record.Observed, Time: time.Now(), Source: t.Source}
	for i := range removed {
		e.Subject, e.Have, e.Now = removed[i].Name, "there", "gone"
		e.Message = "bridge " + e.Subject + " was removed"
		b.recordPaced(&b.moves, e, more)
	}
	for i := range appeared {
		e.Subject, e.Have, e.Now = appeared[i].Name, "absent", "there"
		e.Message = "bridge " + e.Subject + " appeared; " + ready
		b.recordPaced(&b.moves, e, more)
	}
}

// tell records which concerns are new, and which are no more.
func (b *bridges) tell(t Trigger, now []guard.Finding) {
	b.concerns = follow(t, record.KindBridge, b.concerns, now, func(e record.Event) {
		b.recordPaced(&b.notes, e, "notes on bridges") // as many as there are bridges
	})
}

// tickPaced records how many bridges appeared or were removed, and how many notes
// on bridges there were, without a record of their own.
func (b *bridges) tickPaced(now time.Time) time.Time {
	e := record.Event{Kind: record.KindBridge, Subject: guard.AllBridges}
	moves := b.account.tickPaced(&b.moves, now, e, func(n int) string {
		return fmt.Sprintf("%d more bridges appeared or were removed since the last record; now: %s", n, listBridges(b.listed))
	})
	flags := record.Event{Kind: record.KindFlag, Subject: guard.AllBridges}
	moves = earlier(moves, b.account.tickPaced(&b.hairpins, now, flags, func(n int) string {
		return fmt.Sprintf("%d more bridges or ports were put in hairpin mode since the last record", n)
	}))
	e.Next = "nfguard check says what is so now"
	return earlier(moves, b.account.tickPaced(&b.notes, now, e, func(n int) string {
		return fmt.Sprintf("%d more notes on bridges were made or settled since the last record; now there are %d", n, len(b.concerns))
	}))
}
