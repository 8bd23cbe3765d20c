package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// attemptTime bounds one attempt to hand over a record, and so how late
	// the end of a context is noticed.
	attemptTime = 200 * time.Millisecond

	// Back-off while journald's socket refuses or is not there. A restart of
	// journald takes tenths of a second.
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// socket sends datagrams to journald, whichever listens at the path at that
// time. It is not connected, for the sandbox of the daemon forbids connect(2).
// It belongs to one goroutine.
type socket struct {
	path    string
	fd      int // of use if open is set
	open    bool
	trouble complaint
}

// send hands one record to journald, however long journald is away. It
// returns an error only if ctx ended, or if the record is too large for a
// datagram and cannot be put into a file either.
func (s *socket) send(ctx context.Context, record []byte) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.try(record)
		s.trouble.say(err)
		switch {
		case err == nil || errors.Is(err, errNoFile):
			return err
		case errors.Is(err, unix.EAGAIN): // its queue is full, and we have waited
		default:
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

func (s *socket) try(record []byte) error {
	if !s.open {
		if err := s.dial(); err != nil {
			return err
		}
	}
	err := s.hand(record, nil)
	if errors.Is(err, unix.EMSGSIZE) {
		err = s.tryFile(record)
	}
	return err
}

// dial makes the socket. It blocks, for at most attemptTime: the kernel then
// wakes us when journald's queue has room, which an event loop is not told of a
// peer that it is not connected to.
func (s *socket) dial() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	limit := unix.NsecToTimeval(attemptTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("setsockopt", err)
	}
	s.fd, s.open = fd, true
	return nil
}

// hand sends one datagram. unix.EAGAIN says that there was no room in time.
func (s *socket) hand(b, rights []byte) error {
	for {
		err := unix.Sendmsg(s.fd, b, rights, &unix.SockaddrUnix{Name: s.path}, unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("send to %s: %w", s.path, err)
		}
	}
}

func (s *socket) close() {
	if s.open {
		unix.Close(s.fd)
		s.open = false
	}
}

// errNoFile is an error on our side: it does not help to wait for journald.
var errNoFile = errors.New("cannot pass a large record in a memory file")

// tryFile passes a record that no datagram holds (net.core.wmem_default,
// 208 KiB) as a sealed memory file, which journald maps without a copy.
func (s *socket) tryFile(record []byte) error {
	f, err := memoryFile(record)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoFile, err)
	}
	defer f.Close()
	return s.hand(nil, unix.UnixRights(int(f.Fd())))
}

func memoryFile(content []byte) (*os.File, error) {
	const name, flags = "nfguard-record", unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(content)
	if err == nil {
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
