package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// askTCP connects, and watches by a raw socket who replies: a SYN-ACK from
// another address belongs to no connection, so no other socket shows it.
func (p *Pod) askTCP(ctx context.Context, to netip.AddrPort) (Answer, error) {
	var raw, conn *os.File
	var port uint16
	err := p.do(func() (err error) {
		if raw, err = openSocket(to.Addr(), unix.SOCK_RAW); err != nil {
			return err
		}
		if conn, err = openSocket(to.Addr(), unix.SOCK_STREAM); err != nil {
			return err
		}
		port, err = bind(conn, to.Addr())
		return err
	})
	for _, f := range []*os.File{raw, conn} {
		if f != nil {
			defer f.Close()
		}
	}
	if err != nil {
		return Answer{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })()
	var wrong netip.AddrPort
	var watching sync.WaitGroup
	watching.Go(func() {
		if wrong = watch(raw, to, port); wrong.IsValid() {
			_ = conn.SetDeadline(past)
		}
	})
	err = connect(conn, to)
	_ = raw.SetDeadline(past)
	watching.Wait()
	switch {
	case err == nil, errors.Is(err, unix.ECONNRESET): // by who had taken it
		return judged(to, to), nil // by TCP's own rules
	case wrong.IsValid():
		return judged(wrong, to), nil
	}
	return Answer{}, err
}

// openSocket opens a socket for TCP in the thread's namespace, where it stays.
// A raw one gets a copy of each segment that comes there.
func openSocket(family netip.Addr, kind int) (*os.File, error) {
	domain := unix.AF_INET6
	if family.Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return os.NewFile(uintptr(fd), "TCP"), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// bind gives a socket a port that the kernel chooses, and returns it.
func bind(f *os.File, family netip.Addr) (port uint16, err error) {
	wildcard := netip.IPv6Unspecified()
	if family.Is4() {
		wildcard = netip.IPv4Unspecified()
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Control(func(fd uintptr) {
		if err = unix.Bind(int(fd), sockaddr(netip.AddrPortFrom(wildcard, 0))); err != nil {
			return
		}
		var own unix.Sockaddr
		own, err = unix.Getsockname(int(fd))
		switch own := own.(type) {
		case *unix.SockaddrInet4:
			port = uint16(own.Port)
		case *unix.SockaddrInet6:
			port = uint16(own.Port)
		}
	})
	return port, errors.Join(cerr, os.NewSyscallError("bind", err))
}

// connect returns when the handshake is done or has failed, or, with
// os.ErrDeadlineExceeded, when the socket's deadline has passed. No thread waits
// in the pod for it.
func connect(f *os.File, to netip.AddrPort) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	begun := false
	var cerr error
	err = conn.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			cerr = unix.Connect(int(fd), sockaddr(to))
			return !errors.Is(cerr, unix.EINPROGRESS)
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			cerr = err
		case code != 0:
			cerr = unix.Errno(code)
		default: // connected, or woken up for nothing: golang.org/issue/14548
			_, cerr = unix.Getpeername(int(fd))
			return cerr == nil
		}
		return true
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("connect", cerr)
}

// Dial connects from inside the pod by TCP, the only network that it knows. The
// address has to be an IP with a port: names are resolved outside.
func (p *Pod) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, net.UnknownNetworkError(network)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	var f *os.File
	if err := p.do(func() (err error) { f, err = openSocket(to.Addr(), unix.SOCK_STREAM); return err }); err != nil {
		return nil, err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(past) })
	err = connect(f, to)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// watch returns the first source of a SYN-ACK or a reset for port that is not
// to, or none when the socket's deadline has passed.
func watch(raw *os.File, to netip.AddrPort, port uint16) (wrong netip.AddrPort) {
	conn, err := raw.SyscallConn()
	if err != nil {
		return netip.AddrPort{}
	}
	buf := make([]byte, 4096)
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err != nil || rerr != nil {
			return netip.AddrPort{}
		}
		source, ok := reply(buf[:n], from, port)
		if ok && source != to {
			return source
		}
	}
}

// reply reads a segment from a raw socket, which over IPv4 begins with the IP
// header. It returns the source if the segment is a SYN-ACK or a reset to port.
func reply(b []byte, from unix.Sockaddr, port uint16) (netip.AddrPort, bool) {
	var source netip.Addr
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		source = netip.AddrFrom4(from.Addr)
		if len(b) < 20 || len(b) < int(b[0]&0xf)*4 {
			return netip.AddrPort{}, false
		}
		b = b[int(b[0]&0xf)*4:]
	case *unix.SockaddrInet6:
		source = netip.AddrFrom16(from.Addr)
	}
	const syn, rst, ack = 0x02, 0x04, 0x10
	if len(b) < 14 || binary.BigEndian.Uint16(b[2:]) != port || b[13]&(syn|ack) != syn|ack && b[13]&rst == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(source, binary.BigEndian.Uint16(b)), true
}
