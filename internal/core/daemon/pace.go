package daemon

import "time"

// The pace at which news of writes may wake the loop. Reacting cannot win
// against a writer in a tight loop, it can only burn a core: after a burst, a
// writer gets a bounded number of answers a second and the resync does the
// rest. A burst of 200 is far beyond what programs do that set keys at start,
// and 100 a second beyond what a fight between two daemons is. One who writes
// more than that is in a tight loop, and gets half of it: it costs about one
// percent of a core.
const (
	burst   = 200
	between = 10 * time.Millisecond // two tokens
	storm   = 20 * time.Millisecond // two answers, while there is no token
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
		p.at = p.at.Add(storm - between) // there is no token for this time
		return p.at.Add(between)
	}
	return time.Time{}
}
