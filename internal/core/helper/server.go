package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Work carries out a request. It returns the files to send, which are closed after
// that, and facts about them, or nil.
type Work func(ctx context.Context, r Request) (facts any, files []*os.File, err error)

// Options say how requests are served.
type Options struct {
	Work Work

	// Idle is how long to wait for the next request.
	Idle time.Duration

	// Busy reports whether some work goes on after its request has ended. Nil: it
	// never does.
	Busy func() bool

	// Refused is called with the reason why a datagram was dropped, at most once a
	// minute. It must not block. It can be nil.
	Refused func(error)
}

const (
	// atOnce is how many requests are handled at a time: one of each kind, since a
	// second one of the same kind is refused, and some that are being refused.
	atOnce = 8
)

// Serve answers requests on socket, a datagram socket of the family AF_UNIX, until
// ctx ends or there was no request for the time o.Idle. Before it returns, it waits
// for the requests that it has begun. It closes socket.
func Serve(ctx context.Context, socket *os.File, o Options) error {
	c, err := net.FilePacketConn(socket)
	socket.Close()
	if err != nil {
		return fmt.Errorf("take over the socket: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return errors.New("take over the socket: it is not of the family AF_UNIX")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()

	s := &server{o: o, slots: make(chan struct{}, atOnce), working: make(map[Request]bool)}
	defer s.requests.Wait()
	for {
		if err := conn.SetReadDeadline(time.Now().Add(o.Idle)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		data, files, err := receive(conn, maxRequest, 1)
		switch {
		case ctx.Err() != nil:
			closeAll(files)
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.idle() {
				return nil
			}
		case errors.Is(err, errTooMuch):
			s.refuse(err)
		case err != nil:
			return fmt.Errorf("receive a request: %w", err)
		default:
			s.slots <- struct{}{} // other requests wait in the socket
			s.requests.Go(func() {
				defer func() { <-s.slots }()
				s.serve(ctx, data, files)
			})
		}
	}
}

// server is what the requests share.
type server struct {
	o        Options
	slots    chan struct{}
	requests sync.WaitGroup

	mu      sync.Mutex
	working map[Request]bool
	said    time.Time
}

func (s *server) idle() bool { return len(s.slots) == 0 && (s.o.Busy == nil || !s.o.Busy()) }

func (s *server) refuse(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Refused == nil || time.Since(s.said) < time.Minute {
		return
	}
	s.said = time.Now()
	s.o.Refused(why)
}

// serve answers one datagram.
func (s *server) serve(ctx context.Context, data []byte, files []*os.File) {
	defer closeAll(files)
	if err := replyable(files); err != nil {
		s.refuse(err)
		return
	}
	r, err := parse(data)
	if err != nil {
		s.refuse(err)
		_ = reply(files[0], encode(nil, err), nil)
		return
	}
	if !s.begin(r) {
		_ = reply(files[0], encode(nil, errors.New("another request to "+string(r)+" is being worked on")), nil)
		return
	}
	_ = reply(files[0], begun(), nil)
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	facts, out, err := s.o.Work(ctx, r)
	s.end(r) // before the reply, because the client can then ask again at once
	defer closeAll(out)
	if err != nil {
		out = nil
	}
	// The client may be gone. That does not matter: the files that it would have
	// got are closed, and so the work is undone.
	_ = reply(files[0], encode(facts, err), out)
}

func (s *server) begin(r Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working[r] {
		return false
	}
	s.working[r] = true
	return true
}

func (s *server) end(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.working, r)
}

// replyable returns an error unless files are one end of a pair of sockets that a
// process of root has made, as clients do.
func replyable(files []*os.File) error {
	if len(files) != 1 {
		return fmt.Errorf("%d descriptors came with the request, want 1", len(files))
	}
	fd := int(files[0].Fd())
	for option, want := range map[int]int{
		unix.SO_DOMAIN: unix.AF_UNIX, unix.SO_TYPE: unix.SOCK_SEQPACKET, unix.SO_ACCEPTCONN: 0,
	} {
		have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil || have != want {
			return errors.New("the descriptor that came with the request is not a socket for the answer")
		}
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if peer.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("uid %d is not allowed to send requests", peer.Uid)
	}
	return nil
}

// reply sends one packet. It never blocks: the socket has room for both packets of
// an answer.
func reply(to *os.File, b []byte, files []*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return os.NewSyscallError("sendmsg", unix.Sendmsg(int(to.Fd()), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
}

// errTooMuch says that a message is longer, or has more descriptors, than any valid
// one.
var errTooMuch = errors.New("a message is too long, or has too many descriptors")

// receive reads one message of up to size bytes with up to n descriptors.
func receive(conn *net.UnixConn, size, n int) ([]byte, []*os.File, error) {
	b, oob := make([]byte, size+1), make([]byte, unix.CmsgSpace(4*n))
	got, rights, flags, _, err := conn.ReadMsgUnix(b, oob)
	files := rightsOf(oob[:max(rights, 0)])
	if err == nil && (got > size || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0) {
		err = errTooMuch
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return b[:got], files, nil
}

// rightsOf returns the descriptors in control messages.
func rightsOf(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // another type of control message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
