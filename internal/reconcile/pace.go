package reconcile

import "time"

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
