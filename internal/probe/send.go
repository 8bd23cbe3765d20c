package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ask asks to from inside the pod, until ctx ends. The payload is for UDP; of
// TCP it is the handshake that counts.
func (p *Pod) ask(ctx context.Context, proto Protocol, to netip.AddrPort, payload []byte) Answer {
	began := time.Now()
	var a Answer
	var err error
	if proto == UDP {
		a, err = p.askUDP(ctx, to, payload)
	} else {
		a, err = p.askTCP(ctx, to)
	}
	a.Took = time.Since(began)
	switch {
	case a.Outcome != "":
	case errors.Is(err, unix.ECONNREFUSED):
		a.Outcome = Refused
	case err == nil, ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		a.Outcome = TimedOut
	default:
		a.Outcome, a.Error = Failed, err.Error()
	}
	return a
}

// resend is how often a datagram is sent again. In a world of our own the
// first ones can come before its links are up.
const resend = 20 * time.Millisecond

// askUDP sends from a socket that is not connected, which sees an answer from
// anywhere; a connected one would see nothing of a wrong one.
func (p *Pod) askUDP(ctx context.Context, to netip.AddrPort, payload []byte) (Answer, error) {
	var conn *net.UDPConn
	err := p.do(func() error {
		c, err := (&net.ListenConfig{Control: wantErrors}).ListenPacket(ctx, network("udp", to), ":0")
		if err == nil {
			conn = c.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		if _, err := conn.WriteToUDPAddrPort(payload, to); err != nil && !passing(err) {
			return Answer{}, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(resend)) // ctx's, when it ends meanwhile, is looked at next
		_, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			return judged(unmapped(from), to), nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return Answer{}, err
		}
	}
	return Answer{}, nil
}

// judged is an answer by the source of the reply.
func judged(from, to netip.AddrPort) Answer {
	if from == to {
		return Answer{Outcome: Answered, Source: from}
	}
	return Answer{Outcome: WrongSource, Source: from}
}

// passing reports whether an error is that of a link that is not up yet.
func passing(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// network is "tcp4" or "tcp6", or the same of UDP.
func network(proto string, to netip.AddrPort) string {
	if familyOf(to.Addr()) == IPv4 {
		return proto + "4"
	}
	return proto + "6"
}

// wantErrors has an unconnected socket told of ICMP errors: ip(7), IP_RECVERR.
func wantErrors(network, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		if network == "udp4" {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		}
	})
	return errors.Join(cerr, err)
}

// askTCP connects, and watches by a raw socket who replies: a SYN-ACK from
// another address belongs to no connection, so no other socket shows it.
func (p *Pod) askTCP(ctx context.Context, to netip.AddrPort) (Answer, error) {
	var raw *os.File
	err := p.do(func() (err error) { raw, err = rawTCP(to.Addr()); return err })
	if err != nil {
		return Answer{}, err
	}
	defer raw.Close()
	ctx, cancel := context.WithCancel(ctx)
	var busy sync.WaitGroup
	defer func() {
		cancel()
		_ = raw.SetReadDeadline(time.Unix(1, 0))
		busy.Wait()
	}()

	ports := make(chan uint16, 1)
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return bindAny(c, to.Addr(), ports) }}
	dialed := make(chan error, 1)
	busy.Go(func() {
		dialed <- p.do(func() error {
			conn, err := dialer.DialContext(ctx, network("tcp", to), to.String())
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	})
	wrong := make(chan netip.AddrPort, 1)
	busy.Go(func() {
		select {
		case port := <-ports:
			watch(raw, to, port, wrong)
		case <-ctx.Done():
		}
	})
	select {
	case err := <-dialed:
		if err == nil {
			return judged(to, to), nil // by TCP's own rules
		}
		select {
		case from := <-wrong:
			return judged(from, to), nil
		default:
		}
		return Answer{}, err
	case from := <-wrong:
		return judged(from, to), nil
	}
}

// rawTCP opens a raw socket that gets a copy of each TCP segment that comes to
// the thread's namespace.
func rawTCP(a netip.Addr) (*os.File, error) {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return os.NewFile(uintptr(fd), "raw"), nil
}

// bindAny binds a socket to a port that the kernel chooses, and tells it.
func bindAny(c syscall.RawConn, family netip.Addr, ports chan<- uint16) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		var any unix.Sockaddr = &unix.SockaddrInet6{}
		if family.Is4() {
			any = &unix.SockaddrInet4{}
		}
		if err = unix.Bind(int(fd), any); err != nil {
			err = os.NewSyscallError("bind", err)
			return
		}
		var own unix.Sockaddr
		if own, err = unix.Getsockname(int(fd)); err != nil {
			return
		}
		switch own := own.(type) {
		case *unix.SockaddrInet4:
			ports <- uint16(own.Port)
		case *unix.SockaddrInet6:
			ports <- uint16(own.Port)
		}
	})
	return errors.Join(cerr, err)
}

// watch sends on wrong the first source of a SYN-ACK or a reset for port that
// is not to, until the socket's deadline has passed.
func watch(raw *os.File, to netip.AddrPort, port uint16, wrong chan<- netip.AddrPort) {
	conn, err := raw.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 4096)
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return rerr != unix.EAGAIN
		})
		if err != nil || rerr != nil {
			return
		}
		source, ok := reply(buf[:n], from, port)
		if ok && source != to {
			wrong <- source
			return
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
