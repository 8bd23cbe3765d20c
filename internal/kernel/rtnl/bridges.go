package rtnl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Bridge is a bridge device. Its NFCall flags count beside the sysctls of the
// same name: bridged packets go to netfilter if either is on. They are false
// too where the kernel has no bridge netfilter.
type Bridge struct {
	Name            string
	Index           int
	Up              bool // administratively (IFF_UP), whatever its carrier
	NFCallIPTables  bool
	NFCallIP6Tables bool
	NFCallARPTables bool
	VLANFiltering   bool
	Promiscuous     bool   // as it was told to be; what only listens, like tcpdump, does not count
	Ports           []Port // by name
}

// Port is a device enslaved to a bridge.
type Port struct {
	Name  string
	Index int
	Kind  string // the kernel's word for its driver: "veth", "tun", "vxlan"; "" for hardware
	Away  bool   // its other end, as of a veth, is in another network namespace,
	ID    int    // which has this id in ours: see [SpaceOf]
	Peer  int    // the index of that end, there

	// Hairpin says that a frame may go out where it came in, which a pod that
	// calls its own Service needs.
	Hairpin bool
}

// Bridges returns the bridges of the calling thread's network namespace by
// name, with their ports, from one consistent dump. ctx is looked at between
// the attempts to get one; an attempt takes 5 ms on a host with 500 devices.
func Bridges(ctx context.Context) ([]Bridge, error) {
	msgs, err := uninterrupted(ctx, func() ([][]byte, error) { return dumpLinks(0) })
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	return bridges(msgs), nil
}

// attempts of a dump: one is void if a device comes or goes in its few
// milliseconds, and ten in a row are only where pods never stop coming.
const attempts = 10

// uninterrupted repeats a dump that changes have made inconsistent, which the
// kernel tells by NLM_F_DUMP_INTR.
func uninterrupted(ctx context.Context, dump func() ([][]byte, error)) ([][]byte, error) {
	for range attempts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		msgs, err := dump()
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return nil, fmt.Errorf("changed during each of %d attempts: %w", attempts, nl.ErrDumpInterrupted)
}

const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: a quarter of the dump

// dumpLinks asks for all devices, or for the ports of the one whose index is
// master.
func dumpLinks(master int) ([][]byte, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	if master != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	}
	return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
}

func bridges(msgs [][]byte) []Bridge {
	var list []Bridge
	ports := make(map[int][]Port) // by the master's index
	for _, m := range msgs {
		l := parseLink(m)
		if l.master != 0 {
			ports[l.master] = append(ports[l.master], l.port())
		}
		if l.kind == "bridge" {
			list = append(list, l.bridge())
		}
	}
	for i := range list {
		list[i].Ports = ports[list[i].Index]
		slices.SortFunc(list[i].Ports, func(a, b Port) int { return cmp.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(list, func(a, b Bridge) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (l *link) port() Port {
	p := Port{Name: l.name, Index: l.index, Kind: l.kind, Away: l.away, ID: l.netnsID, Hairpin: l.hairpin}
	if p.Away {
		p.Peer = l.peer
	}
	return p
}

func (l *link) bridge() Bridge {
	return Bridge{
		Name:            l.name,
		Index:           l.index,
		Up:              l.flags&unix.IFF_UP != 0,
		NFCallIPTables:  l.iptables,
		NFCallIP6Tables: l.ip6tables,
		NFCallARPTables: l.arptables,
		VLANFiltering:   l.vlans,
		Promiscuous:     l.flags&unix.IFF_PROMISC != 0, // dev_get_flags: that of the device's own flags
	}
}
