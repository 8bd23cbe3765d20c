package run

import (
	"context"
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/metrics"
	"github.com/nfguard/nfguard/internal/core/record"
)

// impactAfter is how long packets have to have bypassed netfilter for it to be worth a
// look at whom that cost a reply: what began within less has mostly not been answered yet
// for want of time.
const impactAfter = time.Second

// completer writes records, those of a drift that lasted with the connections that had no
// reply because of it.
type completer struct {
	records *journal.Writer
	meter   *metrics.Metrics
	bridges func(context.Context) ([]guard.Bridge, error)
}

// Record implements [keep.Recorder].
func (c *completer) Record(e record.Event) {
	if !lasted(&e) {
		c.records.Record(e)
		return
	}
	c.records.RecordCompleted(e, c.complete)
}

// lasted reports whether e tells of packets that bypassed netfilter for a time that is
// long, or is not known.
func lasted(e *record.Event) bool {
	switch e.Outcome { //nolint:exhaustive // the others are of no drift that lasted
	case record.Corrected, record.Failed, record.Reverted:
	case record.Observed:
		if guard.SameValue(e.Now, e.Want) {
			return false
		}
	default:
		return false
	}
	return e.Kind == record.KindDrift && e.Have == "0" && e.Want != "0" && (e.Duration == 0 || e.Duration >= impactAfter) &&
		(e.Subject == string(guard.IPv4.Key()) || e.Subject == string(guard.IPv6.Key()))
}

// complete counts what had no reply. Where that cannot be told, nothing is said of it.
func (c *completer) complete(ctx context.Context, e *record.Event) {
	bridges, err := c.bridges(ctx)
	if err != nil {
		return
	}
	o := guard.Observation{Module: guard.Module{State: guard.Present}, Bridges: bridges, On: [3]bool{true, true, true}}
	for _, f := range []guard.Family{guard.IPv4, guard.IPv6} {
		if e.Subject == string(f.Key()) {
			o.On[f] = false
		}
	}
	found, err := host.Impact(ctx, o.Bypassing())
	if err != nil || found.Connections == 0 {
		return
	}
	e.Unreplied, e.UnrepliedPods = found.Connections, found.Pods
	e.Message += fmt.Sprintf("; %s had no reply", found.Describe())
	c.meter.AddUnreplied(found.Connections)
}
