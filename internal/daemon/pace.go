package daemon

import "time"

// The pace at which news of writes may wake the loop. Reacting cannot win
// against a writer in a tight loop, it can only burn a core: after a burst, a
// writer gets a bounded number of answers a second and the resync does the
// rest. A burst of 200 is far beyond what programs do that set keys at start;
// 100 a second cost about one percent of a core.
const (
	burst   = 200
	perSec  = 100
	between = time.Second / perSec
)

// pace is a token bucket. The zero value is full.
type pace struct {
	spent int // tokens missing from a full bucket
	at    time.Time
}

// take takes a token, and returns zero while there are more, or else when
// there will be one again.
func (p *pace) take(now time.Time) time.Time {
	if back := int(now.Sub(p.at) / between); back >= p.spent {
		p.spent, p.at = 0, now
	} else if back > 0 {
		p.spent -= back
		p.at = p.at.Add(time.Duration(back) * between)
	}
	p.spent = min(p.spent+1, burst)
	if p.spent == burst {
		return p.at.Add(between)
	}
	return time.Time{}
}
