package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoAddress says that no free address was found.
var ErrNoAddress = errors.New("no free address")

// gatewayPatience is how long the gateway may take to show that answers are
// heard. Where the bridge's first port is ours, the kernel brings the bridge up
// only now, and looks for duplicates of its IPv6 address: some two seconds.
const gatewayPatience = 5 * time.Second

// once is how long answers are waited for after each question whether an
// address is in use. The seconds of RFC 5227 are for networks beyond one machine.
const once = 100 * time.Millisecond

// address gives the pod its addresses and routes.
func (a *Attachment) address(ctx context.Context, subnets []netip.Prefix, want []netip.Addr) error {
	for _, subnet := range subnets {
		claim := a.claimIPv4
		if subnet.Addr().Is6() {
			claim = a.claimIPv6
		}
		var candidates []netip.Addr
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
		err = a.onLink(func(link netlink.Link) error { return addDefaultRoute(link, subnet.Addr()) })
		if err != nil {
			return err
		}
	}
	return nil
}

// onLink runs f on a thread inside of the pod, with its device.
func (p *Pod) onLink(f func(netlink.Link) error) error {
	return p.do(func() error {
		link, err := netlink.LinkByName(podDevice)
		if err != nil {
			return err
		}
		return f(link)
	})
}

// Candidates are addresses by chance that a pod in the subnet could have, each
// of them once. Of a subnet that has a few only, all are there.
func Candidates(subnet netip.Prefix) []netip.Addr {
	const many = 256
	var list []netip.Addr
	for range many {
		b, chance := subnet.Masked().Addr().AsSlice(), make([]byte, 16)
		_, _ = rand.Read(chance) // never fails
		for bit := subnet.Bits(); bit < 8*len(b); bit++ {
			b[bit/8] |= chance[bit/8] & (0x80 >> (bit % 8))
		}
		if a, _ := netip.AddrFromSlice(b); usable(subnet, a) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// usable reports whether a pod in the subnet can have that address: it is not
// the gateway's, which is the subnet's, and neither the first nor the last one,
// which are the subnet itself and all that is in it.
func usable(subnet netip.Prefix, a netip.Addr) bool {
	return a != subnet.Addr() && subnet.Contains(a) && subnet.Contains(a.Prev()) && subnet.Contains(a.Next())
}

// taken is the error of a claim that none of its candidates is left for.
func taken(subnet netip.Prefix, last error) error {
	if last == nil {
		return fmt.Errorf("%w in %s", ErrNoAddress, subnet.Masked())
	}
	return last
}

// claimIPv4 takes the first candidate that nobody answers for (RFC 5227). It
// first asks for the gateway: where not even that answers, silence means nothing.
func (a *Attachment) claimIPv4(ctx context.Context, subnet netip.Prefix, candidates []netip.Addr) (netip.Addr, error) {
	arp, err := a.openARP()
	if err != nil {
		return netip.Addr{}, err
	}
	defer arp.close()
	if owner, err := arp.probe(ctx, subnet.Addr(), int(gatewayPatience/once), once); err != nil {
		return netip.Addr{}, err
	} else if owner == nil {
		return netip.Addr{}, fmt.Errorf("the gateway %s does not answer by ARP: whether an address is free can't be told", subnet.Addr())
	}
	var last error
	for _, c := range candidates {
		owner, err := arp.probe(ctx, c, 3, once)
		if err != nil {
			return netip.Addr{}, err
		}
		if owner != nil {
			last = fmt.Errorf("%s is in use by %s: %w", c, owner, ErrNoAddress)
			continue
		}
		err = a.onLink(func(link netlink.Link) error {
			_, err := assignOne(link, netip.PrefixFrom(c, subnet.Bits()))
			return err
		})
		if err != nil {
			return netip.Addr{}, err
		}
		return c, arp.announce(c)
	}
	return netip.Addr{}, taken(subnet, last)
}

func assignOne(link netlink.Link, p netip.Prefix) (*netlink.Addr, error) {
	addr, err := netlink.ParseAddr(p.String())
	if err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return nil, fmt.Errorf("add the address %s: %w", p, err)
	}
	return addr, nil
}

// claimIPv6 has the kernel detect duplicates (RFC 4862), candidate by candidate.
// That the gateway answers then shows that others were heard as well.
func (a *Attachment) claimIPv6(ctx context.Context, subnet netip.Prefix, candidates []netip.Addr) (free netip.Addr, err error) {
	err = a.onLink(func(link netlink.Link) error {
		interval := strconv.FormatInt(once.Milliseconds(), 10)
		if err := set("/proc/sys/net/ipv6/neigh/"+podDevice+"/retrans_time_ms", interval); err != nil {
			return err
		}
		var last error
		for _, c := range candidates {
			addr, err := assignOne(link, netip.PrefixFrom(c, subnet.Bits()))
			if err != nil {
				return err
			}
			only, err := detected(ctx, link, c)
			if err != nil {
				return err
			}
			if only {
				free = c
				return heard(ctx, link, subnet.Addr())
			}
			last = fmt.Errorf("%s is in use by another host: %w", c, ErrNoAddress)
			if err := netlink.AddrDel(link, addr); err != nil {
				return fmt.Errorf("remove the address %s: %w", addr, err)
			}
		}
		return taken(subnet, last)
	})
	return free, err
}

// detected waits for the end of the detection of duplicates, in the thread's
// namespace, and reports whether there is none.
func detected(ctx context.Context, link netlink.Link, c netip.Addr) (only bool, err error) {
	const patience = 5 * time.Second // ten times of what it takes
	err = await(ctx, patience, func() (bool, error) {
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(c.AsSlice()) })
		failed := i < 0 || list[i].Flags&unix.IFA_F_DADFAILED != 0
		only = !failed && list[i].Flags&unix.IFA_F_TENTATIVE == 0
		return failed || only, nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("the kernel still looks whether %s is in use after %v", c, patience)
	}
	return only, err
}

// heard waits until the gateway has answered a neighbour solicitation in the
// thread's namespace.
func heard(ctx context.Context, link netlink.Link, gateway netip.Addr) error {
	const discard = 9
	conn, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, discard)))
	if err != nil {
		return err
	}
	defer conn.Close()
	err = await(ctx, gatewayPatience, func() (bool, error) {
		// The kernel asks three times, and then only for who sends again. What
		// comes of it is seen in the table; errors are those of earlier ones.
		_, _ = conn.Write([]byte("nfguard"))
		neighbours, err := netlink.NeighList(link.Attrs().Index, unix.AF_INET6)
		return slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
			return n.IP.Equal(gateway.AsSlice()) && len(n.HardwareAddr) > 0
		}), err
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the gateway %s does not answer: whether an address is free can't be told", gateway)
	}
	return err
}

// await looks every 10 ms, until done reports that it is so, or an error. The
// error is os.ErrDeadlineExceeded after patience, and ctx's when that ends.
func await(ctx context.Context, patience time.Duration, done func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		ok, err := done()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) || ok {
			return err
		}
		if time.Now().After(deadline) {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
