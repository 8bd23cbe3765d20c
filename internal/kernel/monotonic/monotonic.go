// Package monotonic reads the kernel's clocks that nobody sets, and converts times of
// one of them to wall-clock times.
package monotonic

import (
	"time"

	"golang.org/x/sys/unix"
)

// Pair is one moment on both clocks.
type Pair struct {
	now  time.Time
	nano int64
}

// The clocks are read one after the other. If the thread is preempted in between,
// they are some milliseconds apart, and a correction seems to come before the write
// that it corrects.
const (
	apart = 10 * time.Microsecond
	tries = 10
)

// Now reads both clocks, less than ten microseconds apart if the machine lets us.
func Now() (p Pair) {
	best := time.Duration(1<<63 - 1)
	for range tries {
		before, now, after := Nano(), time.Now(), Nano()
		if gap := time.Duration(after - before); gap < best {
			best, p = gap, Pair{now, before + int64(gap/2)}
		}
		if best < apart {
			break
		}
	}
	return p
}

// Time is the time at which CLOCK_MONOTONIC showed nano nanoseconds.
func (p Pair) Time(nano int64) time.Time { return p.now.Add(time.Duration(nano - p.nano)) }

// Nano is what CLOCK_MONOTONIC shows now.
func Nano() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail
	return ts.Nano()
}

// Boot is what CLOCK_BOOTTIME shows now, in nanoseconds: the time since the boot, with
// the time that the machine slept.
func Boot() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail
	return ts.Nano()
}
