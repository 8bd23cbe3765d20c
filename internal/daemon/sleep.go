package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/source"
)

// sleeper is where the loop waits.
type sleeper interface {
	// wait returns when it was rung since the last wait, when fd is readable
	// (negative: there is none), or after d (negative: never). It reports
	// whether fd is readable.
	wait(fd int, d time.Duration) (readable bool)

	// ring ends the wait that is going on, or the next one. It never blocks
	// and may be called from any goroutine.
	ring()
}

// bell is the sleeper of a real daemon: one ppoll on the descriptor that
// tells of writes and on an eventfd for everything else. From the write of a
// stranger to the loop there is no other goroutine, queue or timer. It lasts
// as long as the process: work that hangs may ring it after the loop's end.
type bell struct {
	fd int
}

func newBell() (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return &bell{fd: fd}, nil
}

func (b *bell) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// EAGAIN would mean that it has been rung 2^64-2 times and not been heard.
	_, _ = unix.Write(b.fd, one[:])
}

func (b *bell) wait(fd int, d time.Duration) bool {
	var timeout *unix.Timespec
	if d >= 0 {
		t := unix.NsecToTimespec(int64(d))
		timeout = &t
	}
	fds := [2]unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
	// A negative descriptor is ignored by the kernel. On EINTR, which the
	// runtime's own signals cause, the caller finds nothing to do and waits again.
	if _, err := unix.Ppoll(fds[:], timeout, nil); err != nil {
		return false
	}
	if fds[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(b.fd, count[:])
	}
	return fds[1].Revents != 0
}

// lending keeps the one watch that the loop waits on for a source.
type lending struct {
	ring func()

	mu   sync.Mutex
	loan *loan
}

type loan struct {
	watch source.Watch
	back  chan error // buffered
}

// Lend implements [source.Lender]. ctx is cancelled by the loop's own
// goroutine only, and so never while it waits on the descriptor.
func (l *lending) Lend(ctx context.Context, w source.Watch) error {
	mine := &loan{w, make(chan error, 1)}
	l.mu.Lock()
	l.loan = mine
	l.mu.Unlock()
	l.ring()
	select {
	case err := <-mine.back:
		return err
	case <-ctx.Done():
		l.mu.Lock()
		if l.loan == mine {
			l.loan = nil
		}
		l.mu.Unlock()
		return nil
	}
}

// lent returns the watch that the loop has, or nil.
func (l *lending) lent() source.Watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loan == nil {
		return nil
	}
	return l.loan.watch
}

// giveBack ends the loan with err.
func (l *lending) giveBack(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loan != nil {
		l.loan.back <- err
		l.loan = nil
	}
}
