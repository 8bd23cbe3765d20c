// Package reflex puts a sysctl back at the moment somebody else has written
// it, before the Go scheduler knows that anything happened.
//
// A goroutine that returns from a blocking system call needs a processor of
// the scheduler. After a long wait that one was taken away, and the return
// wakes the scheduler's monitor thread, which sleeps and wakes a few times
// more: an idle daemon that looks once a second woke up three times a second,
// and the monitor at times ran between its read and its write. So this package
// does what the runtime's own system calls do, only for longer: between
// entersyscall and exitsyscall it waits, reads, compares and writes, by raw
// system calls from one function that never grows its stack, allocates
// nothing and holds no pointer that the collector moves. When all is right it
// goes on waiting, and the runtime sleeps: 1.13 wake-ups a second, with a look
// every 0.9 s (make bench). The time that a foreign value stands gains little
// by it, a microsecond or so in the median.
//
// It decides nothing: what may be put back, and to what, it is told by [Reflex.Arm];
// what it did, it tells by [Reflex.Answers].
package reflex

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/monotonic"
)

const (
	maxKeys = 16 // sysctls that can be armed; the others are left to the loop
	maxText = 64 // length of a value, with its newline
)

// Reflex waits, and answers foreign writes meanwhile. It belongs to one
// goroutine; only Ring may be called from others. It lasts as long as its
// process.
type Reflex struct {
	fds   [2]unix.PollFd // the bell, the news
	keys  [maxKeys]armed
	count int

	woken   int64 // when the last wait ended, by clock
	stopped bool  // a key is not as armed, or could not be read
}

// armed is one sysctl. All texts are the kernel's, with the newline.
type armed struct {
	fd       uintptr
	want     [maxText]byte
	have     [maxText]byte
	wantLen  int
	haveLen  int
	found    int64 // when it was about to be written
	answered int64 // when it was written; 0: it was not
	errno    syscall.Errno
}

// New returns a Reflex with a bell.
func New() (*Reflex, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	r := new(Reflex)
	r.fds[0] = unix.PollFd{Fd: int32(bell), Events: unix.POLLIN}
	return r, nil
}

// Ring ends the wait that is going on, or the next one. It never blocks and
// is safe from any goroutine.
func (r *Reflex) Ring() {
	one := [8]byte{1}
	if _, err := unix.Write(int(r.fds[0].Fd), one[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		panic(fmt.Sprintf("ring the bell: %v", err)) // the descriptor is ours and open
	}
}

// Disarm forgets all sysctls and answers.
func (r *Reflex) Disarm() { r.count = 0 }

// Arm has the sysctl behind fd put back to text whenever it reads otherwise.
// text is what the kernel prints for the value that is right, without the
// newline. It returns false if there is no room for it.
func (r *Reflex) Arm(fd int, text string) bool {
	if fd < 0 || r.count == maxKeys || len(text) >= maxText {
		return false
	}
	k := &r.keys[r.count]
	r.count++
	*k = armed{fd: uintptr(fd), wantLen: len(text) + 1}
	k.want[copy(k.want[:], text)] = '\n'
	return true
}

// Answer is a foreign value that was put back.
type Answer struct {
	Index int    // of the sysctl, in the order of Arm
	Have  string // the foreign value
	Stood time.Duration
	Found time.Time // after Have was read, and before it was written over
	At    time.Time // after it was
}

// Answers calls yield for what the last Wait put back. A sysctl that could
// not be read or written is not an answer: the loop finds it when it looks.
func (r *Reflex) Answers(yield func(Answer)) {
	var now monotonic.Pair
	known := false
	for i := range r.count {
		k := &r.keys[i]
		if k.answered == 0 || k.errno != 0 {
			continue
		}
		if !known {
			now, known = monotonic.Now(), true
		}
		have := k.have[:k.haveLen]
		if n := len(have); n > 0 && have[n-1] == '\n' {
			have = have[:n-1]
		}
		yield(Answer{
			Index: i, Have: string(have),
			Stood: time.Duration(k.answered - r.woken),
			Found: now.Time(k.found),
			At:    now.Time(k.answered),
		})
	}
}

// Wait returns when the bell was rung, when news is readable (negative: there
// is none), when an armed sysctl was not as it should be, or after d. The
// armed sysctls are read whenever the wait is interrupted, and each time that
// every has passed. It reports whether news is readable.
func (r *Reflex) Wait(news int, d, every time.Duration) (readable bool) {
	r.fds[1] = unix.PollFd{Fd: int32(news), Events: unix.POLLIN} // the kernel ignores a negative one
	r.stopped = false
	for i := range r.count {
		r.keys[i].answered, r.keys[i].errno = 0, 0
	}
	r.stand(int64(max(d, 0)), int64(max(every, time.Millisecond)))
	if r.fds[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(int(r.fds[0].Fd), count[:]) // empty at worst
	}
	return r.fds[1].Revents != 0
}

// stand is Wait as the scheduler must not see it. From entersyscall to
// exitsyscall nothing may be called that could grow the stack: raw system
// calls and functions of this file that are nosplit.
//
//go:nosplit
//go:norace
func (r *Reflex) stand(d, every int64) {
	entersyscall()
	end := clock() + d
	for {
		left := end - clock()
		if left < 0 {
			left = 0
		}
		last := left <= every
		if !last {
			left = every
		}
		ts := unix.Timespec{Sec: left / 1e9, Nsec: left % 1e9}
		n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&r.fds)), 2, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		r.woken = clock()
		if errno != 0 { // EINTR: a signal of the runtime's or of a debugger
			r.fds[0].Revents, r.fds[1].Revents = 0, 0
		}
		r.look()
		if n != 0 || errno != 0 || last || r.stopped {
			break
		}
	}
	exitsyscall()
}

// look reads each armed sysctl and puts back at once what is not as it
// should be.
//
//go:nosplit
//go:norace
func (r *Reflex) look() {
	for i := range r.count {
		k := &r.keys[i]
		n, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, k.fd, uintptr(unsafe.Pointer(&k.have)), maxText, 0, 0, 0)
		if errno != 0 {
			k.errno, r.stopped = errno, true
			continue
		}
		k.haveLen = int(n)
		if k.same() {
			continue
		}
		r.stopped = true
		k.found = clock()
		_, _, k.errno = syscall.RawSyscall6(unix.SYS_PWRITE64, k.fd, uintptr(unsafe.Pointer(&k.want)), uintptr(k.wantLen), 0, 0, 0)
		k.answered = clock()
	}
}

//go:nosplit
//go:norace
func (k *armed) same() bool {
	if k.haveLen != k.wantLen {
		return false
	}
	for i := 0; i < k.wantLen && i < maxText; i++ {
		if k.have[i] != k.want[i] {
			return false
		}
	}
	return true
}

// clock is CLOCK_MONOTONIC in nanoseconds, by a system call: the faster way
// that time.Now goes needs more stack than there is.
//
//go:nosplit
//go:norace
func clock() int64 {
	var ts unix.Timespec
	_, _, _ = syscall.RawSyscall6(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&ts)), 0, 0, 0, 0)
	return ts.Sec*1e9 + ts.Nsec
}

// What the runtime does around a blocking system call. Both are kept for
// users outside the runtime ("Do not remove or change the type signature",
// runtime/proc.go, for gVisor).
//
//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
