package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// arp sees and sends ARP on a pod's device, whatever addresses that has.
type arp struct {
	file *os.File
	own  net.HardwareAddr
}

func (p *Pod) openARP() (*arp, error) {
	a := &arp{}
	err := p.do(func() error {
		link, err := netlink.LinkByName(podDevice)
		if err != nil {
			return err
		}
		a.own = link.Attrs().HardwareAddr
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(networkOrder(unix.ETH_P_ARP)))
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		a.file = os.NewFile(uintptr(fd), "arp")
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{
			Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: link.Attrs().Index,
		}))
	})
	if err != nil {
		a.close()
		return nil, fmt.Errorf("listen to ARP: %w", err)
	}
	return a, nil
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

func (a *arp) close() {
	if a.file != nil {
		a.file.Close()
	}
}

// probe asks n times who has an address, and listens for gap after each
// question (RFC 5227, whose seconds are for networks beyond one machine). It
// returns the hardware address of an owner, or nil if nobody answers.
func (a *arp) probe(ctx context.Context, addr netip.Addr, n int, gap time.Duration) (net.HardwareAddr, error) {
	conn, err := a.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	question := arpProbe(a.own, addr)
	buf := make([]byte, 256)
	for range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := a.file.Write(question); err != nil && !errors.Is(err, unix.ENETDOWN) { // not up yet
			return nil, fmt.Errorf("probe for %s: %w", addr, err)
		}
		if err := a.file.SetReadDeadline(time.Now().Add(gap)); err != nil {
			return nil, err
		}
		for {
			size, rerr := 0, error(nil)
			err := conn.Read(func(fd uintptr) bool {
				size, rerr = unix.Read(int(fd), buf)
				return !errors.Is(rerr, unix.EAGAIN)
			})
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(rerr, unix.ENETDOWN) {
				break
			}
			if err := errors.Join(err, rerr); err != nil {
				return nil, fmt.Errorf("probe for %s: %w", addr, err)
			}
			if owner := claims(buf[:size], addr); owner != nil && !bytes.Equal(owner, a.own) {
				return owner, nil
			}
		}
	}
	return nil, nil
}

// announce says whose the address is now (RFC 5227, section 2.3): pods that
// knew an earlier owner would send to it for some more seconds.
func (a *arp) announce(addr netip.Addr) error {
	b := arpProbe(a.own, addr)
	copy(b[frameSource:], addr.AsSlice())
	if _, err := a.file.Write(b); err != nil {
		return fmt.Errorf("announce %s: %w", addr, err)
	}
	return nil
}

// Offsets in an Ethernet frame with ARP for IPv4 (RFC 826).
const (
	frameOp     = 20
	frameSender = 22 // its hardware address
	frameSource = 28 // its address
	frameTarget = 38 // the address that is asked for
	frameSize   = 42
)

// arpProbe is a question for addr that tells no address of its own.
func arpProbe(own net.HardwareAddr, addr netip.Addr) []byte {
	b := make([]byte, frameSize)
	copy(b, "\xff\xff\xff\xff\xff\xff")
	copy(b[6:], own)
	copy(b[12:], "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01") // ARP: Ethernet, IPv4, a request
	copy(b[frameSender:], own)
	copy(b[frameTarget:], addr.AsSlice())
	return b
}

// claims returns who says in a frame that addr is its own, or is about to find
// out whether it can be; nil if nobody does.
func claims(b []byte, addr netip.Addr) net.HardwareAddr {
	if len(b) < frameSize || !bytes.Equal(b[12:frameOp], []byte("\x08\x06\x00\x01\x08\x00\x06\x04")) {
		return nil
	}
	source, target := netip.AddrFrom4([4]byte(b[frameSource:])), netip.AddrFrom4([4]byte(b[frameTarget:]))
	request := binary.BigEndian.Uint16(b[frameOp:]) == 1
	if source == addr || request && source.IsUnspecified() && target == addr {
		return bytes.Clone(b[frameSender : frameSender+6])
	}
	return nil
}
