package guard

import (
	"fmt"
	"net/netip"
)

// Impact is what was seen of connections to Services whose answers bypass netfilter:
// those that conntrack has as translated and unreplied, between two ports of one bridge
// that hands nothing of their family over. A pod that is dead looks the same.
type Impact struct {
	Connections int
	Pods        int     // that began them, but for those Beyond
	Groups      []Group // the most connections first, at most [MostGroups]
	Beyond      int     // connections of groups that are not in Groups
	More        bool    // there are more than were looked at: [MostConnections]
}

// MostConnections is how many connections are looked at.
const MostConnections = 50_000

// MostGroups bounds the groups of an [Impact].
const MostGroups = 1000

// Describe says it in a few words: "3 connections of 2 pods through Services".
func (i *Impact) Describe() string {
	count := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	atLeast := ""
	if i.More {
		atLeast = "at least "
	}
	return atLeast + count(i.Connections, "connection") + " of " + count(i.Pods, "pod") + " through Services"
}

// Group are the connections of one pod to one port of a Service.
type Group struct {
	Bridge   string
	Client   netip.Addr     // the pod that began them
	Service  netip.AddrPort // what it asked
	Protocol uint8          // IPPROTO_*

	Connections int
}

// Flow is a connection to a Service.
type Flow struct {
	Client   netip.Addr
	Service  netip.AddrPort // what was asked
	Endpoint netip.Addr     // what it was translated to
	Protocol uint8          // IPPROTO_*
}

// Bypassing are the bridges with pods that hand nothing of a family over to netfilter.
// nil: there are none.
type Bypassing []Bypass

// Bypass is one of them.
type Bypass struct {
	Bridge   string
	Index    int
	Networks []netip.Prefix // of its pods, of the families that it does not hand over
}

// Bypassing finds them.
func (o *Observation) Bypassing() (list Bypassing) {
	for i := range o.Bridges {
		b := &o.Bridges[i]
		if b.Ports.Pods == 0 {
			continue
		}
		var networks []netip.Prefix
		for _, n := range b.Addresses {
			f := IPv4
			if n.Addr().Is6() {
				f = IPv6
			}
			if !n.Addr().IsLinkLocalUnicast() && !o.handed(b, f) {
				networks = append(networks, n.Masked())
			}
		}
		if len(networks) > 0 {
			list = append(list, Bypass{b.Name, b.Index, networks})
		}
	}
	return list
}

// Of returns the bridge that carries f's answers past netfilter; nil if there is none.
func (l Bypassing) Of(f *Flow) *Bypass {
	if f.Client == f.Endpoint { // masqueraded: the answer comes back by the host
		return nil
	}
	for i := range l {
		if l[i].holds(f.Client) && l[i].holds(f.Endpoint) {
			return &l[i]
		}
	}
	return nil
}

func (b *Bypass) holds(a netip.Addr) bool {
	for _, n := range b.Networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
