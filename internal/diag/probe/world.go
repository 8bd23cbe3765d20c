package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// The addresses of the world. All are of the ranges for documentation
// (RFC 5737 and 3849), so that nobody takes them for his own.
var (
	bridgeAddresses = pair("192.0.2.1/24", "2001:db8:0:1::1/64")
	clientAddresses = pair("192.0.2.2/24", "2001:db8:0:1::2/64")
	serverAddresses = pair("192.0.2.3/24", "2001:db8:0:1::3/64")
	wireAddresses   = pair("198.51.100.1/24", "2001:db8:0:2::1/64")
	remoteAddresses = pair("198.51.100.2/24", "2001:db8:0:2::2/64")
	serverService   = pair("203.0.113.3/32", "2001:db8:0:3::3/128")
	remoteService   = pair("203.0.113.2/32", "2001:db8:0:3::2/128")
	clientService   = pair("203.0.113.1/32", "2001:db8:0:3::1/128")
)

// addresses are one of each family.
type addresses [2]string

func pair(v4, v6 string) addresses { return addresses{v4, v6} }

// of is the address for the family.
func (a addresses) of(f Family) netip.Addr { return netip.MustParsePrefix(a[f.index()]).Addr() }

func (f Family) index() int {
	if f == IPv6 {
		return 1
	}
	return 0
}

// world is a node with a bridge, two pods on it, and a pod of another node,
// each in a network namespace of its own.
type world struct {
	node, client, server, remote *Pod
	families                     []Family
}

// newWorld makes a world with those settings and the rules of a kube-proxy in
// it. Nothing of it is outside of its four namespaces.
func newWorld(ctx context.Context, s *Settings) (*world, error) {
	w := &world{families: []Family{IPv4, IPv6}}
	if s.NoIPv6 != "" {
		w.families = w.families[:1]
	}
	if err := w.make(ctx, s); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) make(ctx context.Context, s *Settings) (err error) {
	for _, p := range []**Pod{&w.node, &w.client, &w.server, &w.remote} {
		// The kernel can take its time: it removes namespaces in between.
		if err := ctx.Err(); err != nil {
			return err
		}
		if *p, err = newPod(); err != nil {
			return err
		}
		if err := (*p).do(w.quiet); err != nil {
			return err
		}
	}
	if err := w.node.do(func() error { return w.makeNode(s) }); err != nil {
		return fmt.Errorf("make a node: %w", err)
	}
	for _, end := range []struct {
		pod     *Pod
		own, gw addresses
	}{
		{w.client, clientAddresses, bridgeAddresses},
		{w.server, serverAddresses, bridgeAddresses},
		{w.remote, remoteAddresses, wireAddresses},
	} {
		if err := end.pod.do(func() error { return w.makePod(end.own, end.gw) }); err != nil {
			return fmt.Errorf("make a pod: %w", err)
		}
	}
	return nil
}

func (w *world) close() {
	for _, p := range []*Pod{w.node, w.client, w.server, w.remote} {
		if p != nil {
			_ = p.Close()
		}
	}
}

// quiet has links that come later use their addresses at once: without
// duplicate address detection, which takes a second, and without asking for
// routers.
func (w *world) quiet() error {
	if len(w.families) < 2 {
		return nil
	}
	for _, key := range []string{"disable_ipv6", "accept_dad", "accept_ra", "router_solicitations"} {
		if err := set("/proc/sys/net/ipv6/conf/default/"+key, "0"); err != nil {
			return err
		}
	}
	return nil
}

// hurry has neighbours on a device asked for every 20 ms instead of every
// second, and given up after two seconds instead of three questions: what is
// sent to one that is late waits for it.
func (w *world) hurry(device string) error {
	for _, ip := range []string{"ipv4", "ipv6"}[:len(w.families)] {
		dir := "/proc/sys/net/" + ip + "/neigh/" + device
		if err := errors.Join(set(dir+"/retrans_time_ms", "20"), set(dir+"/mcast_solicit", "100")); err != nil {
			return err
		}
	}
	return nil
}

// The devices of the node.
const (
	bridgeName = "bridge"
	wireName   = "wire"
	podDevice  = "eth0"
)

func (w *world) makeNode(s *Settings) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = bridgeName
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add a bridge: %w", err)
	}
	if err := w.hurry(bridgeName); err != nil {
		return err
	}
	if s.Flags != (Flags{}) {
		flags := rtnl.NFCall{s.Flags.IPTables, s.Flags.IP6Tables, s.Flags.ARPTables}
		if err := rtnl.SetNFCall(bridge.Index, bridgeName, flags, true); err != nil {
			return fmt.Errorf("set the bridge's flags: %w", err)
		}
	}
	if err := s.write(); err != nil {
		return err
	}
	for _, port := range []struct {
		name   string
		pod    *Pod
		master int
	}{{"client", w.client, bridge.Index}, {"server", w.server, bridge.Index}, {wireName, w.remote, 0}} {
		link, err := addVeth(port.name, port.pod, port.master, 0)
		if err != nil {
			return err
		}
		if port.master != 0 && !s.NoHairpin {
			if err := netlink.LinkSetHairpin(link, true); err != nil {
				return fmt.Errorf("set hairpin mode: %w", err)
			}
		}
		if port.master == 0 {
			if err := errors.Join(w.hurry(wireName), w.assign(link, wireAddresses)); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	if err := w.assign(bridge, bridgeAddresses); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return err
	}
	if err := s.forward(len(w.families) > 1); err != nil {
		return err
	}
	for _, f := range w.families {
		if err := addRules(f, s.Dropped.of(f) != ""); err != nil {
			return err
		}
	}
	return nil
}

// addVeth adds a veth in the calling thread's namespace whose other end is
// eth0 of pod. master 0 is none, and mtu 0 the kernel's own.
func addVeth(name string, pod *Pod, master, mtu int) (netlink.Link, error) {
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: podDevice, PeerNamespace: netlink.NsFd(pod.fd)}
	veth.Name, veth.MasterIndex, veth.MTU = name, master, mtu
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add a veth: %w", err)
	}
	return veth, nil
}

// assign gives a link its addresses, to be used at once.
func (w *world) assign(link netlink.Link, own addresses) error {
	for i := range w.families {
		addr, err := netlink.ParseAddr(own[i])
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add the address %s: %w", own[i], err)
		}
	}
	return nil
}

func (w *world) makePod(own, gw addresses) error {
	link, err := netlink.LinkByName(podDevice)
	if err != nil {
		return err
	}
	if err := errors.Join(w.hurry(podDevice), w.assign(link, own)); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, f := range w.families {
		if err := addDefaultRoute(link, gw.of(f)); err != nil {
			return err
		}
	}
	return nil
}

func addDefaultRoute(link netlink.Link, gw netip.Addr) error {
	bits := 8 * len(gw.AsSlice())
	route := netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
		Gw:        gw.AsSlice(),
	}
	if err := netlink.RouteAdd(&route); err != nil {
		return fmt.Errorf("add a route by %s: %w", gw, err)
	}
	return nil
}
