package journal

import (
	"context"
	"errors"
	"fmt"
	"net"
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

// socket is a connection to journald that is made again when journald was.
// It belongs to one goroutine.
type socket struct {
	path    string
	conn    *net.UnixConn // nil: to be dialled
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
		stale := s.conn != nil
		err := s.try(record)
		if stale && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.close() // the peer of an old connection may be gone and a new one there
			err = s.try(record)
		}
		s.trouble.say(err)
		switch {
		case err == nil || errors.Is(err, errNoFile):
			return err
		case errors.Is(err, os.ErrDeadlineExceeded): // its queue is full, and we have waited
		default:
			s.close()
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

func (s *socket) try(record []byte) error {
	if s.conn == nil {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
		if err != nil {
			return err
		}
		s.conn = conn
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(attemptTime)); err != nil {
		return err
	}
	_, err := s.conn.Write(record)
	if errors.Is(err, unix.EMSGSIZE) {
		err = s.tryFile(record)
	}
	return err
}

func (s *socket) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// errNoFile is a trouble of ours that waiting for journald does not mend.
var errNoFile = errors.New("cannot pass a large record in a memory file")

// tryFile passes a record that no datagram holds (net.core.wmem_default,
// 208 KiB) as a sealed memory file, which journald maps without a copy.
func (s *socket) tryFile(record []byte) error {
	f, err := memoryFile(record)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoFile, err)
	}
	defer f.Close()
	raw, err := s.conn.SyscallConn() // WriteMsgUnix refuses connected datagram sockets
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), nil, rights, nil, 0)
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("sendmsg", sent)
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
