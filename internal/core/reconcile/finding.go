package reconcile

import (
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// follow records the findings that are new, each once until it changes, and
// the end of those that are not there any more. It returns what stands now.
func (r *Reconciler) follow(t Trigger, kind guard.EventKind, was, now []guard.Finding) []guard.Finding {
	record := r.o.Recorder.Record
	if kind == guard.EventBridge { // as many as there are bridges
		record = func(e guard.Event) { r.recordPaced(&r.notes, e, "notes on bridges") }
	}
	e := guard.Event{Kind: kind, Outcome: guard.OutcomeObserved, Time: time.Now(), Duration: -1, Source: t.Source, Pass: r.passes}
	for _, f := range now {
		if !slices.Contains(was, f) {
			e.Subject, e.Now, e.Message, e.Next = f.Subject, f.Place, f.Sentence, f.Next
			record(e)
		}
	}
	for _, f := range was {
		if !slices.Contains(now, f) {
			e.Subject, e.Have, e.Now, e.Next = f.Subject, f.Place, "", ""
			e.Message = "no longer so: " + f.Sentence
			record(e)
		}
	}
	return now
}
