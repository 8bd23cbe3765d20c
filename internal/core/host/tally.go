package host

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// tally counts flows by pod and Service.
type tally struct {
	groups map[guard.Group]int
	beyond int
}

// add counts a flow that bypasses netfilter on bridge.
func (t *tally) add(bridge string, f *guard.Flow) {
	if t.groups == nil {
		t.groups = make(map[guard.Group]int)
	}
	g := guard.Group{Bridge: bridge, Client: f.Client, Service: f.Service, Protocol: f.Protocol}
	if _, known := t.groups[g]; !known && len(t.groups) == guard.MostGroups {
		t.beyond++
		return
	}
	t.groups[g]++
}

// impact is what has been counted.
func (t *tally) impact() guard.Impact {
	i := guard.Impact{Connections: t.beyond, Beyond: t.beyond}
	pods := make(map[netip.Addr]bool)
	for g, n := range t.groups {
		g.Connections = n
		i.Connections += n
		i.Groups = append(i.Groups, g)
		pods[g.Client] = true
	}
	i.Pods = len(pods)
	slices.SortFunc(i.Groups, func(a, b guard.Group) int {
		return cmp.Or(b.Connections-a.Connections, a.Service.Compare(b.Service), cmp.Compare(a.Protocol, b.Protocol), a.Client.Compare(b.Client))
	})
	return i
}
