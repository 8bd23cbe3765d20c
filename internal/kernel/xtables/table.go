package xtables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Table is a table as the kernel returns it. The errors of its methods say that the
// bytes are not a valid table.
type Table struct {
	*Family
	info    Info
	entries []byte
}

// layout says where the fields are in a struct ipt_entry or ip6t_entry, which begins
// with the addresses and so on that it matches: a struct ipt_ip or ip6t_ip6.
type layout struct {
	targetOffset int // u16: where the target begins
	nextOffset   int // u16: where the next entry begins
	size         int // of the struct; matches and target follow it
}

var (
	ipv4Entry = layout{targetOffset: 88, nextOffset: 90, size: 112}
	ipv6Entry = layout{targetOffset: 140, nextOffset: 142, size: 168}
)

// A target is a struct xt_entry_target: a size, a name, a revision. In the target
// ERROR a chain's name follows (struct xt_error_target).
const (
	targetName   = 2
	targetHeader = 32
	errorTarget  = "ERROR"
)

// entry is an entry of a table: its offset, that of the next one, its matches and
// its target, which has at least a header.
type entry struct {
	at, next        int
	matches, target []byte
}

// head is the name of the chain that begins after the entry, and the bytes after the
// name. A user-defined chain begins with such an entry, and ends with an entry that
// is no rule but returns; after that the next chain begins.
func (e *entry) head() (chain []byte, ok bool) {
	return e.target[targetHeader:], e.hasTarget(errorTarget + "\x00")
}

func (e *entry) hasTarget(name string) bool {
	return string(e.target[targetName:min(targetName+len(name), targetHeader)]) == name
}

// each calls f with each entry, until f returns false.
func (t *Table) each(f func(entry) bool) error {
	b, l := t.entries, &t.layout
	for at := 0; at < len(b); {
		e := b[at:]
		if len(e) < l.size {
			return fmt.Errorf("entry at %d of %d is cut off", at, len(b))
		}
		target := int(binary.NativeEndian.Uint16(e[l.targetOffset:]))
		next := int(binary.NativeEndian.Uint16(e[l.nextOffset:]))
		if target < l.size || next < target+targetHeader || next > len(e) {
			return fmt.Errorf("entry at %d of %d is malformed", at, len(b))
		}
		if !f(entry{at, at + next, e[l.size:target], e[target:next]}) {
			return nil
		}
		at += next
	}
	return nil
}

// Uses reports whether there is a user-defined chain of that name with at least one
// rule.
func (t *Table) Uses(chain string) (bool, error) {
	name := []byte(chain + "\x00")
	inside, entries, found := false, 0, false
	err := t.each(func(e entry) bool {
		if head, ok := e.head(); ok {
			inside, entries = bytes.HasPrefix(head, name), 0
		} else if inside {
			entries++
			found = entries > 1
		}
		return !found
	})
	return found, err
}

// Destinations calls f with the first address that each target DNAT translates to,
// in user-defined chains whose name begins with chains.
func (t *Table) Destinations(chains string, f func(netip.Addr)) error {
	prefix, inside := []byte(chains), false
	return t.each(func(e entry) bool {
		if head, ok := e.head(); ok {
			inside = bytes.HasPrefix(head, prefix)
		} else if inside && e.hasTarget("DNAT\x00") {
			if to, _ := NAT(t.layout == ipv6Entry, e.target[targetHeader-1], e.target[targetHeader:]); to.IsValid() {
				f(to)
			}
		}
		return true
	})
}

// NAT reads what a target DNAT or SNAT translates to: the first address and the
// first port, each zero if it is not translated. Revision 0 has a struct
// nf_nat_ipv4_multi_range_compat, later ones have a struct nf_nat_range.
func NAT(v6 bool, revision uint8, info []byte) (to netip.Addr, port uint16) {
	const addresses, ports = 1 << 0, 1 << 1 // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED
	var flags uint32
	var a, p []byte
	switch {
	case revision == 0 && !v6 && len(info) >= 20:
		flags, a, p = binary.NativeEndian.Uint32(info[4:]), info[8:12], info[16:]
	case revision > 0 && len(info) >= 40:
		flags, a, p = binary.NativeEndian.Uint32(info), info[4:20], info[36:]
		if !v6 {
			a = a[:4]
		}
	}
	if flags&addresses != 0 {
		to, _ = netip.AddrFromSlice(a)
	}
	if flags&ports != 0 {
		port = binary.BigEndian.Uint16(p)
	}
	return to, port
}

