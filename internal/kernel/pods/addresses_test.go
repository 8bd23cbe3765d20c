package pods_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/test/lab"
)

// TestAddresses reads those of a process from outside of its network namespace.
func TestAddresses(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	ns := lab.NewNamespace(t)
	for _, args := range [][]string{
		{"link", "add", "eth0", "type", "bridge"},
		{"addr", "add", "10.244.0.31/24", "dev", "eth0"},
		{"addr", "add", "fd00::31/64", "dev", "eth0", "nodad"},
		{"link", "set", "eth0", "up"},
		{"link", "set", "lo", "up"},
	} {
		ns.Run(t, "ip", args...)
	}
	cmd := ns.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	want := []netip.Addr{netip.MustParseAddr("10.244.0.31"), netip.MustParseAddr("fd00::31")}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // it enters the namespace a moment later
		got := pods.Addresses(cmd.Process.Pid)
		if slices.Equal(got, want) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v; want %v", got, want)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range pods.Addresses(os.Getpid()) {
		if !slices.ContainsFunc(own, func(o net.Addr) bool { return o.(*net.IPNet).IP.String() == a.String() }) {
			t.Errorf("%s is no address of this process: %v", a, own)
		}
	}
	if got := pods.Addresses(1 << 30); got != nil {
		t.Errorf("of a process that is not: %v", got)
	}
}
