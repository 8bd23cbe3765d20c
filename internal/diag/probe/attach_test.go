package probe

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/lab"
)

// TestAttach plugs a pod in, without a command around it: an address that is
// free is given, one in use is not, and nothing of it is left.
func TestAttach(t *testing.T) {
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	ns.Run(t, "ip", "addr", "add", "10.1.0.1/24", "dev", "cni0")
	ns.Run(t, "ip", "link", "set", "cni0", "up")
	ns.Run(t, "ip", "link", "add", "veth0", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	ns.Run(t, "ip", "link", "set", "veth0", "up")
	pod.Run(t, "ip", "addr", "add", "10.1.0.7/24", "dev", "eth0")
	pod.Run(t, "ip", "link", "set", "eth0", "up")
	ns.Run(t, "ip", "link", "set", "cni0", "mtu", "1400")
	awaitUp(t, ns, "cni0")
	before := ns.Run(t, "ip", "-o", "link") + ns.Run(t, "ip", "neigh")

	attach := func(ctx context.Context, bridge, want string) (mtu int, own []netip.Prefix, err error) {
		ns.Do(func() {
			var subnets []netip.Prefix
			if subnets, err = Subnets(ctx, bridge); err != nil {
				return
			}
			var a *Attachment
			if a, err = Attach(ctx, bridge, subnets, []netip.Addr{netip.MustParseAddr(want)}, nil); err != nil {
				return
			}
			own, mtu = a.Addresses, a.port.Attrs().MTU
			err = a.Close()
		})
		return mtu, own, err
	}
	mtu, own, err := attach(t.Context(), "cni0", "10.1.0.9")
	if err != nil || mtu != 1400 || len(own) != 1 || own[0].String() != "10.1.0.9/24" {
		t.Errorf("attached as %v with an MTU of %d, error %v", own, mtu, err)
	}
	if _, _, err := attach(t.Context(), "cni0", "10.1.0.7"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("an address in use: %v", err)
	}
	if _, _, err := attach(t.Context(), "veth0", "10.1.0.7"); !errors.Is(err, rtnl.ErrNoBridge) {
		t.Errorf("no bridge: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := attach(ctx, "cni0", "10.1.0.9"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if diff := cmp.Diff(before, ns.Run(t, "ip", "-o", "link")+ns.Run(t, "ip", "neigh")); diff != "" {
		t.Errorf("what is left (-before +after):\n%s", diff)
	}
	ns.Run(t, "ip", "link", "set", "cni0", "down")
	if _, _, err := attach(t.Context(), "cni0", "10.1.0.9"); err == nil || err.Error() != "bridge cni0 is down" {
		t.Errorf("a bridge that is down: %v", err)
	}
}

// TestAttachKeepsTheGateway: a bridge without a hardware address of its own has
// the lowest of its ports, and pods send to that.
func TestAttachKeepsTheGateway(t *testing.T) {
	const highish = "fe:ff:fe:ff:ff:ff"
	ns := lab.NewNamespace(t)
	ns.Run(t, "sh", "-ec", `ip link add cni0 type bridge
		ip addr add 10.1.0.1/24 dev cni0
		ip link add veth0 address `+highish+` type veth peer name pod0
		ip link set veth0 master cni0
		ip link set cni0 up
		ip link set veth0 up
		ip link set pod0 up`)
	var during string
	var err error
	ns.Do(func() {
		a, aerr := Attach(t.Context(), "cni0", []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, nil, nil)
		if err = aerr; err != nil {
			return
		}
		var link netlink.Link
		if link, err = netlink.LinkByName("cni0"); err == nil {
			during = link.Attrs().HardwareAddr.String()
		}
		err = errors.Join(err, a.Close())
	})
	if err != nil || during != highish {
		t.Errorf("with our port the bridge has the address %s, without it %s; error %v", during, highish, err)
	}
}

// awaitUp waits until the kernel's link watch has seen that a device is up: a
// bridge drops what comes to its ports before.
func awaitUp(t *testing.T, ns *lab.Namespace, device string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(ns.Run(t, "ip", "link", "show", "dev", device), " state UP "); {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not up", device)
		}
	}
}
