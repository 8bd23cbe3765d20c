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

// Fate is what becomes of packets at the hook forward.
type Fate uint8

// The fates. That of which not enough is known is the zero value.
const (
	Depends Fate = iota
	Accepted
	DroppedByPolicy // of a chain whose rules accept none of them
	DroppedByRule
)

// Passage is what becomes of what two pods of a bridge send each other.
type Passage struct {
	Fate  Fate
	By    string // "rule 3 of KUBE-FORWARD, in the table filter of iptables-nft"; "" of Accepted
	At    Spot   // the same; its chain is "" where it is none
	Frame bool   // it is a chain for all that bridges forward, also for what they do not hand over
}

// Passages says what the hook forward does to each of routes, by the rules that
// are there: in the chains of nf_tables, of which those of iptables-nft are some,
// and in the tables of iptables-legacy. A rule counts if all that it asks for is
// known, of a connection by TCP or UDP, its first packet and a later one. With an
// error, which can be unix.EPERM, nothing is known.
//
// It makes, loads and runs nothing. ctx is looked at between the parts of what is
// read, which are the chains that the packets meet, up to 10,000 rules.
func Passages(ctx context.Context, routes []Route) ([]Passage, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	runtime.LockOSThread() // for /proc/thread-self and the sockets' namespace
	defer runtime.UnlockOSThread()

	found := make([]Passage, len(routes))
	for i := range found {
		found[i].Fate = Accepted
	}
	if err := nftPassages(ctx, routes, found); err != nil {
		return nil, err
	}
	for _, ipv6 := range []bool{false, true} {
		if !slices.ContainsFunc(routes, func(r Route) bool { return r.IPv6 == ipv6 }) {
			continue
		}
		if err := legacyPassages(ctx, ipv6, routes, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// meets reports whether packets of a route come to a chain of that family.
func (r *Route) meets(family string) bool {
	switch family {
	case "ip":
		return !r.IPv6
	case "ip6":
		return r.IPv6
	}
	return true
}

// nftPassages follows routes through the chains of nf_tables.
func nftPassages(ctx context.Context, routes []Route, found []Passage) error {
	chains, err := Forward(ctx)
	if err != nil || len(chains) == 0 {
		return err
	}
	c, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	tables := make(map[nfnl.Table]*nftTable)
	for _, b := range chains {
		if b.Table == proxyTable && b.Family != "bridge" && b.Policy == "accept" {
			continue // of kube-proxy: it refuses what is for a Service without endpoints (pkg/proxy/nftables/proxier.go)
		}
		key := nfnl.Table{Family: familyNumber(b.Family), Name: b.Table}
		t := tables[key]
		if t == nil {
			t = &nftTable{Table: key, conn: c, chains: make(map[string][]chainRule), sets: make(map[string][]nfnl.Element)}
			tables[key] = t
		}
		place := fmt.Sprintf("the table %s %s of nf_tables", b.Family, b.Table)
		for i := range routes {
			if !routes[i].meets(b.Family) {
				continue
			}
			p := passage(ctx, t, &routes[i], b.Name, b.Policy, b.Family == "bridge")
			p.At.Table = b.Table
			if b.Family == "inet" || b.Family == "bridge" {
				p.At = Spot{} // iptables has no table there
			}
			if p.By != "" {
				p.By += ", in " + place
			}
			found[i].add(p)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the rules of %s: %w", place, err)
		}
	}
	return nil
}

func familyNumber(word string) byte {
	for _, n := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET, unix.NFPROTO_BRIDGE} {
		if nfnl.FamilyWord(n) == word {
			return n
		}
	}
	return unix.NFPROTO_UNSPEC
}

// legacyPassages follows routes through the tables of iptables-legacy.
func legacyPassages(ctx context.Context, ipv6 bool, routes []Route, found []Passage) error {
	names, err := xtables.Of(ipv6).Tables()
	if err != nil {
		return err
	}
	program := "iptables"
	if ipv6 {
		program = "ip6tables"
	}
	for _, name := range []string{"mangle", "filter", "security"} {
		if !slices.Contains(names, name) {
			continue
		}
		t, policy, err := readLegacy(ctx, ipv6, name)
		place := fmt.Sprintf("the table %s of %s-legacy", name, program)
		for i := range routes {
			if routes[i].IPv6 != ipv6 {
				continue
			}
			p := Passage{By: "what could not be read"}
			switch {
			case err == nil:
				p = passage(ctx, t, &routes[i], "FORWARD", policy, false)
				p.At.Table, p.At.Legacy = name, true
			case errors.Is(err, errTooMany):
				p.By = "more rules than are read"
			default:
				return err
			}
			if p.By != "" {
				p.By += ", in " + place
			}
			found[i].add(p)
		}
	}
	return nil
}

// passage follows the packets of a route through a base chain. Of a connection
// the worst counts; where those of one protocol fare otherwise than those of the
// other, it depends.
func passage(ctx context.Context, t table, r *Route, chain, policy string, frame bool) Passage {
	var each []Passage
	for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		all := Passage{Fate: Accepted, Frame: frame}
		for _, state := range []uint32{stateNew, stateEstablished} {
			p := r.packet(protocol, state, frame)
			w := walk{table: t, p: &p, left: maxRules}
			out, err := w.through(ctx, chain, 0)
			all.add(w.fate(out, err, chain, policy, frame))
		}
		each = append(each, all)
	}
	if tcp, udp := each[0], each[1]; tcp.Fate != udp.Fate {
		if tcp.Fate != Depends {
			if udp.Fate == Depends {
				return udp
			}
			tcp.add(udp)
		}
		tcp.Fate = Depends
		return tcp
	}
	return each[0]
}

// fate is what becomes of a packet that may leave a base chain in those ways.
func (w *walk) fate(out ends, err error, chain, policy string, frame bool) Passage {
	p := Passage{Frame: frame}
	falls := out&mayEnd != 0
	switch {
	case err != nil:
		p.By = chain + ": " + err.Error()
	case out&mayDrop == 0 && (!falls || policy == "accept"):
		p.Fate = Accepted
	case out&mayPass == 0 && falls && policy == "drop":
		p.Fate, p.At = DroppedByPolicy, Spot{Chain: chain}
	case out == mayDrop:
		p.Fate, p.At = DroppedByRule, w.dropped
	default:
		p.At = cmp.Or(w.depends, w.dropped, Spot{Chain: chain})
	}
	if p.At.Chain != "" {
		p.By = p.At.String()
	}
	return p
}

// add is what becomes of packets that come to another chain, too: one that drops
// them has the last word.
func (p *Passage) add(other Passage) {
	worse := map[Fate]int{Accepted: 0, Depends: 1, DroppedByRule: 2, DroppedByPolicy: 3}
	if worse[other.Fate] > worse[p.Fate] {
		*p = other
	}
}
