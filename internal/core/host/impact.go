package host

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/conntrack"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// impactApart is how long lies between the two looks of [Impact]. What is answered at
// all on one bridge is answered within milliseconds, so what is unreplied at both is not
// just on its way.
const impactApart = 250 * time.Millisecond

// Impact counts the connections whose answers bypass netfilter on the bridges of l: those
// that conntrack has as unreplied twice, to an endpoint whose hardware address the bridge
// knows. It looks at nothing where there are no such bridges. An error that is
// [conntrack.ErrNotLoaded] says that the kernel would have to load a module to tell; one
// that is unix.EPERM, that CAP_NET_ADMIN is missing.
func Impact(ctx context.Context, l guard.Bypassing) (guard.Impact, error) {
	if len(l) == 0 {
		return guard.Impact{}, nil
	}
	step.Begin(ctx, "asking the kernel for connections that are not answered")
	var first []uint32
	err := unreplied(ctx, l, func(id uint32, _ *guard.Bypass, _ *guard.Flow) bool {
		first = append(first, id)
		return len(first) < guard.MostConnections
	})
	if err != nil || len(first) == 0 {
		return guard.Impact{}, err
	}
	slices.Sort(first)
	select {
	case <-ctx.Done():
		return guard.Impact{}, ctx.Err()
	case <-time.After(impactApart):
	}
	behind := make(map[*guard.Bypass]map[netip.Addr]string)
	for i := range l {
		if behind[&l[i]], err = rtnl.Neighbours(l[i].Index); err != nil {
			return guard.Impact{}, err
		}
	}
	t, left := tally{}, len(first)
	err = unreplied(ctx, l, func(id uint32, b *guard.Bypass, f *guard.Flow) bool {
		if _, still := slices.BinarySearch(first, id); still {
			left--
			if behind[b][f.Endpoint] != "" {
				t.add(b.Bridge, f, behind[b][f.Client])
			}
		}
		return left > 0
	})
	found := t.impact()
	found.More = len(first) == guard.MostConnections
	return found, err
}

// BridgesWithAddresses is [Bridges], with the addresses that they have.
func BridgesWithAddresses(ctx context.Context) ([]guard.Bridge, error) {
	var o guard.Observation
	if o.Bridges, o.Bridging = Bridges(ctx); o.Bridging == nil {
		addresses(ctx, &o)
	}
	return o.Bridges, o.Bridging
}

// unreplied calls f with each connection of which no answer was seen and whose answer
// bypasses netfilter, until f returns false.
func unreplied(ctx context.Context, l guard.Bypassing, f func(uint32, *guard.Bypass, *guard.Flow) bool) error {
	return conntrack.Translated(ctx, func(c *conntrack.Connection) bool {
		flow := guard.Flow{
			Client: c.Original.Source.Addr(), Service: c.Original.Destination,
			Endpoint: c.Reply.Source.Addr(), Protocol: c.Protocol,
		}
		b := l.Of(&flow)
		return b == nil || f(c.ID, b, &flow)
	})
}
