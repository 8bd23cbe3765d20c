package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for many descriptors in one goroutine and occupies no thread
// while it does: it is an epoll instance that the Go runtime's own waits for.
type poller struct {
	file *os.File
	conn syscall.RawConn
	fd   int
	stop func() bool
	raw  [16]unix.EpollEvent
	news []news
}

// news is a descriptor that is readable, and the pid that it was added with: 0
// is a feed, and -1 the end of a pause.
type news struct{ fd, pid int }

// newPoller returns a poller whose wait ends when ctx does.
func newPoller(ctx context.Context) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Go polls descriptors that do not block.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	return &poller{file: file, conn: conn, fd: fd, stop: stop}, nil
}

func (p *poller) close() {
	p.stop()
	p.file.Close()
}

func (p *poller) add(fd, pid int) error {
	err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN, Fd: int32(fd), Pad: int32(pid),
	})
	return os.NewSyscallError("epoll_ctl", err)
}

// after has the poller tell when d has passed. The caller removes and closes the
// descriptor.
func (p *poller) after(d time.Duration) (fd int, err error) {
	if fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return -1, os.NewSyscallError("timerfd_create", err)
	}
	err = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}, nil)
	if err == nil {
		err = p.add(fd, -1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("timerfd_settime", err)
	}
	return fd, nil
}

// remove is to be called before fd is closed: a child that another goroutine
// is just starting may hold a copy, and the kernel would go on telling of it.
func (p *poller) remove(fd int) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// wait returns those that are readable, at least one. What it returns is good
// until the next call.
func (p *poller) wait() ([]news, error) {
	var n int
	var werr error
	err := p.conn.Read(func(uintptr) bool {
		n, werr = unix.EpollWait(p.fd, p.raw[:], 0)
		return n > 0 || werr != nil && !errors.Is(werr, unix.EINTR)
	})
	if err != nil {
		return nil, fmt.Errorf("wait for news of processes: %w", err)
	}
	if werr != nil {
		return nil, os.NewSyscallError("epoll_wait", werr)
	}
	p.news = p.news[:0]
	for _, e := range p.raw[:n] {
		p.news = append(p.news, news{fd: int(e.Fd), pid: int(e.Pad)})
	}
	return p.news, nil
}
