package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is where systemd listens for the helper.
const Socket = "/run/nfguard-helper/socket"

// ErrAbsent says that nobody listens on the helper's socket.
var ErrAbsent = errors.New("nfguard-helper.socket is not there")

// Client sends requests to the helper. Its methods are safe for concurrent use.
type Client struct {
	// Path is the helper's socket; "" means [Socket].
	Path string

	// Timeout limits each of the two waits: until the work begins, and until it
	// ends. 0 means beginTime and workTime.
	Timeout time.Duration

	absent atomic.Bool // at the last request
}

func (c *Client) path() string {
	if c.Path == "" {
		return Socket
	}
	return c.Path
}

// There reports whether the socket exists and, if there was a request before,
// whether anybody listened then.
func (c *Client) There() bool {
	info, err := os.Stat(c.path())
	return err == nil && info.Mode().Type() == fs.ModeSocket && !c.absent.Load()
}

// Ask has a request carried out, and waits until it is done. It decodes what the
// helper says about the files into facts, unless that is nil. The error is ErrAbsent
// if there is no helper. Errors of the helper have a method Next with the next step.
func (c *Client) Ask(ctx context.Context, r Request, facts any) (files []*os.File, err error) {
	text, files, err := c.ask(ctx, r)
	absent := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
	c.absent.Store(absent)
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return nil, err
	case absent:
		return nil, fmt.Errorf("%s: %w", c.path(), ErrAbsent)
	case errors.Is(err, io.EOF):
		return nil, &refusedError{"nfguard-helper.service ended without an answer", "see journalctl -u nfguard-helper", false}
	case err != nil:
		return nil, fmt.Errorf("ask nfguard-helper.service to %s: %w", r, err)
	}
	if facts != nil {
		if err := json.Unmarshal(text, facts); err != nil {
			closeAll(files)
			return nil, fmt.Errorf("read the answer of nfguard-helper.service: %w", err)
		}
	}
	return files, nil
}

func (c *Client) ask(ctx context.Context, r Request) (facts []byte, files []*os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "helper")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		unix.Close(pair[1])
		return nil, nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(c.wait(beginTime), func() {
		cancel(&refusedError{"nfguard-helper.service does not answer", "see systemctl status nfguard-helper.service", true})
	})
	defer late.Stop()
	err = c.send(ctx, r, pair[1])
	unix.Close(pair[1]) // so that the wait ends if the helper does
	if err != nil {
		return nil, nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	facts, files, err = answered(conn.(*net.UnixConn))
	if errors.Is(err, errBegun) && late.Stop() {
		late := time.AfterFunc(c.wait(workTime+time.Second), func() {
			cancel(&refusedError{"nfguard-helper.service has begun to " + string(r) + ", and does not end", "see systemctl status nfguard-helper.service", true})
		})
		defer late.Stop()
		facts, files, err = answered(conn.(*net.UnixConn))
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return facts, files, err
}

func (c *Client) wait(limit time.Duration) time.Duration {
	if c.Timeout != 0 {
		return c.Timeout
	}
	return limit
}

// answered reads one answer.
func answered(conn *net.UnixConn) (facts []byte, files []*os.File, err error) {
	b, files, err := receive(conn, maxAnswer, maxFiles)
	if err == nil && len(b) == 0 {
		err = io.EOF
	}
	if err == nil {
		facts, err = decode(b)
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return facts, files, nil
}

// send puts a request into the helper's queue, with the socket for the answer.
func (c *Client) send(ctx context.Context, r Request, answer int) error {
	text, err := json.Marshal(message{version, r})
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for {
		err := unix.Sendmsg(fd, text, unix.UnixRights(answer), &unix.SockaddrUnix{Name: c.path()}, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendmsg", err)
		}
		select {
		case <-time.After(20 * time.Millisecond): // its queue is full
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