// Rule is a rule without its matches, apart from the comment.
type Rule struct {
	Chain   string
	Number  int    // its position in the chain, from 1
	Comment string // of the match comment
	Target  string // the name of its target; "" if it has a verdict
	Verdict string // "accept", "drop", "return" or "jump CHAIN" where Target is ""

	// The target's data, in the layout of linux/netfilter.
	Revision uint8
	Info     []byte

	Header        // what it asks of any packet
	Goto   bool   // its jump does not come back
	Asks   []byte // its matches: see [Rule.Matches]
}

// builtin are the chains of the hooks, in the order of enum nf_inet_hooks.
var builtin = [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// builtins returns the built-in chains by the offset of their first entry.
func (t *Table) builtins() map[int]string {
	chains := make(map[int]string)
	for hook, name := range builtin {
		if t.info.at(0)&(1<<hook) != 0 {
			chains[t.info.at(1+hook)] = name
		}
	}
	return chains
}

// Builtin returns the policy of a built-in chain, and how many rules it has.
func (t *Table) Builtin(chain string) (policy string, rules int, err error) {
	hook := slices.Index(builtin[:], chain)
	if hook < 0 || t.info.at(0)&(1<<hook) == 0 {
		return "", 0, fmt.Errorf("it has no chain %s", chain)
	}
	first, last := t.info.at(1+hook), t.info.at(6+hook) // hook_entry, underflow
	err = t.each(func(e entry) bool {
		switch {
		case e.at == last && e.hasTarget("\x00") && len(e.target) >= targetHeader+4:
			policy = standard(int32(binary.NativeEndian.Uint32(e.target[targetHeader:])), nil)
		case e.at >= first:
			rules++
		}
		return e.at < last
	})
	if err == nil && policy != "accept" && policy != "drop" {
		err = fmt.Errorf("its chain %s has no policy", chain)
	}
	if err != nil {
		return "", 0, err
	}
	return policy, rules, nil
}

// Rules returns all rules; the policy of a built-in chain is its last rule. It goes
// through the table twice, because a rule can jump to a later chain.
func (t *Table) Rules() ([]Rule, error) {
	chains := t.builtins()
	err := t.each(func(e entry) bool {
		if head, ok := e.head(); ok {
			chains[e.next] = unix.ByteSliceToString(head)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var rules []Rule
	chain, number := "", 0
	err = t.each(func(e entry) bool {
		if name, ok := chains[e.at]; ok {
			chain, number = name, 0
		}
		number++
		r := Rule{Chain: chain, Number: number, Comment: comment(e.matches), Info: bytes.Clone(e.target[targetHeader:]), Asks: bytes.Clone(e.matches)}
		r.Header, r.Goto = t.header(t.entries[e.at:])
		r.Target = unix.ByteSliceToString(e.target[targetName : targetHeader-1])
		r.Revision = e.target[targetHeader-1]
		switch r.Target {
		case errorTarget: // the beginning of a chain, or the end of the table
			return true
		case "":
			if len(r.Info) >= 4 {
				r.Verdict = standard(int32(binary.NativeEndian.Uint32(r.Info)), chains)
			}
		}
		rules = append(rules, r)
		return true
	})
	return rules, err
}

// standard is the verdict of a target without a name: the offset to jump to, or a
// verdict, stored as -NF_DROP - 1 and so on; return is -NF_REPEAT - 1.
func standard(verdict int32, chains map[int]string) string {
	switch verdict {
	case -1:
		return "drop"
	case -2:
		return "accept"
	case -4:
		return "queue"
	case -5:
		return "return"
	}
	return "jump " + chains[int(verdict)]
}

// comment finds a struct xt_comment_info among the matches of an entry, each a
// struct xt_entry_match with the same header as a target.
func comment(matches []byte) string {
	for len(matches) >= targetHeader {
		size := int(binary.NativeEndian.Uint16(matches))
		if size < targetHeader || size > len(matches) {
			return ""
		}
		if unix.ByteSliceToString(matches[targetName:targetHeader-1]) == "comment" {
			return unix.ByteSliceToString(matches[targetHeader:size])
		}
		matches = matches[size:]
	}
	return ""
}
