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
	for _, f := range without(now, was, guard.Finding.Key) {
		e.Subject, e.Now, e.Message, e.Next = f.Subject, f.Place, f.Sentence, f.Next
		say(e)
	}
	for _, f := range without(was, now, guard.Finding.Key) {
		e.Subject, e.Have, e.Now, e.Next = f.Subject, f.Place, "", ""
		e.Message = "no longer so: " + f.Sentence
		say(e)
	}
	return now
}

// without are those of list whose like, by key, is not in other.
func without[T any, K comparable](list, other []T, key func(T) K) (only []T) {
	there := make(map[K]bool, len(other))
	for _, t := range other {
		there[key(t)] = true
	}
	for _, t := range list {
		if !there[key(t)] {
			only = append(only, t)
		}
	}
	return only
}
