package daemon

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// waiter is where the loop waits: a [poller], or a test's.
type waiter interface {
	// Wait returns when Ring was called, when news is readable (negative: there
	// is none), or after d. It reports whether news is readable, and whether Ring
	// was called.
	Wait(news int, d time.Duration) (readable, rung bool)

	// Ring ends the wait that is going on, or the next one. It never blocks and
	// is safe from any goroutine.
	Ring()
}

// poller waits in ppoll(2) for a descriptor and for an eventfd, the bell. It
// lasts as long as its process.
type poller struct {
	bell int
}

func newPoller() (*poller, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return &poller{bell}, nil
}

func (p *poller) Ring() {
	one := [8]byte{1}
	if _, err := unix.Write(p.bell, one[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		panic(fmt.Sprintf("ring the bell: %v", err)) // the descriptor is ours and open
	}
}

func (p *poller) Wait(news int, d time.Duration) (readable, rung bool) {
	fds := [2]unix.PollFd{{Fd: int32(p.bell), Events: unix.POLLIN}, {Fd: int32(news), Events: unix.POLLIN}} // the kernel ignores a negative one
	timeout := unix.NsecToTimespec(int64(max(d, 0)))
	if _, err := unix.Ppoll(fds[:], &timeout, nil); err != nil {
		return false, false // EINTR, by a signal of the runtime's or of a debugger: the loop looks and waits again
	}
	if rung = fds[0].Revents != 0; rung {
		var count [8]byte
		_, _ = unix.Read(p.bell, count[:]) // empty at worst
	}
	return fds[1].Revents != 0, rung
}

// await waits for news of a write, a ring, the time next, or until the sysctls
// are to be looked at. It reports whether there is news, and whether it was rung
// for.
func (d *Daemon) await(next time.Time) (readable, rung bool) {
	now := time.Now()
	if again := d.at[hearOfWrites]; now.Before(again) {
		_, rung = d.wait.Wait(-1, sooner(next, again).Sub(now))
		now = time.Now()
		if rung || now.Before(again) || !next.IsZero() && !now.Before(next) {
			return false, rung
		}
	}
	fd := -1
	if d.watch.open != nil {
		fd = d.watch.open.FD()
	}
	readable, rung = d.wait.Wait(fd, sooner(next, d.at[lookAtSysctls]).Sub(now))
	if readable {
		d.at.Set(hearOfWrites, d.pace.take(time.Now()))
	}
	return readable, rung
}

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
