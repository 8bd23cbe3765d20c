package exec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/proc"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

var connector = way{name: "proc connector", short: "proc connector", open: openConnector}

// From include/uapi/linux/connector.h and cn_proc.h.
const (
	procIndex  = 1 // CN_IDX_PROC, CN_VAL_PROC, and the multicast group
	opListen   = 1 // PROC_CN_MCAST_LISTEN
	opIgnore   = 2 // PROC_CN_MCAST_IGNORE
	eventReply = 0 // PROC_EVENT_NONE: the answer to either
	eventExec  = 2 // PROC_EVENT_EXEC

	ackAt     = unix.NLMSG_HDRLEN + 12 // in struct cn_msg
	eventAt   = unix.NLMSG_HDRLEN + 20 // struct proc_event, which says what it is
	payloadAt = eventAt + 16           // its event_data
	tgidAt    = payloadAt + 4          // of an exec, after the thread's own number
	eventEnd  = tgidAt + 4             // as much of a message as is read
)

// receiveBuffer holds some five thousand starts: two seconds of a machine
// that does nothing else. It is a limit, memory is taken only by messages.
const receiveBuffer = 4 << 20

// atOnce is how many messages are read before the poller, and with it the
// end of the context, has its turn.
const atOnce = 64

// listener is a subscription to the proc connector: the kernel tells of every
// exec of the machine, whose owner and name are looked up in /proc. Forks and
// exits are refused by a filter.
type listener struct {
	socket    int
	listening bool // the kernel may count us
	names     []string
	buf       [eventEnd]byte
}

func openConnector(names []string) (feed, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	l := &listener{socket: fd, names: names}
	if err := l.listen(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *listener) listen() error {
	if unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// Some buffer there is: a small one loses news sooner, and says so.
		_ = unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	filter := filter()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(l.socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return os.NewSyscallError("attach filter", err)
	}
	addr := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (procIndex - 1)}
	if err := unix.Bind(l.socket, addr); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := l.send(opListen); err != nil {
		return err
	}
	l.listening = true
	// The kernel has answered before send returned, or never will: it is
	// silent outside of the initial PID and user namespaces, and also without
	// CAP_NET_ADMIN where nobody else listens (cn_proc_mcast_ctl and
	// cn_proc_ack in drivers/connector/cn_proc.c).
	for {
		ok, err := l.receive()
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("the kernel does not answer: %w", errors.ErrUnsupported)
		case l.word(eventAt) != eventReply || l.word(ackAt) != l.ticket()+1:
			continue // an exec, which the scan will find, or another's answer
		case l.word(payloadAt) != 0:
			return unix.Errno(l.word(payloadAt))
		}
		return nil
	}
}

// filter passes execs and answers. What the kernel writes in its own byte
// order, a filter loads as big-endian.
func filter() []unix.SockFilter {
	swapped := func(v uint32) uint32 {
		return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, v))
	}
	return []unix.SockFilter{
		rtnl.Stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, eventAt),
		rtnl.Equal(swapped(eventExec), 1, 0),
		rtnl.Equal(swapped(eventReply), 0, 1),
		rtnl.Stmt(unix.BPF_RET|unix.BPF_K, rtnl.Pass),
		rtnl.Stmt(unix.BPF_RET|unix.BPF_K, rtnl.Drop),
	}
}

// ticket tells the answer to us, which has the next number, from the answers
// to others.
func (l *listener) ticket() uint32 { return uint32(os.Getpid())<<8 | uint32(l.socket)&0xff }

// send asks the kernel to begin or to end telling.
func (l *listener) send(op uint32) error {
	var b []byte
	u32 := func(v uint32) { b = binary.NativeEndian.AppendUint32(b, v) }
	u16 := func(v uint16) { b = binary.NativeEndian.AppendUint16(b, v) }
	u32(eventAt + 4) // struct nlmsghdr
	u16(unix.NLMSG_DONE)
	u16(0)
	u32(0)
	u32(0)
	u32(procIndex) // struct cn_msg
	u32(procIndex)
	u32(0)
	u32(l.ticket())
	u16(4)
	u16(0)
	u32(op)
	return os.NewSyscallError("send", unix.Sendto(l.socket, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

func (l *listener) word(at int) uint32 { return binary.NativeEndian.Uint32(l.buf[at:]) }

// receive reads the next message of the kernel; false means that there is
// none now.
func (l *listener) receive() (bool, error) {
	for {
		n, from, err := unix.Recvfrom(l.socket, l.buf[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			return false, errLost
		case err != nil:
			return false, os.NewSyscallError("recvfrom", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 && n == len(l.buf) {
			return true, nil
		}
	}
}

func (l *listener) fd() int { return l.socket }

func (l *listener) read(started func(pid int, comm string)) (n int, err error) {
	for range atOnce {
		ok, err := l.receive()
		if err != nil || !ok {
			return n, err
		}
		if l.word(eventAt) != eventExec {
			continue
		}
		n++
		pid := int(l.word(tgidAt))
		if !proc.OwnedByRoot(pid) { // which most are not, and takes a third of the time of its name
			continue
		}
		if comm := proc.ReadComm(pid); slices.Contains(l.names, comm) {
			started(pid, comm)
		}
	}
	return n, nil
}

// close also says that we do not listen any more: before Linux 6.6 the kernel
// only counts who does, and would go on to make up messages for nobody. For
// the same reason it is said only after we began to.
func (l *listener) close() {
	if l.listening {
		_ = l.send(opIgnore)
	}
	unix.Close(l.socket)
}
