package history

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Filter says which records are wanted. The zero value wants all.
type Filter struct {
	Since, Until time.Time // zero: no limit
	Events       []record.Kind
	Outcomes     []record.Outcome
	Subjects     []string // names, or patterns with *, ? and [; * also matches a slash
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
	ok, _ := path.Match(flat.Replace(pattern), flat.Replace(subject)) // Check has found it well-formed
	return ok
}

// Kinds are the kinds of events that records can have.
func Kinds() []record.Kind {
	return []record.Kind{
		record.KindDrift, record.KindDenied, record.KindModule, record.KindDropin, record.KindBridge, record.KindFlag,
		record.KindKubeProxy, record.KindNextBoot, record.KindContention, record.KindConfig, record.KindSource,
		record.KindLook, record.KindPause, EventLost, record.KindStart, record.KindStop,
	}
}

// EventLost is the kind of a record about other records that the journal did not
// accept.
const EventLost record.Kind = "lost"

// Outcomes are all possible outcomes of an event.
func Outcomes() []record.Outcome {
	return []record.Outcome{
		record.Corrected, record.Observed, record.Failed, record.Reverted,
		record.Held, record.Denied, record.Rewritten, record.Paused,
	}
}
