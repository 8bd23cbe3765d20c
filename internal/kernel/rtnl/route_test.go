package rtnl

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

func TestRouteTo(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "set", "lo", "up")
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	ns.Run(t, "ip", "addr", "add", "10.1.0.1/24", "dev", "cni0")
	ns.Run(t, "ip", "addr", "add", "fd00::1/64", "dev", "cni0", "nodad")
	ns.Run(t, "ip", "link", "set", "cni0", "up")
	ns.Run(t, "ip", "route", "add", "unreachable", "10.2.0.0/16")
	ns.Do(func() {
		for to, device := range map[string]string{"10.1.0.7": "cni0", "fd00::7": "cni0", "10.1.0.1": "lo"} {
			index, err := RouteTo(netip.MustParseAddr(to))
			if err != nil || index != Index(device) {
				t.Errorf("to %s: device %d, error %v; want %s, which is %d", to, index, err, device, Index(device))
			}
		}
		for to, want := range map[string]error{"10.2.0.1": unix.EHOSTUNREACH, "192.0.2.1": unix.ENETUNREACH} {
			if index, err := RouteTo(netip.MustParseAddr(to)); !errors.Is(err, want) {
				t.Errorf("to %s: device %d, error %v; want %v", to, index, err, want)
			}
		}
	})
}
