package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// CheckSend says what of a query is missing to make the request.
func CheckSend(q trace.Query) error {
	if q.Protocol.Echo() || q.Port != 0 {
		return nil
	}
	return errors.New("a request needs a port, or the protocol icmp")
}

// sender makes the request from the client's network namespace.
type sender struct {
	query trace.Query
	path  string // the file that stands for the namespace; "": the calling thread's
	place trace.Place
	port  uint16 // the client's, once it has sent
}

// newSender finds the network namespace that has the client's address: this one,
// or one that a device of this one leads into.
func (f *follower) newSender(ctx context.Context) (*sender, error) {
	s := &sender{query: f.query}
	if has(ctx, f.query.Client) {
		return s, nil
	}
	if t, ok := f.tenantWith(ctx, f.query.Client); ok {
		s.path, s.place = t.path, f.places[t.inode]
		return s, nil
	}
	return nil, fmt.Errorf("no network namespace that this node's devices lead into has the address %s", f.query.Client)
}

// tenantWith finds the network namespace that has an address among those that a
// device of this one leads into.
func (f *follower) tenantWith(ctx context.Context, a netip.Addr) (tenant, bool) {
	for _, t := range f.tenants {
		var found bool
		if err := within(t.path, func() { found = has(ctx, a) }); err == nil && found {
			return t, true
		}
	}
	return tenant{}, false
}

// has reports whether the calling thread's network namespace has an address.
func has(ctx context.Context, a netip.Addr) bool {
	all, err := rtnl.Addresses(ctx)
	if err != nil {
		return false
	}
	for _, list := range all {
		for _, p := range list {
			if p.Addr() == a {
				return true
			}
		}
	}
	return false
}

// within runs do on a thread in the network namespace that a file stands for. The
// thread ends with it.
func within(path string, do func()) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with do
		err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			do()
		}
		errc <- err
	}()
	return <-errc
}

// send makes the request, and returns how it ended.
func (s *sender) send(ctx context.Context, most time.Duration) *trace.Sent {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	sent := &trace.Sent{From: s.place}
	var failed error
	ask := func() {
		switch {
		case s.query.Protocol.Echo():
			failed = s.echo(ctx)
		case s.query.Protocol == trace.UDP:
			failed = s.datagram(ctx)
		default:
			failed = s.connect(ctx)
		}
	}
	if s.path == "" {
		ask()
	} else if err := within(s.path, ask); err != nil {
		failed = err
	}
	sent.Error, sent.Port = words(failed), s.port
	return sent
}

// words is an error of a socket without what everybody knows.
func words(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// dialer binds to the client's address, and keeps the port that it has got: it is
// not known otherwise where a connection fails.
func (s *sender) dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			var at unix.Sockaddr = &unix.SockaddrInet6{Addr: s.query.Client.As16()}
			if s.query.Client.Is4() {
				at = &unix.SockaddrInet4{Addr: s.query.Client.As4()}
			}
			if failed = unix.Bind(int(fd), at); failed != nil {
				return
			}
			at, failed = unix.Getsockname(int(fd))
			switch at := at.(type) {
			case *unix.SockaddrInet4:
				s.port = uint16(at.Port)
			case *unix.SockaddrInet6:
				s.port = uint16(at.Port)
			}
		})
		return errors.Join(err, failed)
	}}
}

// connect opens a connection, and closes it once it is there.
func (s *sender) connect(ctx context.Context) error {
	d := s.dialer()
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(s.query.Server, s.query.Port).String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// question is what a datagram says: to port 53 it asks for the servers of the
// root, which every DNS server has a word for.
func (s *sender) question() []byte {
	if s.query.Port == 53 {
		return []byte("\x6e\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01")
	}
	return []byte("nfguard trace\n")
}

// datagram sends one and waits for one.
func (s *sender) datagram(ctx context.Context) error {
	return exchange(ctx, s.dialer(), "udp", netip.AddrPortFrom(s.query.Server, s.query.Port).String(), s.question(), func([]byte) bool { return true })
}

// echo sends a ping, and waits for its reply.
func (s *sender) echo(ctx context.Context) error {
	network, kind, reply := "ip4:icmp", byte(8), byte(0)
	if s.query.Client.Is6() {
		network, kind, reply = "ip6:ipv6-icmp", 128, 129
	}
	id := uint16(os.Getpid())
	message := []byte{kind, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}
	message = append(message, "nfguard trace\n"...)
	if s.query.Client.Is4() { // of IPv6 the kernel writes it
		sum := checksum(message)
		message[2], message[3] = byte(sum>>8), byte(sum)
	}
	d := net.Dialer{LocalAddr: &net.IPAddr{IP: s.query.Client.AsSlice()}}
	return exchange(ctx, &d, network, s.query.Server.String(), message, func(b []byte) bool {
		return len(b) >= 8 && b[0] == reply && b[4] == message[4] && b[5] == message[5]
	})
}

// exchange sends once, and reads until something is the answer.
func exchange(ctx context.Context, d *net.Dialer, network, to string, message []byte, answer func([]byte) bool) error {
	conn, err := d.DialContext(ctx, network, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := conn.Write(message); err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		if answer(b[:n]) {
			return nil
		}
	}
}

// checksum is that of IP.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
