package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// attach puts a program at a device that drops what is of IP, and lets others
// pass.
func (w *deathLab) attach(device string, kind ebpf.ProgramType, at ebpf.AttachType, verdict int32) {
	w.t.Helper()
	// Where the protocol is in the context, or none: what an XDP program sees of
	// packets it would have to parse, and ARP is done already.
	code := asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}
	if kind == ebpf.SchedCLS {
		const protocol = 16 // of struct __sk_buff
		code = asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, protocol, asm.Word),
			asm.Mov.Imm(asm.R0, verdict),
			asm.JEq.Imm(asm.R1, 8, "end"), // ETH_P_IP in network order
			asm.Mov.Imm(asm.R0, 0),
			asm.Return().WithSymbol("end"),
		}
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, AttachType: at, Instructions: code, License: "GPL"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { program.Close() })
	w.within(w.Namespace, func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		var l link.Link
		if kind == ebpf.XDP {
			l, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: i.Index, Flags: link.XDPGenericMode})
		} else {
			l, err = link.AttachTCX(link.TCXOptions{Program: program, Interface: i.Index, Attach: at})
		}
		if err == nil {
			w.t.Cleanup(func() { l.Close() })
		}
		return err
	})
}

// fillQueue has a program in the far pod that never accepts, and fills its queue.
func (w *deathLab) fillQueue() {
	w.t.Helper()
	fd := -1
	w.within(w.far, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(fd, &unix.SockaddrInet4{Port: 8082}); err != nil {
			return err
		}
		return unix.Listen(fd, 0)
	})
	w.t.Cleanup(func() { unix.Close(fd) })
	for range 20 { // until the next one is not let in
		var conn net.Conn
		var err error
		w.far.Do(func() { conn, err = net.DialTimeout("tcp", farAddress+":8082", 300*time.Millisecond) })
		if err != nil {
			return
		}
		w.t.Cleanup(func() { conn.Close() })
	}
	w.t.Fatal("the queue is never full")
}

// fillBuffer has a program in the far pod that never reads, and fills its buffer.
func (w *deathLab) fillBuffer() {
	w.t.Helper()
	w.within(w.far, func() error {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 8083})
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { conn.Close() })
		if err := conn.SetReadBuffer(1); err != nil { // the smallest there is
			return err
		}
		out, err := net.Dial("udp4", farAddress+":8083")
		if err != nil {
			return err
		}
		defer out.Close()
		for range 100 {
			if _, err := out.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
		return nil
	})
}

// fillConntrack makes as many connections as there may be: ones that have been
// answered, which the kernel does not give up for new ones. The place of one that
// was there before, and ends, is taken at once.
func (w *deathLab) fillConntrack() {
	w.t.Helper()
	w.service(farAddress + ":8080") // conntrack is at work where somebody translates
	w.within(w.Namespace, func() error {
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
		if err != nil {
			return err
		}
		most, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		fd, err := rtnl.Dial(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { unix.Close(fd) })
		const (
			tupleOrig, tupleReply, status, timeout = 1, 2, 3, 7 // CTA_*
			tupleIP, tupleProto                    = 1, 2
			source, destination                    = 1, 2
			number, from, to                       = 1, 2, 3
			answered                               = 1<<1 | 1<<2 | 1<<3 // seen reply, assured, confirmed
		)
		port := func(n int) []byte { return []byte{byte(n >> 8), byte(n)} }
		tuple := func(a, b []byte, p, q int) nfnl.Attrs {
			return nfnl.Attrs{}.
				Nest(tupleIP, nfnl.Attrs{}.Bytes(source, a).Bytes(destination, b)).
				Nest(tupleProto, nfnl.Attrs{}.U8(number, unix.IPPROTO_UDP).Bytes(from, port(p)).Bytes(to, port(q)))
		}
		made := 0
		add := func(n int) error {
			var batch []byte
			for i := range n {
				a, b, p := []byte{192, 0, 2, byte(made >> 16)}, []byte{198, 51, 100, 1}, made&0xffff
				batch = append(batch, nfnl.Request(unix.NFNL_SUBSYS_CTNETLINK<<8, unix.NLM_F_CREATE, unix.AF_INET, nfnl.Attrs{}.
					Nest(tupleOrig, tuple(a, b, p, 9)).Nest(tupleReply, tuple(b, a, 9, p)).
					U32(status, answered).U32(timeout, 600))...)
				made++
				if len(batch) > 16<<10 || i == n-1 {
					if err := unix.Send(fd, batch, 0); err != nil {
						return fmt.Errorf("make connections: %w", err)
					}
					batch = batch[:0]
				}
			}
			return nil
		}
		if err := add(most + 1); err != nil {
			return err
		}
		done, ended := make(chan struct{}), make(chan struct{})
		w.t.Cleanup(func() {
			close(done)
			<-ended
		})
		go func() {
			defer close(ended)
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
					_ = add(4)
				}
			}
		}()
		text, err = os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			return err
		}
		if n, _ := strconv.Atoi(strings.TrimSpace(string(text))); n < most {
			return errors.New("conntrack has " + strconv.Itoa(n) + " connections of " + strconv.Itoa(most))
		}
		return nil
	})
}
