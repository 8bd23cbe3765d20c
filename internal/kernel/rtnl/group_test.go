package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// TestReceiveHearsTheKernelOnly has a process multicast a uevent of its own,
// which root may, before the kernel sends one.
func TestReceiveHearsTheKernelOnly(t *testing.T) {
	ns := lab.NewNamespace(t)
	var g *Group
	var err, sent error
	ns.Do(func() {
		if g, err = Join(unix.NETLINK_KOBJECT_UEVENT, 1, nil, 0); err == nil {
			sent = multicast("add@/module/br_netfilter\x00")
		}
	})
	if err != nil || sent != nil {
		t.Fatal(err, sent)
	}
	defer g.Close()
	ns.Run(t, "ip", "link", "add", "br0", "type", "bridge")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := make([]byte, 4096)
	n, err := g.Receive(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b[:n]); !strings.HasPrefix(got, "add@/devices/virtual/net/br0\x00") {
		t.Errorf("received %q", got)
	}
}

func multicast(s string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte(s), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
}

// TestAnswerHearsTheKernelOnly has a process send an answer of its own, which
// root may, before the question is asked.
func TestAnswerHearsTheKernelOnly(t *testing.T) {
	ns := lab.NewNamespace(t)
	var fd, other int
	var errs [2]error
	ns.Do(func() {
		fd, errs[0] = Dial(unix.NETLINK_ROUTE)
		other, errs[1] = Dial(unix.NETLINK_ROUTE)
	})
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	defer unix.Close(fd)
	defer unix.Close(other)
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(other, []byte("forged"), 0, address); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := Answer(fd, b); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("received %q, %v", b[:max(n, 0)], err)
	}
	question := binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN)
	question = binary.NativeEndian.AppendUint16(question, unix.NLMSG_NOOP)
	question = binary.NativeEndian.AppendUint16(question, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	question = append(question, make([]byte, 8)...)
	if _, err := unix.Write(fd, question); err != nil {
		t.Fatal(err)
	}
	if n, err := Answer(fd, b); err != nil || n != unix.NLMSG_HDRLEN+4+unix.NLMSG_HDRLEN || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		t.Errorf("want the kernel's acknowledgement, got %d bytes, %v", n, err)
	}
}
