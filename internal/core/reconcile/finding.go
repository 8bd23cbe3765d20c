package reconcile

import (
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// follow records the findings that are new, each once until it changes, and
// the end of those that are not there any more. It returns what stands now.
func (r *Reconciler) follow(t Trigger, kind record.Kind, was, now []guard.Finding) []guard.Finding {
	keep := r.o.Recorder.Record
	if kind == record.KindBridge { // as many as there are bridges
		keep = func(e record.Event) { r.recordPaced(&r.notes, e, "notes on bridges") }
	}
	e := record.Event{Kind: kind, Outcome: record.Observed, Time: time.Now(), Duration: -1, Source: t.Source, Pass: r.passes}
	for _, f := range now {
		if !slices.Contains(was, f) {
			e.Subject, e.Now, e.Message, e.Next = f.Subject, f.Place, f.Sentence, f.Next
			keep(e)
		}
	}
	for _, f := range was {
		if !slices.Contains(now, f) {
			e.Subject, e.Have, e.Now, e.Next = f.Subject, f.Place, "", ""
			e.Message = "no longer so: " + f.Sentence
			keep(e)
		}
	}
	return now
}
