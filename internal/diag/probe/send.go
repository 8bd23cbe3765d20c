package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// datagram is what is asked by UDP, and how often it is sent until an answer
// comes.
type datagram struct {
	payload []byte
	every   time.Duration
}

// ask asks to from inside the pod, until ctx ends. Of TCP it is the handshake
// that counts.
func (p *Pod) ask(ctx context.Context, proto Protocol, to netip.AddrPort, d datagram) Answer {
	began := time.Now()
	var a Answer
	var err error
	if proto == UDP {
		a, err = p.askUDP(ctx, to, d)
	} else {
		a, err = p.askTCP(ctx, to)
	}
	a.Took = time.Since(began)
	switch {
	case a.Outcome != "":
	case errors.Is(err, unix.ECONNREFUSED):
		a.Outcome = Refused
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		a.Outcome = TimedOut
	default:
		a.Outcome, a.Error = Failed, err.Error()
	}
	return a
}

// askUDP sends from a socket that is not connected, which sees an answer from
// anywhere; a connected one would see nothing of a wrong one.
func (p *Pod) askUDP(ctx context.Context, to netip.AddrPort, d datagram) (Answer, error) {
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
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(past) })()
	buf := make([]byte, 4096)
	var unsent error
	for ctx.Err() == nil {
		if _, unsent = conn.WriteToUDPAddrPort(d.payload, to); unsent != nil && !passing(unsent) {
			return Answer{}, unsent
		}
		_ = conn.SetReadDeadline(time.Now().Add(d.every)) // ctx's, when it ends meanwhile, is looked at next
		_, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			return judged(unmapped(from), to), nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return Answer{}, err
		}
	}
	return Answer{}, unsent
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
