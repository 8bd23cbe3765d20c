package host

import (
	"cmp"
	"slices"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// tally counts flows by pod and Service.
type tally struct {
	groups map[guard.Group]int
	pods   map[string]bool // by hardware address: one has an address of each family
	beyond int
}

// add counts a flow that bypasses netfilter on bridge, of the pod with that hardware
// address.
func (t *tally) add(bridge string, f *guard.Flow, pod string) {
	if t.groups == nil {
		t.groups, t.pods = make(map[guard.Group]int), make(map[string]bool)
	}
	g := guard.Group{Bridge: bridge, Client: f.Client, Service: f.Service, Protocol: f.Protocol}
	if _, known := t.groups[g]; !known && len(t.groups) == guard.MostGroups {
		t.beyond++
		return
	}
	t.groups[g]++
	t.pods[cmp.Or(pod, f.Client.String())] = true
}

// impact is what has been counted.
func (t *tally) impact() guard.Impact {
	i := guard.Impact{Connections: t.beyond, Beyond: t.beyond}
	for g, n := range t.groups {
		g.Connections = n
		i.Connections += n
		i.Groups = append(i.Groups, g)
	}
	i.Pods = len(t.pods)
	slices.SortFunc(i.Groups, func(a, b guard.Group) int {
		return cmp.Or(b.Connections-a.Connections, a.Service.Compare(b.Service), cmp.Compare(a.Protocol, b.Protocol), a.Client.Compare(b.Client))
	})
	return i
}
