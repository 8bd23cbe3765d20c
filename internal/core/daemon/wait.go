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
	// is none), or after d. It reports whether news is readable.
	Wait(news int, d time.Duration) (readable bool)

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

func (p *poller) Wait(news int, d time.Duration) (readable bool) {
	fds := [2]unix.PollFd{{Fd: int32(p.bell), Events: unix.POLLIN}, {Fd: int32(news), Events: unix.POLLIN}} // the kernel ignores a negative one
	timeout := unix.NsecToTimespec(int64(max(d, 0)))
	if _, err := unix.Ppoll(fds[:], &timeout, nil); err != nil {
		return false // EINTR, by a signal of the runtime's or of a debugger: the loop looks and waits again
	}
	if fds[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(p.bell, count[:]) // empty at worst
	}
	return fds[1].Revents != 0
}
