package keep

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// follow has the findings recorded that are new, each once until it changes, and
// the end of those that are no longer there. It returns what stands now.
func follow(t Trigger, kind record.Kind, was, now []guard.Finding, say func(record.Event)) []guard.Finding {
	e := record.Event{Kind: kind, Outcome: record.Observed, Time: time.Now(), Source: t.Source}
	for _, f := range missing(now, was) {
		e.Subject, e.Now, e.Message, e.Next = f.Subject, f.Place, f.Sentence, f.Next
		say(e)
	}
	for _, f := range missing(was, now) {
		e.Subject, e.Have, e.Now, e.Next = f.Subject, f.Place, "", ""
		e.Message = "no longer so: " + f.Sentence
		say(e)
	}
	return now
}

// missing are those findings of list that are not in other.
func missing(list, other []guard.Finding) (only []guard.Finding) {
	there := make(map[guard.Finding]bool, len(other))
	for _, f := range other {
		there[f] = true
	}
	for _, f := range list {
		if !there[f] {
			only = append(only, f)
		}
	}
	return only
}
