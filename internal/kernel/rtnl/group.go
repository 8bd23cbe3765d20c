package rtnl

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a membership of a netlink multicast group that hears the kernel
// only. It is for one goroutine, and keeps none of its own.
type Group struct {
	file *os.File
}

// Join joins a multicast group (1 to 32) of a netlink protocol in the network
// namespace of the calling thread, for good: the thread may move on. The
// filter is in force before the first message; a nil filter passes all. A
// buffer of that many bytes (0: the system's default) holds what has not been
// received yet; it is a limit, memory is taken only by messages, and those
// that the filter refuses never count.
func Join(protocol, group int, filter []unix.SockFilter, buffer int) (*Group, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := join(fd, group, filter, buffer); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("join group %d of netlink protocol %d: %w", group, protocol, err)
	}
	return &Group{file: os.NewFile(uintptr(fd), "netlink")}, nil
}

// Dial returns a socket of a netlink protocol in the network namespace of the
// calling thread, for questions, which are sent by write(2). The kernel answers
// within that (netlink_unicast_kernel in net/netlink/af_netlink.c): what there is
// to receive is there, for [Answer], and nothing waits. It is not connected, for
// the sandbox of the daemon forbids connect(2).
func Dial(protocol int) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// Answer reads the next datagram of the kernel from a socket of [Dial], as much
// of it as fits into b, and drops those of other senders. It does not wait:
// unix.EAGAIN says that there is none.
func Answer(fd int, b []byte) (int, error) {
	for {
		n, from, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if sender, ok := from.(*unix.SockaddrNetlink); err != nil || ok && sender.Pid == 0 {
			return n, err
		}
	}
}

// Open is [Join] for a socket that is in no group: it hears what the kernel
// sends to it alone, because it was asked to by [Group.Send].
func Open(protocol, buffer int) (*Group, error) {
	return Join(protocol, 0, nil, buffer)
}

// Send sends a message to the kernel, which answers, if at all, by what
// [Group.Receive] returns.
func (g *Group) Send(b []byte) error {
	_, err := g.file.Write(b)
	return err
}

func join(fd, group int, filter []unix.SockFilter, buffer int) error {
	if buffer > 0 {
		// Without CAP_NET_ADMIN take what net.core.rmem_max allows: a small
		// buffer loses news sooner, and says so.
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
				return os.NewSyscallError("set receive buffer", err)
			}
		}
	}
	if filter != nil {
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
			return os.NewSyscallError("attach filter", err)
		}
	}
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if group > 0 {
		address.Groups = 1 << (group - 1)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, address))
}

// Receive waits for the next datagram from the kernel and copies it to b, as
// much as fits. Datagrams of other senders are dropped. It returns ctx's
// error as soon as ctx ends, after which the group is good for Close only.
//
// An error that is unix.ENOBUFS means that the buffer was full and news was
// lost; the group goes on. The kernel then drops everything, without another
// word, until the buffer has been emptied (NETLINK_S_CONGESTED in
// net/netlink/af_netlink.c): who looks again after the error and after each
// datagram that follows it misses nothing.
func (g *Group) Receive(ctx context.Context, b []byte) (int, error) {
	defer context.AfterFunc(ctx, func() { _ = g.file.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := g.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), b, 0)
			return rerr != unix.EAGAIN
		})
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case err != nil:
			return 0, err
		case rerr != nil:
			return 0, os.NewSyscallError("recvfrom", rerr)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
			return n, nil
		}
	}
}

// Close leaves the group.
func (g *Group) Close() error { return g.file.Close() }
