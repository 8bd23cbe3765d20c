package history

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Filter says which records are wanted. The zero value wants all.
type Filter struct {
	Since, Until time.Time // zero: from the first on, to the last
	Events       []guard.EventKind
	Outcomes     []guard.Outcome
	Subjects     []string // names, or patterns with *, ? and [, in which * matches a slash, too
}

// Wants reports whether the filter lets r through.
func (f *Filter) Wants(r *Record) bool {
	return (f.Since.IsZero() || !r.Time.Before(f.Since)) &&
		(f.Until.IsZero() || !r.Time.After(f.Until)) &&
		(len(f.Events) == 0 || slices.Contains(f.Events, r.Event)) &&
		(len(f.Outcomes) == 0 || slices.Contains(f.Outcomes, r.Outcome)) &&
		(len(f.Subjects) == 0 || slices.ContainsFunc(f.Subjects, func(p string) bool { return matches(p, r.Subject) }))
}

// Check returns an error for a pattern that is not well-formed.
func (f *Filter) Check() error {
	for _, p := range f.Subjects {
		if _, err := path.Match(p, ""); err != nil {
			return err
		}
	}
	return nil
}

func matches(pattern, subject string) bool {
	if pattern == subject {
		return true
	}
	flat := strings.NewReplacer("/", "\x00")
	ok, _ := path.Match(flat.Replace(pattern), flat.Replace(subject)) // Check has seen to it
	return ok
}

// Kinds are the events that records tell of.
func Kinds() []guard.EventKind {
	return []guard.EventKind{
		guard.EventDrift, guard.EventDenied, guard.EventModule, guard.EventDropin, guard.EventBridge, guard.EventFlag,
		guard.EventKubeProxy, guard.EventNextBoot, guard.EventContention, guard.EventConfig, guard.EventSource,
		guard.EventLook, EventLost, guard.EventStart, guard.EventStop,
	}
}

// EventLost is the kind of a record that tells of records that the journal
// did not take.
const EventLost guard.EventKind = "lost"

// Outcomes are all that can come of an event.
func Outcomes() []guard.Outcome {
	return []guard.Outcome{
		guard.OutcomeCorrected, guard.OutcomeObserved, guard.OutcomeFailed, guard.OutcomeReverted,
		guard.OutcomeHeld, guard.OutcomeDenied, guard.OutcomeRewritten,
	}
}
