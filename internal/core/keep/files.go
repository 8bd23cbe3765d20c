package keep

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// files keeps the module loaded and the drop-ins as they are to be, and follows
// what others' files will do at the next boot.
type files struct {
	book
	host     Host
	wait     waiter
	tried    map[string]attempt // in the pass that runs, by subject
	nextBoot []guard.Finding    // as recorded
}

// attempt is what became of an action in a pass.
type attempt struct {
	was  guard.Item // as it was when the action was carried out
	err  error
	took time.Duration
}

func (f *files) setPolicy(p *guard.Policy) { f.forget(time.Now(), p.Guards()) }

// act carries out what the items ask for and was not tried in this pass yet, and
// reports whether there was anything.
func (f *files) act(ctx context.Context, items []guard.Item) bool {
	acted := false
	for _, it := range items {
		if _, again := f.tried[it.Subject]; again || it.Action == nil || it.Kind != record.KindModule && it.Kind != record.KindDropin {
			continue
		}
		if it.Kind == record.KindModule && !f.acts() {
			continue
		}
		acted = true
		start := time.Now()
		var done error
		err := f.wait(ctx, func(ctx context.Context) { done = f.host.Do(ctx, *it.Action) })
		if err == nil {
			err = done
		}
		f.tried[it.Subject] = attempt{it, err, time.Since(start)}
	}
	return acted
}

// settle records what it has come to. e is its event as far as it is known, and
// removed are the bridges that were removed since the pass before.
func (f *files) settle(it *guard.Item, e record.Event, removed []guard.Bridge) {
	a, ok := f.tried[it.Subject]
	if !ok {
		f.book.settle(it, e, false)
		return
	}
	e, right := attemptEvent(it, e, a, removed)
	if right {
		f.corrected(a.was.Action.Op, e, e.Kind == record.KindDropin && e.Source == record.CauseReload)
	} else {
		f.failed(a.was.Action.Op, e)
	}
}

// attemptEvent completes e, the event of it, by what came of a.
func attemptEvent(it *guard.Item, e record.Event, a attempt, removed []guard.Bridge) (_ record.Event, right bool) {
	e.Have = a.was.Have
	if it.Verdict == guard.Right {
		e.Outcome = record.Corrected
		e.Message = correctedMessage(&e, a.took, removed)
		return e, true
	}
	if e.Outcome, e.Err = record.Failed, a.err; a.err == nil {
		e.Outcome, e.Err = record.Reverted, errNotKept
	}
	if n := next(e.Err); n != "" {
		e.Next = n
	}
	e.Message = stuckMessage(&e)
	return e, false
}
