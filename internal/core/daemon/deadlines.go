package daemon

import "time"

// deadline names a thing that the loop does at a time.
type deadline int

const (
	// Done at any time, also while a look at everything or a reload lasts.

	openWatch   deadline = iota // of the sysctls, again, after it failed
	tellSources                 // which have been away for too long
	tellFights                  // and what else the record has by the clock
	tellWork                    // that a look or a reload lasts, or is late
	feedWatchdog
	publish
	readPause // what is asked for
	endPause  // or look at its clock again

	// Done when none of these lasts.

	passForHints
	passAnyway // the audit, or another try after a pass that left something wrong
	lookAtKubeProxy
	readConfiguration

	// Waited for by [Daemon.await] only, or by nobody.

	lookAtSysctls // without news of a write, and at single bridges that were put off
	hearOfWrites  // again, after a burst: until then news of a write does not wake the loop
	lookAtAll     // by the next pass, whatever it is made for

	deadlineCount
)

// deadlines says when each is due; a time of zero is never. The zero value has
// none.
type deadlines [deadlineCount]time.Time

// Set has n be due at a time, whatever it was; zero: never.
func (d *deadlines) Set(n deadline, at time.Time) { d[n] = at }

// Sooner has n be due at a time, unless it is due before that.
func (d *deadlines) Sooner(n deadline, at time.Time) { d[n] = sooner(d[n], at) }

// Clear has n never be due.
func (d *deadlines) Clear(n deadline) { d[n] = time.Time{} }

// Due reports whether n is due now.
func (d *deadlines) Due(n deadline, now time.Time) bool {
	return !d[n].IsZero() && !now.Before(d[n])
}

// NextOfUpkeep is when the first of the things is due that are done at any time;
// zero: none is.
func (d *deadlines) NextOfUpkeep() time.Time { return d.first(passForHints) }

// Next is when the first of all things is due that are done; zero: none is.
func (d *deadlines) Next() time.Time { return d.first(lookAtSysctls) }

// first is when the first of those before end is due.
func (d *deadlines) first(end deadline) (at time.Time) {
	for _, t := range d[:end] {
		at = sooner(at, t)
	}
	return at
}

// sooner is the first of two times, of which either may be zero: none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
