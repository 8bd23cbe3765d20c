package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Attachment is a pod on a real bridge, with an address of its subnet in each
// family that the bridge has.
type Attachment struct {
	*Pod
	Addresses []netip.Prefix

	port   netlink.Link // the end of its veth that is the bridge's port
	bridge int
}

var (
	// owned begins the hardware addresses of our pods: administered locally,
	// then "nfg". It tells what a probe that was killed has left in neighbour
	// tables.
	owned = [4]byte{0x02, 'n', 'f', 'g'}

	// highest begins those of our ports. A bridge to which nobody gave a
	// hardware address has the lowest one of its ports
	// (br_stp_recalculate_bridge_id): with a lower one of ours, its pods would
	// lose their gateway.
	highest = [4]byte{0xfe, 0xff, 0xff, 0xff}
)

// PortPrefix begins the names of our ports.
const PortPrefix = "nfprobe"

// Subnets returns the address of a bridge in each family, with the prefix of
// its subnet: what its pods have as gateway. It is empty where the bridge has
// none. An error can be [rtnl.ErrNoBridge].
func Subnets(ctx context.Context, bridge string) ([]netip.Prefix, error) {
	b, err := rtnl.BridgeNamed(bridge)
	if err != nil {
		return nil, err
	}
	all, err := rtnl.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, p := range all[b.Index] {
		same := func(q netip.Prefix) bool { return familyOf(q.Addr()) == familyOf(p.Addr()) }
		if p.Addr().IsLinkLocalUnicast() || p.IsSingleIP() || slices.ContainsFunc(list, same) {
			continue
		}
		list = append(list, p)
	}
	return list, nil
}

// Attach makes a pod on a bridge of the calling process's network namespace.
// subnets are its [Subnets]. In a family of which want has addresses the pod
// gets the first of them, in the others one by chance, that nobody answers for;
// [ErrNoAddress] says that there is none. lease, if it is not nil, is given the
// path of the pod's network namespace and returns more such addresses. Call Close
// to give the pod back; the kernel does so, a moment later, when the process ends
// in another way.
func Attach(ctx context.Context, bridge string, subnets []netip.Prefix, want []netip.Addr, lease func(space string) ([]netip.Addr, error)) (*Attachment, error) {
	b, err := rtnl.BridgeNamed(bridge)
	if err != nil {
		return nil, err
	}
	if !b.Up {
		return nil, fmt.Errorf("bridge %s is down", bridge)
	}
	check := func(some []netip.Addr) error {
		for _, w := range some {
			if !slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return usable(p, w) }) {
				return fmt.Errorf("%s is not an address for a pod on %s", w, bridge)
			}
		}
		return nil
	}
	if err := check(want); err != nil {
		return nil, err
	}
	pod, err := newPod()
	if err != nil {
		return nil, err
	}
	a := &Attachment{Pod: pod, bridge: b.Index}
	if lease != nil {
		more, err := lease(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.fd))
		if err == nil {
			err = check(more)
		}
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		want = slices.Concat(want, more)
	}
	if err := a.plug(bridge); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if err := a.address(ctx, subnets, want); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// plug makes the veth, up on both ends. What an earlier run that was killed
// has left in the neighbour table is removed first.
func (a *Attachment) plug(bridge string) error {
	tidy(a.bridge)
	master, err := netlink.LinkByIndex(a.bridge)
	if err != nil {
		return fmt.Errorf("look at bridge %s: %w", bridge, err)
	}
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	if err := a.do(quietPod); err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.NewLinkAttrs(), PeerName: podDevice, PeerNamespace: netlink.NsFd(a.fd),
		PeerHardwareAddr: append(net.HardwareAddr(owned[:]), id[:]...),
	}
	veth.Name, veth.MasterIndex = PortPrefix+hex.EncodeToString(id[:]), a.bridge
	veth.HardwareAddr = append(net.HardwareAddr(highest[:]), id[:]...)
	veth.MTU, veth.PeerMTU = master.Attrs().MTU, uint32(master.Attrs().MTU)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add a port to %s: %w", bridge, err)
	}
	a.port = veth
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	return a.onLink(netlink.LinkSetUp)
}

// quietPod prepares a namespace for links that ask for no routers, look for
// another owner of their address quickly, three times 100 ms, and then tell
// everybody that it is theirs.
func quietPod() error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, s := range [][2]string{{"disable_ipv6", "0"}, {"accept_ra", "0"}, {"router_solicitations", "0"}, {"router_solicitation_delay", "0"}, {"accept_dad", "1"}, {"dad_transmits", "3"}, {"ndisc_notify", "1"}} {
		if err := set("/proc/sys/net/ipv6/conf/default/"+s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes neighbours of ours from the table of a bridge.
func tidy(bridge int) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		neighbours, err := netlink.NeighList(bridge, family)
		if err != nil {
			continue // they go by themselves, only later
		}
		for i := range neighbours {
			if n := &neighbours[i]; len(n.HardwareAddr) == 6 && [4]byte(n.HardwareAddr[:4]) == owned {
				_ = netlink.NeighDel(n) // it may have gone
			}
		}
	}
}

// Close takes the pod off the bridge, and gives its addresses back.
func (a *Attachment) Close() error {
	var err error
	if a.port != nil {
		switch err = netlink.LinkDel(a.port); {
		case errors.Is(err, unix.ENODEV): // somebody else did
			err = nil
		case err != nil:
			err = fmt.Errorf("remove the port: %w", err)
		}
		tidy(a.bridge)
	}
	return errors.Join(err, a.Pod.Close())
}
