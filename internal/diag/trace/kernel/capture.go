package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Packets are those of one connection, as they came by at each device of this
// network namespace.
type Packets struct {
	list []packet
	more bool // there was no room for all
}

// packet is one at one device.
type packet struct {
	at     time.Time
	from   unix.SockaddrLinklayer
	bytes  []byte // from the header of IP on
	length int    // of all of it
}

// Bounds of what is kept.
const (
	mostKept  = 64 << 20 // bytes
	maxPacket = 1 << 16

	mostAddresses = 64 // a jump in the filter goes 255 instructions far
)

// capture is the socket that they come from.
type capture struct {
	file  *os.File
	into  *Packets
	query trace.Query
	some  []netip.Addr
	size  int
	wait  sync.WaitGroup
	once  sync.Once
}

func startCapture(into *Packets, q trace.Query) (*capture, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // of no protocol until it is bound
	if err != nil {
		return nil, fmt.Errorf("capture packets: %w", err)
	}
	c := &capture{file: os.NewFile(uintptr(fd), "packets"), into: into, query: q, some: []netip.Addr{q.Client, q.Server}}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // with less it works, too
	err = c.filter()
	if err == nil {
		protocol := uint16(unix.ETH_P_ALL)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8})
	}
	if err != nil {
		c.file.Close()
		return nil, fmt.Errorf("capture packets: %w", err)
	}
	c.wait.Go(c.read)
	return c, nil
}

// add keeps packets from and to another address.
func (c *capture) add(a netip.Addr) error {
	if len(c.some) == mostAddresses {
		return nil // of the endpoints after that, only what the client sees is kept
	}
	c.some = append(c.some, a)
	return c.filter()
}

// filter has the kernel leave out what is from and to others: a comparison of
// the last four bytes of the addresses, and of the family. What passes is looked
// at more closely at the end.
func (c *capture) filter() error {
	source, destination, protocol := uint32(12), uint32(16), uint32(unix.ETH_P_IP)
	if c.query.Client.Is6() {
		source, destination, protocol = 20, 36, unix.ETH_P_IPV6
	}
	n := len(c.some)
	const adProtocol = 0xfffff000 // SKF_AD_OFF + SKF_AD_PROTOCOL
	program := []unix.SockFilter{
		rtnl.Stmt(unix.BPF_LD|unix.BPF_H|unix.BPF_ABS, adProtocol),
		rtnl.Equal(protocol, 0, uint8(2*n+2)),
	}
	for i, offset := range []uint32{source, destination} {
		program = append(program, rtnl.Stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset))
		for j, a := range c.some {
			b := a.AsSlice()
			behind := (1-i)*(n+1) + n - 1 - j // instructions until the one that refuses
			program = append(program, rtnl.Equal(binary.BigEndian.Uint32(b[len(b)-4:]), uint8(behind+1), 0))
		}
	}
	program = append(program, rtnl.Stmt(unix.BPF_RET|unix.BPF_K, 0), rtnl.Stmt(unix.BPF_RET|unix.BPF_K, maxPacket))
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	return errors.Join(err, failed)
}

func (c *capture) read() {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	b := make([]byte, maxPacket)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), b, unix.MSG_TRUNC)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil { // it is closed
			return
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if failed != nil || !ok {
			continue // a device that goes down
		}
		kept := min(n, len(b))
		if c.size+kept > mostKept {
			c.into.more = true
			continue
		}
		c.size += kept
		c.into.list = append(c.into.list, packet{at: time.Now(), from: *link, bytes: bytes.Clone(b[:kept]), length: n})
	}
}

func (c *capture) close() {
	c.once.Do(func() {
		c.file.Close()
		c.wait.Wait()
	})
}

// Truncated reports whether there was no room for all packets.
func (p *Packets) Truncated() bool { return p.more }

// PCAP is the packets of a path in the format of tcpdump(8), with link type
// LINUX_SLL2, in which each packet has the index of its device. They are those of
// the connection, and the errors of ICMP about it.
func (p *Packets) PCAP(w *trace.Path) []byte {
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint32(b, 0xa1b23c4d) // the magic number of a file with nanoseconds
	b = le.AppendUint16(b, 2)          // the version, 2.4
	b = le.AppendUint16(b, 4)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, maxPacket)
	b = le.AppendUint32(b, 276) // LINKTYPE_LINUX_SLL2
	for i := range p.list {
		one := &p.list[i]
		if !isOf(w, one.bytes) {
			continue
		}
		b = le.AppendUint32(b, uint32(one.at.Unix()))
		b = le.AppendUint32(b, uint32(one.at.Nanosecond()))
		b = le.AppendUint32(b, uint32(sll2+len(one.bytes)))
		b = le.AppendUint32(b, uint32(sll2+one.length))
		b = binary.NativeEndian.AppendUint16(b, one.from.Protocol) // it is in network order already
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(one.from.Ifindex))
		b = binary.BigEndian.AppendUint16(b, one.from.Hatype)
		b = append(b, one.from.Pkttype, one.from.Halen)
		b = append(b, one.from.Addr[:]...)
		b = append(b, one.bytes...)
	}
	return b
}

// sll2 is the length of its header.
const sll2 = 20

// isOf reports whether a packet belongs to the connection.
func isOf(w *trace.Path, b []byte) bool {
	h, rest := split(b)
	if h == nil {
		return false
	}
	if w.Of(h) != "" {
		return true
	}
	if !h.Protocol.Echo() || len(rest) < 8 {
		return false
	}
	about, _ := split(rest[8:])
	return about != nil && w.Of(about) != ""
}

// split reads the headers of a packet, and what is behind that of IP.
func split(b []byte) (*trace.Headers, []byte) {
	if len(b) < 20 {
		return nil, nil
	}
	length := 40
	if b[0]>>4 == 4 {
		length = int(b[0]&0xf) * 4
	}
	if length < 20 || len(b) < length+8 {
		return nil, nil
	}
	transport := b[length:]
	// What is in an error of ICMP may have only eight bytes of it.
	padded := append(bytes.Clone(transport[:min(len(transport), 20)]), make([]byte, 12)...)
	return headers(nil, b[:length], padded[:20]), transport
}
