package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// hook is where on the way from one port of a bridge to another a chain is met.
type hook uint8

// The hooks, in the order of the way. br_netfilter has what a bridge hands over
// meet those of IP between those of the bridge.
const (
	atIngress         hook = iota // of a port
	bridgePrerouting              // of all frames
	prerouting                    // of what is handed over
	bridgeForward                 // of all frames
	forward                       // of what is handed over
	bridgePostrouting             // of all frames
	postrouting                   // of what is handed over
	atEgress                      // of a port
)

// frames reports that all that the bridge forwards comes by, handed over or not.
func (h hook) frames() bool { return h != prerouting && h != forward && h != postrouting }

// before reports that it is not known yet where the packet goes.
func (h hook) before() bool { return h < bridgeForward }

// behind reports that it is no longer known where it came in.
func (h hook) behind() bool { return h > forward }

// base is a base chain: of nf_tables, those of iptables-nft among them.
type base struct {
	hook     hook
	family   byte
	table    string
	name     string
	kind     string // "filter", "nat", "route"
	priority int    // lower ones come first
	policy   string // "accept" or "drop": of what its rules do not decide on
	devices  []string
}

// bases returns the base chains of nf_tables on the way from one port of a bridge
// to another, in order, and none without an error where nf_tables is not there.
// Tables that are dormant have none in force, and are left out, and so are
// chains that only translate. An error can be unix.EPERM.
//
// It makes, loads and runs nothing, and waits for no writer. To find them the
// kernel lists the chains of all tables, 30,000 in 20 ms: ctx is looked at
// between the parts of that list.
func bases(ctx context.Context) ([]base, error) {
	if !nfnl.Loaded() {
		return nil, nil
	}
	c, err := nfnl.Dial()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // no nfnetlink, no nf_tables
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var all []base
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET, unix.NFPROTO_BRIDGE, unix.NFPROTO_NETDEV} {
		list, err := basesOf(ctx, c, family)
		if err != nil {
			return nil, fmt.Errorf("list the chains of nf_tables at the hooks: %w", err)
		}
		all = append(all, list...)
	}
	slices.SortStableFunc(all, func(a, b base) int { return cmp.Or(cmp.Compare(a.hook, b.hook), cmp.Compare(a.priority, b.priority)) })
	return all, nil
}

// basesOf lists the chains of one family that are in force.
func basesOf(ctx context.Context, c *nfnl.Conn, family byte) (list []base, err error) {
	dormant := make(map[string]bool)
	err = c.List(ctx, nfnl.Tables(family), nil, func(in []byte) {
		dormant[nfnl.Text(nfnl.Find(in, unix.NFTA_TABLE_NAME))] = nfnl.Number(nfnl.Find(in, unix.NFTA_TABLE_FLAGS))&nfnl.Dormant != 0
	})
	if len(dormant) == 0 || err != nil {
		return nil, err
	}
	err = c.List(ctx, nfnl.Chains(family), func() { list = nil }, func(in []byte) {
		if one, ok := parseBase(family, in); ok && !dormant[one.table] {
			list = append(list, one)
		}
	})
	return list, err
}

// parseBase reads a chain. It is false for one that is at none of the hooks.
func parseBase(family byte, in []byte) (c base, ok bool) {
	at := nfnl.Find(in, unix.NFTA_CHAIN_HOOK)
	if at == nil { // as nearly all of many
		return base{}, false
	}
	number := nfnl.Find(at, unix.NFTA_HOOK_HOOKNUM)
	if len(number) == 0 {
		return base{}, false
	}
	c = base{
		family: family,
		table:  nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_TABLE)), name: nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_NAME)),
		kind:     nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_TYPE)),
		priority: int(int32(nfnl.Number(nfnl.Find(at, unix.NFTA_HOOK_PRIORITY)))), policy: "accept",
		devices: nfnl.HookDevices(at),
	}
	if c.hook, ok = hookOf(family, nfnl.Number(number)); !ok || c.kind == "nat" {
		return base{}, false
	}
	if policy := nfnl.Find(in, unix.NFTA_CHAIN_POLICY); len(policy) > 0 && nfnl.Number(policy) == 0 { // NF_DROP
		c.policy = "drop"
	}
	return c, true
}

// hookOf is the hook with a number of the family's own.
func hookOf(family byte, number uint64) (h hook, ok bool) {
	const inetIngress = 5 // NF_INET_INGRESS
	own := map[nfnl.Hook]hook{nfnl.Prerouting: prerouting, nfnl.Forward: forward, nfnl.Postrouting: postrouting}
	switch family {
	case unix.NFPROTO_NETDEV:
		own = map[nfnl.Hook]hook{0: atIngress, 1: atEgress} // NF_NETDEV_INGRESS, NF_NETDEV_EGRESS
	case unix.NFPROTO_BRIDGE:
		own = map[nfnl.Hook]hook{nfnl.Prerouting: bridgePrerouting, nfnl.Forward: bridgeForward, nfnl.Postrouting: bridgePostrouting}
	case unix.NFPROTO_INET:
		own[inetIngress] = atIngress
	}
	h, ok = own[nfnl.Hook(number)]
	return h, ok
}

// place is where the chain is, in words.
func (b *base) place() string {
	return fmt.Sprintf("the table %s %s of nf_tables", familyWord(b.family), b.table)
}

func familyWord(n byte) string {
	if n == unix.NFPROTO_NETDEV {
		return "netdev"
	}
	return nfnl.FamilyWord(n)
}
