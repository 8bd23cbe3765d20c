package reconcile

import (
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// compare tells which bridges are in one list and not in the other. One that
// was made anew under its name has another index, and is in both.
func compare(before, after []guard.Bridge) (gone, came []string) {
	had, has := make(map[int]bool, len(before)), make(map[int]bool, len(after))
	for _, b := range before {
		had[b.Index] = true
	}
	for _, b := range after {
		has[b.Index] = true
		if !had[b.Index] {
			came = append(came, b.Name)
		}
	}
	for _, b := range before {
		if !has[b.Index] {
			gone = append(gone, b.Name)
		}
	}
	return gone, came
}

// recordBridges records which bridges came and went, each by itself unless
// there are many.
func (r *Reconciler) recordBridges(t Trigger, gone, came []string, items []guard.Item) {
	const more = "bridges came or went"
	e := record.Event{Kind: record.KindBridge, Outcome: record.Observed, Time: time.Now(), Duration: -1, Source: t.Source, Pass: r.passes}
	for _, name := range gone {
		e.Subject, e.Have, e.Now = name, "there", "gone"
		e.Message = "bridge " + name + " went"
		r.recordPaced(&r.moves, e, more)
	}
	for _, name := range came {
		e.Subject, e.Have, e.Now = name, "absent", "there"
		e.Message = "bridge " + name + " appeared; " + Readiness(items)
		r.recordPaced(&r.moves, e, more)
	}
}

// tickBridges records how many bridges came and went, and what there was to be
// known of bridges, without a record of its own.
func (r *Reconciler) tickBridges(now time.Time) time.Time {
	moves := r.tickPaced(&r.moves, now, func(n int) record.Event {
		return record.Event{
			Kind: record.KindBridge, Subject: guard.AllBridges,
			Message: fmt.Sprintf("%d more bridges came or went since the last record; now: %s", n, listBridges(r.bridges)),
		}
	})
	return earlier(moves, r.tickPaced(&r.notes, now, func(n int) record.Event {
		return record.Event{
			Kind: record.KindBridge, Subject: guard.AllBridges, Next: "nfguard check says what is so now",
			Message: fmt.Sprintf("%d more notes on bridges came or were settled since the last record; now there are %d", n, len(r.concerns)),
		}
	}))
}
