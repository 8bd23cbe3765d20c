package kernel

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/trace"
)

// ruleset is what was asked of nf_tables about chains and rules, each when the
// first event named it: kube-proxy may replace them a moment later.
type ruleset struct {
	s      socket
	chains map[chainKey]*chain
}

type chainKey struct {
	family      byte
	table, name string
}

// chain is one, and its rules by handle. Hook is empty for one that is only
// jumped to.
type chain struct {
	hook  string
	rules map[uint64]trace.Rule
}

func newRuleset() (*ruleset, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	return &ruleset{s: s, chains: make(map[chainKey]*chain)}, nil
}

func (r *ruleset) close() { r.s.close() }

// resolve completes an event. What is gone already stays unnamed.
func (r *ruleset) resolve(t *told) trace.Event {
	key := chainKey{t.family, t.table, t.Chain}
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
	answers, err := r.s.ask(message(unix.NFT_MSG_GETCHAIN, 0, key.family, attrs{}.
		text(unix.NFTA_CHAIN_TABLE, key.table).text(unix.NFTA_CHAIN_NAME, key.name)))
	if err != nil || len(answers) == 0 {
		return c
	}
	if hook := find(answers[0], unix.NFTA_CHAIN_HOOK); hook != nil {
		c.hook = hookName(number(find(hook, unix.NFTA_HOOK_HOOKNUM)))
	}
	if !isOwn(key.table) {
		c.rules = r.rules(key)
	}
	return c
}

func (r *ruleset) rules(key chainKey) map[uint64]trace.Rule {
	answers, _ := r.s.ask(message(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, key.family, attrs{}.
		text(unix.NFTA_RULE_TABLE, key.table).text(unix.NFTA_RULE_CHAIN, key.name)))
	rules := make(map[uint64]trace.Rule, len(answers))
	for _, a := range answers {
		rules[number(find(a, unix.NFTA_RULE_HANDLE))] = parseRule(a)
	}
	return rules
}

// tracks reports whether somebody translates addresses in this namespace, so
// that conntrack is at work for the family anyway.
func (r *ruleset) tracks(family byte) (bool, error) {
	for _, f := range []byte{family, unix.NFPROTO_INET} {
		answers, err := r.s.ask(message(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, f, nil))
		if err != nil {
			return false, fmt.Errorf("list the chains of nf_tables: %w", err)
		}
		for _, a := range answers {
			if unix.ByteSliceToString(find(a, unix.NFTA_CHAIN_TYPE)) == "nat" {
				return true, nil
			}
		}
	}
	return hasLegacyTable(family, "nat"), nil
}

// hasLegacyTable reports whether iptables-legacy has the table, or any where
// name is "". To ask iptables itself would make the table.
func hasLegacyTable(family byte, name string) bool {
	file := "/proc/thread-self/net/ip_tables_names"
	if family == unix.NFPROTO_IPV6 {
		file = "/proc/thread-self/net/ip6_tables_names"
	}
	names, err := os.ReadFile(file)
	if err != nil {
		return false // no iptables-legacy in this kernel
	}
	for n := range strings.FieldsSeq(string(names)) {
		if name == "" || n == name {
			return true
		}
	}
	return false
}
