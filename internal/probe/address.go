package probe

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

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
			if subnet.Addr().Is6() {
				if err := heard(ctx, link, subnet.Addr()); err != nil {
					return err
				}
			}
			return addDefaultRoute(link, subnet.Addr())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// heard waits until the gateway has answered a neighbour solicitation in the
// thread's namespace: where it does not, nobody else was heard either while
// duplicates were looked for.
func heard(ctx context.Context, link netlink.Link, gateway netip.Addr) error {
	const discard = 9
	conn, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, discard)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("nfguard")); err != nil {
		return err
	}
	for range 100 {
		neighbours, err := netlink.NeighList(link.Attrs().Index, unix.AF_INET6)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool { return n.IP.Equal(gateway.AsSlice()) && len(n.HardwareAddr) > 0 }) {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("the gateway %s does not answer: whether an address is free can't be told", gateway)
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
