package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// Presence is whether something is there: unknown, unless somebody has looked.
type Presence uint8

// The three answers.
const (
	Unknown Presence = iota
	Absent
	Present
)

// Chain is a base chain of nf_tables that packets pass when they are forwarded.
// Those of iptables-nft are among them: the chains FORWARD of the tables filter,
// mangle and security.
type Chain struct {
	Family   string // "ip", "ip6", "inet" for both, or "bridge" for what a bridge forwards
	Table    string
	Name     string
	Priority int    // lower ones come first
	Policy   string // "accept" or "drop": of what its rules do not decide on
	Rules    Presence
}

// mostChains is how many chains are asked for their rules. A host has a handful.
const mostChains = 64

// Forward returns the base chains at the hook forward of nf_tables, by family
// and priority, and none without an error where nf_tables is not there. Tables
// that are dormant have none in force, and are left out. Which rules a chain has
// is not read, only whether it has any: unknown of one that could not be asked,
// and of those beyond the first 64. With an error, nothing is known; one that is
// unix.EPERM means that the capability is missing.
//
// It makes, loads and runs nothing, and waits for no writer. To find them the
// kernel lists the chains of all tables, 30,000 in 20 ms: ctx is looked at
// between the parts of that list.
func Forward(ctx context.Context) ([]Chain, error) {
	if !nfnl.Loaded() {
		return nil, nil
	}
	runtime.LockOSThread() // for the sockets' namespace
	defer runtime.UnlockOSThread()

	c, err := nfnl.Dial()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // no nfnetlink, no nf_tables
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var all []Chain
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET, unix.NFPROTO_BRIDGE} {
		list, err := forward(ctx, c, family)
		if err != nil {
			return nil, fmt.Errorf("list the chains of nf_tables at the hook forward: %w", err)
		}
		for i := range list {
			if len(all)+i < mostChains {
				list[i].Rules = rulesOf(nfnl.Table{Family: family, Name: list[i].Table}, list[i].Name)
			}
		}
		all = append(all, list...)
	}
	return all, nil
}

// forward lists the chains of one family that are in force.
func forward(ctx context.Context, c *nfnl.Conn, family byte) (list []Chain, err error) {
	dormant := make(map[string]bool)
	err = c.List(ctx, nfnl.Tables(family), nil, func(in []byte) {
		dormant[nfnl.Text(nfnl.Find(in, unix.NFTA_TABLE_NAME))] = nfnl.Number(nfnl.Find(in, unix.NFTA_TABLE_FLAGS))&nfnl.Dormant != 0
	})
	if err != nil {
		return nil, err
	}
	err = c.List(ctx, nfnl.Chains(family), func() { list = nil }, func(in []byte) {
		if one, ok := parseForward(in); ok && !dormant[one.Table] {
			one.Family = nfnl.FamilyWord(family)
			list = append(list, one)
		}
	})
	slices.SortStableFunc(list, func(a, b Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	return list, err
}

// parseForward reads a chain. It is false for one that is not at the hook.
func parseForward(in []byte) (c Chain, ok bool) {
	hook, priority := nfnl.Find(in, unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_HOOKNUM), nfnl.Find(in, unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_PRIORITY)
	if len(hook) == 0 || nfnl.Hook(nfnl.Number(hook)) != nfnl.Forward {
		return Chain{}, false
	}
	c = Chain{
		Table: nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_TABLE)), Name: nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_NAME)),
		Priority: int(int32(nfnl.Number(priority))), Policy: "accept",
	}
	if policy := nfnl.Find(in, unix.NFTA_CHAIN_POLICY); len(policy) > 0 && nfnl.Number(policy) == 0 { // NF_DROP
		c.Policy = "drop"
	}
	return c, true
}

// rulesOf asks whether a chain has rules, by a connection of its own: the rest
// of the list is not wanted.
func rulesOf(t nfnl.Table, chain string) Presence {
	c, err := nfnl.Dial()
	if err != nil {
		return Unknown
	}
	defer c.Close()
	there, err := c.Any(t.Rules(chain))
	switch {
	case err != nil:
		return Unknown
	case there:
		return Present
	}
	return Absent
}

// LegacyForward returns the policy, "accept" or "drop", of the chain FORWARD of
// iptables-legacy's table filter, and how many rules the chain has. The policy
// is "" where there is no such table, which is not made then. The costs and the
// errors are those of [Look.KubeProxy].
func LegacyForward(ctx context.Context, ipv6 bool) (policy string, rules int, err error) {
	runtime.LockOSThread() // for /proc/thread-self and the socket's namespace
	defer runtime.UnlockOSThread()

	const table = "filter"
	f := xtables.Of(ipv6)
	if exists, err := has(f, table); !exists || err != nil {
		return "", 0, err
	}
	_, err = f.Read(ctx, table, xtables.Info{}, func(t *xtables.Table) (err error) {
		policy, rules, err = t.Builtin("FORWARD")
		return err
	})
	return policy, rules, err
}
