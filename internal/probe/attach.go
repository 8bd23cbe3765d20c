package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
)

// Attachment is a pod on a real bridge, with an address of its subnet in each
// family that the bridge has.
type Attachment struct {
	*Pod
	Addresses []netip.Prefix

	port   netlink.Link // the end of its veth that is the bridge's port
	bridge int
}

// owned begins the hardware addresses of our pods: administered locally, then
// "nfg". It tells what a probe that was killed has left in neighbour tables.
var owned = [4]byte{0x02, 'n', 'f', 'g'}

// ErrNoAddress says that no free address was found.
var ErrNoAddress = errors.New("no free address")

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
// subnets are its [Subnets]. In a family of which want has an address the pod
// gets that one, in the others a free one by chance; both only if nobody
// answers for it. Call Close to give it back; the kernel does so, a moment
// later, when the process ends in another way.
func Attach(ctx context.Context, bridge string, subnets []netip.Prefix, want []netip.Addr) (*Attachment, error) {
	b, err := rtnl.BridgeNamed(bridge)
	if err != nil {
		return nil, err
	}
	if !b.Up {
		return nil, fmt.Errorf("bridge %s is down", bridge)
	}
	for _, w := range want {
		if !slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(w) && p.Addr() != w }) {
			return nil, fmt.Errorf("%s is not an address for a pod on %s", w, bridge)
		}
	}
	pod, err := newPod()
	if err != nil {
		return nil, err
	}
	a := &Attachment{Pod: pod, bridge: b.Index}
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
	veth.Name, veth.MasterIndex = "nfprobe"+hex.EncodeToString(id[:]), a.bridge
	veth.MTU, veth.PeerMTU = master.Attrs().MTU, uint32(master.Attrs().MTU)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add a port to %s: %w", bridge, err)
	}
	a.port = veth
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	return a.do(func() error {
		link, err := netlink.LinkByName(podDevice)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
}

// quietPod prepares a namespace for links that ask for no routers, look for
// another owner of their address quickly, three times 100 ms, and then tell
// everybody that it is theirs.
func quietPod() error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, s := range [][2]string{{"accept_ra", "0"}, {"router_solicitations", "0"}, {"router_solicitation_delay", "0"}, {"dad_transmits", "3"}, {"ndisc_notify", "1"}} {
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
		if err = netlink.LinkDel(a.port); err != nil {
			err = fmt.Errorf("remove the port: %w", err)
		}
		tidy(a.bridge)
	}
	return errors.Join(err, a.Pod.Close())
}

// address gives the pod its addresses and routes.
func (a *Attachment) address(ctx context.Context, subnets []netip.Prefix, want []netip.Addr) error {
	for _, subnet := range subnets {
		claim := a.claimIPv4
		if subnet.Addr().Is6() {
			claim = a.claimIPv6
		}
		candidates := []netip.Addr{}
		for _, w := range want {
			if familyOf(w) == familyOf(subnet.Addr()) {
				candidates = append(candidates, w)
			}
		}
		if len(candidates) == 0 {
			candidates = Candidates(subnet)
		}
		own, err := claim(ctx, subnet, candidates)
		if err != nil {
			return err
		}
		a.Addresses = append(a.Addresses, netip.PrefixFrom(own, subnet.Bits()))
		err = a.do(func() error {
			link, err := netlink.LinkByName(podDevice)
			if err != nil {
				return err
			}
			return addDefaultRoute(link, subnet.Addr())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Candidates are some addresses by chance that a pod in the subnet could have:
// neither the gateway, which is the subnet's address, nor the first or the last.
func Candidates(subnet netip.Prefix) []netip.Addr {
	const several = 8
	masked := subnet.Masked().Addr()
	bits := masked.BitLen() - subnet.Bits()
	size := new(big.Int).Lsh(big.NewInt(1), uint(bits))
	if size.Sub(size, big.NewInt(2)).Sign() <= 0 {
		return nil
	}
	base := new(big.Int).SetBytes(masked.AsSlice())
	var list []netip.Addr
	for range several {
		n, err := rand.Int(rand.Reader, size)
		if err != nil {
			return list
		}
		n.Add(n, base).Add(n, big.NewInt(1))
		b := make([]byte, masked.BitLen()/8)
		a, _ := netip.AddrFromSlice(n.FillBytes(b))
		if a != subnet.Addr() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// claimIPv4 takes the first candidate that nobody answers for. It first asks
// for the gateway: where not even that answers, silence means nothing.
func (a *Attachment) claimIPv4(ctx context.Context, subnet netip.Prefix, candidates []netip.Addr) (netip.Addr, error) {
	arp, err := a.openARP()
	if err != nil {
		return netip.Addr{}, err
	}
	defer arp.close()
	const once = 100 * time.Millisecond
	if owner, err := arp.probe(ctx, subnet.Addr(), 10, once); err != nil {
		return netip.Addr{}, err
	} else if owner == nil {
		return netip.Addr{}, fmt.Errorf("the gateway %s does not answer by ARP: whether an address is free can't be told", subnet.Addr())
	}
	var taken error
	for _, c := range candidates {
		owner, err := arp.probe(ctx, c, 3, once)
		if err != nil {
			return netip.Addr{}, err
		}
		if owner != nil {
			taken = fmt.Errorf("%s is in use by %s: %w", c, owner, ErrNoAddress)
			continue
		}
		if err := a.do(func() error { return assignOne(netip.PrefixFrom(c, subnet.Bits())) }); err != nil {
			return netip.Addr{}, err
		}
		return c, arp.announce(c)
	}
	if taken == nil {
		taken = fmt.Errorf("%w in %s", ErrNoAddress, subnet.Masked())
	}
	return netip.Addr{}, taken
}

func assignOne(p netip.Prefix) error {
	link, err := netlink.LinkByName(podDevice)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(p.String())
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add the address %s: %w", p, err)
	}
	return nil
}

// claimIPv6 has the kernel detect duplicates (RFC 4862), candidate by candidate.
func (a *Attachment) claimIPv6(ctx context.Context, subnet netip.Prefix, candidates []netip.Addr) (netip.Addr, error) {
	var taken error
	for _, c := range candidates {
		p := netip.PrefixFrom(c, subnet.Bits())
		free := false
		err := a.do(func() (err error) {
			if err = set("/proc/sys/net/ipv6/neigh/"+podDevice+"/retrans_time_ms", "100"); err != nil {
				return err
			}
			if err = assignOne(p); err != nil {
				return err
			}
			free, err = detected(ctx, c)
			return err
		})
		if err != nil {
			return netip.Addr{}, err
		}
		if free {
			return c, nil
		}
		taken = fmt.Errorf("%s is in use by another host: %w", c, ErrNoAddress)
	}
	if taken == nil {
		taken = fmt.Errorf("%w in %s", ErrNoAddress, subnet.Masked())
	}
	return netip.Addr{}, taken
}

// detected waits for the end of the detection of duplicates, in the thread's
// namespace, and reports whether there is none.
func detected(ctx context.Context, c netip.Addr) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // ten times of what it takes
	defer cancel()
	link, err := netlink.LinkByName(podDevice)
	if err != nil {
		return false, err
	}
	for {
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(c.AsSlice()) })
		switch {
		case i < 0, list[i].Flags&unix.IFA_F_DADFAILED != 0:
			return false, nil
		case list[i].Flags&unix.IFA_F_TENTATIVE == 0:
			return true, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return false, fmt.Errorf("detect duplicates of %s: %w", c, ctx.Err())
		}
	}
}
