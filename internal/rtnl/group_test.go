package rtnl

import (
	"context"
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
