package keep

import (
	"fmt"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// pace lets a few records through at once and then one every now and then.
// It counts those that it keeps back.
type pace struct {
	times []time.Time // of the last records
	kept  int
}

// A crash loop of kubelet restarts a program every few minutes, systemd five
// times in ten seconds; ten records in a minute tell either.
const (
	paceBurst  = 10
	paceWindow = time.Minute
)

// take reports whether a record may be made now, and how many were kept back
// since the last one; otherwise it keeps back one more.
func (p *pace) take(now time.Time) (kept int, ok bool) {
	if len(p.times) == paceBurst {
		if now.Sub(p.times[0]) < paceWindow {
			p.kept++
			return 0, false
		}
		p.times = p.times[1:]
	}
	p.times = append(p.times, now)
	kept, p.kept = p.kept, 0
	return kept, true
}

// due is when those kept back may be recorded; zero when there are none.
func (p *pace) due() time.Time {
	if p.kept == 0 {
		return time.Time{}
	}
	return p.times[0].Add(paceWindow)
}

// recordPaced records e, or counts it. more is what those are that were kept
// back: "starts and ends".
func (a *account) recordPaced(p *pace, e record.Event, more string) {
	n, ok := p.take(e.Time)
	if !ok {
		return
	}
	if n > 0 {
		e.Suppressed = n
		e.Message += fmt.Sprintf(" (%d more %s since the last record)", n, more)
	}
	a.record(e)
}

// tickPaced records, once it is due, what was kept back and has not been
// counted by another record since, and returns when it is due. It completes e;
// tell makes its message of the count.
func (a *account) tickPaced(p *pace, now time.Time, e record.Event, tell func(n int) string) (again time.Time) {
	due := p.due()
	if due.IsZero() || now.Before(due) {
		return due
	}
	n, _ := p.take(now)
	e.Outcome, e.Time, e.Source, e.Suppressed, e.Message = record.Observed, now, record.CauseTimer, n, tell(n)
	a.record(e)
	return time.Time{}
}
