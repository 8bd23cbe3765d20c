package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// ruleset is what was asked of nf_tables about chains and rules, each when the
// first event named it: kube-proxy may replace them a moment later.
type ruleset struct {
	c      *nfnl.Conn
	chains map[chainKey]*chain
}

type chainKey struct {
	nfnl.Table
	name string
}

// chain is one, and its rules by handle. Hook is empty for one that is only
// jumped to.
type chain struct {
	hook  string
	rules map[uint64]trace.Rule
}

func newRuleset() (*ruleset, error) {
	c, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	return &ruleset{c: c, chains: make(map[chainKey]*chain)}, nil
}

func (r *ruleset) close() { r.c.Close() }

// resolve completes an event. What is gone already stays unnamed.
func (r *ruleset) resolve(t *traceMessage) trace.Event {
	key := chainKey{nfnl.Table{Family: t.family, Name: t.table}, t.Chain}
	c := r.chains[key]
	if c == nil {
		c = r.read(key)
		r.chains[key] = c
	}
	e := t.Event
	e.Hook = c.hook
	e.Own = isOwn(t.table)
	if e.Rule == nil || e.Own {
		return e
	}
	known, ok := c.rules[e.Rule.Handle]
	if !ok { // a rule that was added since, or is gone already
		c.rules = r.rules(key)
		known = c.rules[e.Rule.Handle]
		c.rules[e.Rule.Handle] = known // and is asked for only once
	}
	known.Handle = e.Rule.Handle
	e.Rule = &known
	return e
}

// isOwn reports whether a table is a tracer's: also that of another one, which
// does the same.
func isOwn(table string) bool { return strings.HasPrefix(table, namePrefix) }

func (r *ruleset) read(key chainKey) *chain {
	c := &chain{}
	b, err := r.c.Get(key.Chain(key.name))
	if err != nil {
		return c
	}
	if hook := nfnl.Find(b, unix.NFTA_CHAIN_HOOK); hook != nil {
		c.hook = nfnl.Hook(nfnl.Number(nfnl.Find(hook, unix.NFTA_HOOK_HOOKNUM))).String()
	}
	if !isOwn(key.Name) {
		c.rules = r.rules(key)
	}
	return c
}

func (r *ruleset) rules(key chainKey) map[uint64]trace.Rule {
	rules := make(map[uint64]trace.Rule)
	_ = r.c.List(context.Background(), key.Rules(key.name), nil, func(b []byte) { // what could not be read stays unnamed
		rules[nfnl.Number(nfnl.Find(b, unix.NFTA_RULE_HANDLE))] = parseRule(key.Family == unix.NFPROTO_IPV6, b)
	})
	return rules
}

// tracks reports whether somebody translates addresses in this namespace, so
// that conntrack is at work for the family anyway.
func (r *ruleset) tracks(family byte) (bool, error) {
	nat := false
	for _, f := range []byte{family, unix.NFPROTO_INET} {
		err := r.c.List(context.Background(), nfnl.Chains(f), nil, func(b []byte) {
			nat = nat || nfnl.Text(nfnl.Find(b, unix.NFTA_CHAIN_TYPE)) == "nat"
		})
		if err != nil && !errors.Is(err, nfnl.ErrChanged) {
			return false, fmt.Errorf("list the chains of nf_tables: %w", err)
		}
	}
	return nat || hasLegacyTable(family, "nat"), nil
}

// hasLegacyTable reports whether iptables-legacy has the table, or any where
// name is "". To ask iptables itself would make the table.
func hasLegacyTable(family byte, name string) bool {
	names, _ := xtables.Of(family == unix.NFPROTO_IPV6).Tables() // none without iptables-legacy
	return name == "" && len(names) > 0 || slices.Contains(names, name)
}
