package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxUDP is the size of the room for a reply: more than any asked without EDNS
// may have.
const maxUDP = 4096

// ask puts one question to one server from a port of its own, and waits for
// the reply at most for timeout, and as long again over TCP where that was
// truncated.
func ask(ctx context.Context, ns Namespace, server netip.AddrPort, name string, timeout time.Duration) Ask {
	a := Ask{Server: server, Name: name}
	q, err := newQuery(name, server.Addr().Is6())
	if err != nil {
		return a.ended(Unsent, err)
	}
	a = overUDP(ctx, ns, a, q, timeout)
	if a.Outcome != Truncated {
		return a
	}
	a.TCP = true
	began := time.Now()
	r, err := overTCP(ctx, ns, server, q, timeout)
	if err != nil {
		return a.ended(Truncated, err)
	}
	return a.replied(Answered, r, server, began)
}

// ended is the ask with an outcome that is no reply.
func (a Ask) ended(o Outcome, err error) Ask {
	a.Outcome, a.Detail = o, err.Error()
	if number := unix.Errno(0); errors.As(err, &number) {
		a.Detail = number.Error()
	}
	return a
}

// replied is the ask with a reply.
func (a Ask) replied(o Outcome, r reply, from netip.AddrPort, began time.Time) Ask {
	a.Outcome, a.Rcode, a.Answers, a.Source = o, r.rcode, r.answers, from
	a.Usec = max(1, time.Since(began).Microseconds())
	return a
}

// overUDP asks from a socket that is not connected: a connected one, such as a
// libc's, would never see a reply of another source.
func overUDP(ctx context.Context, ns Namespace, a Ask, q *query, timeout time.Duration) Ask {
	network := "udp4"
	if a.Server.Addr().Is6() {
		network = "udp6"
	}
	socket, err := ns.ListenPacket(ctx, network, ":0")
	if err != nil {
		return a.ended(Unsent, err)
	}
	c, ok := socket.(*net.UDPConn)
	if !ok {
		_ = socket.Close() // nothing was written
		return a.ended(Unsent, fmt.Errorf("a socket of type %T", socket))
	}
	defer c.Close()
	if err := wantErrors(c, network); err != nil {
		return a.ended(Unsent, err)
	}
	began := time.Now()
	deadline := began.Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetReadDeadline(deadline) // a UDP socket has deadlines
	if _, err := c.WriteToUDPAddrPort(q.packed, a.Server); err != nil {
		// A REJECT in OUTPUT, as kube-proxy writes it for a Service without
		// endpoints, is EPERM here; that it is no DROP tells the next error.
		if errors.Is(err, unix.EPERM) && errors.Is(pending(c), unix.ECONNREFUSED) {
			return a.ended(Refused, unix.ECONNREFUSED)
		}
		return a.ended(Unsent, err)
	}
	packet := make([]byte, maxUDP)
	for {
		n, from, err := c.ReadFromUDPAddrPort(packet)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(ctx.Err(), context.DeadlineExceeded):
			return a.ended(Timeout, errors.New("no reply within "+timeout.String()))
		case errors.Is(err, unix.ECONNREFUSED):
			return a.ended(Refused, unix.ECONNREFUSED)
		case errors.Is(err, net.ErrClosed): // ctx ended
			return a.ended(Unsent, context.Cause(ctx))
		case err != nil:
			return a.ended(Unreachable, err)
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		r, err := q.read(packet[:n])
		switch {
		case errors.Is(err, errNotOurs), err != nil && from != a.Server:
			continue
		case err != nil:
			return a.ended(Malformed, err)
		case from != a.Server:
			return a.replied(WrongSource, r, from, began)
		case r.truncated:
			return a.replied(Truncated, r, from, began)
		}
		return a.replied(Answered, r, from, began)
	}
}

// wantErrors has the kernel hand out ICMP errors: to a socket that is not
// connected it does so only on request; see IP_RECVERR in ip(7).
func wantErrors(c *net.UDPConn, network string) error {
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if network == "udp6" {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	return control(c, func(fd int) error { return unix.SetsockoptInt(fd, level, option, 1) })
}

// pending is the error that waits on a socket, or nil.
func pending(c *net.UDPConn) error {
	return control(c, func(fd int) error {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || n == 0 {
			return err
		}
		return unix.Errno(n)
	})
}

func control(c *net.UDPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func overTCP(ctx context.Context, ns Namespace, server netip.AddrPort, q *query, timeout time.Duration) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := ns.Dial(ctx, "tcp", server.String())
	if err != nil {
		return reply{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	packet := append(binary.BigEndian.AppendUint16(nil, uint16(len(q.packed))), q.packed...)
	if _, err := c.Write(packet); err != nil {
		return reply{}, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return reply{}, err
	}
	packet = make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, packet); err != nil {
		return reply{}, err
	}
	r, err := q.read(packet)
	if err == nil && r.truncated {
		err = errors.New("truncated over TCP, too")
	}
	return r, err
}
