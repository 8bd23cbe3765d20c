package netfilter

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// Fate is what becomes of packets at a hook.
type Fate uint8

// The fates. That of which not enough is known is the zero value.
const (
	Depends Fate = iota
	Accepted
	DroppedByPolicy // of a chain whose rules accept none of them
	DroppedByRule
)

// Verdict is what becomes of packets.
type Verdict struct {
	Fate  Fate
	By    string // "rule 3 of KUBE-FORWARD, in the table ip filter of nf_tables"; "" of Accepted
	At    Spot   // the same; its chain is "" where it is none
	Frame bool   // it is a chain for all that bridges forward, also for what they do not hand over
	Of    string // the packets of which it is so, where the others are accepted: "UDP", "TCP but for the port 80"; "": all
}

// Passage is what becomes of what pods of a bridge send.
type Passage struct {
	Direct  Way // what two pods send each other by their own addresses
	Service Way // what one sends a Service that leads to the other
}

// Way is what becomes of packets at the hooks on their way.
type Way struct {
	Forward Verdict // at the hook forward
	Beside  Verdict // at the others
}

// Passages says what the hooks do to each of routes, by the rules that are there:
// in the chains of nf_tables, of which those of iptables-nft are some, and in the
// tables of iptables-legacy. A rule counts if all that it asks for is known, of a
// connection by TCP or UDP: of its first packet, a later one and a reply. With an
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

	chains, err := bases(ctx)
	if err != nil {
		return nil, err
	}
	var met []meeting
	if len(chains) > 0 {
		c, err := nfnl.Dial()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		met = meetings(c, chains)
	}
	for _, ipv6 := range []bool{false, true} {
		if slices.ContainsFunc(routes, func(r Route) bool { return r.IPv6 == ipv6 }) {
			more, err := legacyMeetings(ctx, ipv6)
			if err != nil {
				return nil, err
			}
			met = append(met, more...)
		}
	}
	slices.SortStableFunc(met, func(a, b meeting) int {
		return cmp.Or(cmp.Compare(a.hook, b.hook), cmp.Compare(a.priority, b.priority))
	})
	found := make([]Passage, len(routes))
	for i := range routes {
		mine := slices.DeleteFunc(slices.Clone(met), func(m meeting) bool { return !routes[i].meets(&m.base) })
		found[i].Direct = way(ctx, mine, &routes[i], false)
		found[i].Service = way(ctx, mine, &routes[i], true)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read the rules of the hooks: %w", err)
		}
	}
	return found, nil
}

// meeting is a base chain with its rules.
type meeting struct {
	base
	rules  table
	where  string // "the table ip filter of nf_tables"
	legacy bool
	err    error // why its rules are not known
}

// meetings are those with the chains of nf_tables.
func meetings(c *nfnl.Conn, chains []base) (list []meeting) {
	tables := make(map[nfnl.Table]*nftTable)
	for _, b := range chains {
		if b.table == proxyTable && b.family != unix.NFPROTO_BRIDGE && b.family != unix.NFPROTO_NETDEV && b.policy == "accept" {
			continue // of kube-proxy: it refuses what is for a Service without endpoints (pkg/proxy/nftables/proxier.go)
		}
		key := nfnl.Table{Family: b.family, Name: b.table}
		t := tables[key]
		if t == nil {
			t = &nftTable{Table: key, conn: c, chains: make(map[string][]chainRule), sets: make(map[string]*set)}
			tables[key] = t
		}
		list = append(list, meeting{base: b, rules: t, where: b.place()})
	}
	return list
}

// legacyMeetings are those with the chains of iptables-legacy, but for those that
// translate.
func legacyMeetings(ctx context.Context, ipv6 bool) (list []meeting, err error) {
	names, err := xtables.Of(ipv6).Tables()
	if err != nil {
		return nil, err
	}
	program, family := "iptables", byte(unix.NFPROTO_IPV4)
	if ipv6 {
		program, family = "ip6tables", unix.NFPROTO_IPV6
	}
	for _, of := range []struct {
		table    string
		priority int // NF_IP_PRI_*
	}{{"raw", -300}, {"mangle", -150}, {"filter", 0}, {"security", 50}} {
		if !slices.Contains(names, of.table) {
			continue
		}
		t, policies, err := readLegacy(ctx, ipv6, of.table)
		m := meeting{rules: t, where: fmt.Sprintf("the table %s of %s-legacy", of.table, program), legacy: true}
		m.base = base{family: family, table: of.table, priority: of.priority}
		if errors.Is(err, errTooMany) {
			m.hook, m.name, m.err = forward, "more rules than are read", errTooMany
			list = append(list, m)
			continue
		}
		if err != nil {
			return nil, err
		}
		for at, chain := range map[hook]string{prerouting: "PREROUTING", forward: "FORWARD", postrouting: "POSTROUTING"} {
			if policies[chain] != "" {
				m.hook, m.name, m.policy = at, chain, policies[chain]
				list = append(list, m)
			}
		}
	}
	return list, nil
}

// way follows what is sent by a route past the chains. Where what kube-proxy
// masquerades fares otherwise, it is found out whether it does.
func way(ctx context.Context, met []meeting, r *Route, service bool) Way {
	w := wayOf(ctx, met, r, service, false)
	if !service || w.Forward.Fate == Accepted && w.Beside.Fate == Accepted {
		return w
	}
	if other := wayOf(ctx, met, r, service, true); other != w && masquerades(ctx, r) != no {
		return other
	}
	return w
}

func wayOf(ctx context.Context, met []meeting, r *Route, service, masqueraded bool) Way {
	var w Way
	tcp, udp := follow(ctx, met, r, service, masqueraded, unix.IPPROTO_TCP), follow(ctx, met, r, service, masqueraded, unix.IPPROTO_UDP)
	w.Forward, w.Beside = together(tcp.Forward, udp.Forward), together(tcp.Beside, udp.Beside)
	return w
}

// follow is what becomes of connections by one protocol. Where that depends on the
// port, each range of ports is followed for itself.
func follow(ctx context.Context, met []meeting, r *Route, service, masqueraded bool, protocol byte) Way {
	ports := &cuts{}
	all := followPort(ctx, met, r, service, masqueraded, protocol, 0, ports)
	all.Forward.Of, all.Beside.Of = protocolWord(protocol), protocolWord(protocol)
	if len(ports.at) == 0 || ports.over || all.Forward.Fate != Depends && all.Beside.Fate != Depends {
		return all
	}
	ranges := ports.ranges()
	ways := make([]Way, len(ranges))
	for i, p := range ranges {
		ways[i] = followPort(ctx, met, r, service, masqueraded, protocol, p[0], nil)
	}
	if all.Forward.Fate == Depends {
		all.Forward = byPort(all.Forward, ranges, ways, func(w *Way) Verdict { return w.Forward })
	}
	if all.Beside.Fate == Depends {
		all.Beside = byPort(all.Beside, ranges, ways, func(w *Way) Verdict { return w.Beside })
	}
	return all
}

func protocolWord(n byte) string {
	if n == unix.IPPROTO_UDP {
		return "UDP"
	}
	return "TCP"
}

// byPort is what becomes of all where the fate of each range of ports is known, or
// v.
func byPort(v Verdict, ranges [][2]int, ways []Way, of func(*Way) Verdict) Verdict {
	var passes, ends [][2]int
	worst := Verdict{Fate: Accepted}
	for i := range ways {
		one := of(&ways[i])
		switch one.Fate {
		case Depends:
			return v
		case Accepted:
			passes = append(passes, ranges[i])
		case DroppedByPolicy, DroppedByRule:
			ends = append(ends, ranges[i])
			worst.add(one)
		}
	}
	worst.Of = v.Of
	switch {
	case len(passes) == 0 || len(ends) == 0:
	case portCount(ends) < portCount(passes):
		worst.Of += " for " + portWords(ends)
	default:
		worst.Of += " but for " + portWords(passes)
	}
	return worst
}

// together is what becomes of both protocols: what is dropped is told before what
// is not known.
func together(tcp, udp Verdict) Verdict {
	alike := tcp.Fate == udp.Fate || tcp.Drops() && udp.Drops()
	whole := tcp.Of == protocolWord(unix.IPPROTO_TCP) && udp.Of == protocolWord(unix.IPPROTO_UDP)
	switch {
	case alike && whole:
		tcp.add(udp)
		tcp.Of = ""
		return tcp
	case alike:
		if strings.Contains(udp.Of, " ") {
			tcp.Of += " and " + udp.Of
		} else { // what has no exceptions comes first
			tcp.Of = udp.Of + " and " + tcp.Of
		}
		return tcp
	case tcp.Fate == Accepted:
		return udp
	case udp.Fate == Accepted:
		return tcp
	case udp.Drops():
		tcp, udp = udp, tcp
	}
	tcp.By += fmt.Sprintf("; what becomes of %s depends on %s", strings.Fields(udp.Of)[0], udp.By)
	return tcp
}

// Drops reports that they do not pass.
func (v *Verdict) Drops() bool { return v.Fate == DroppedByPolicy || v.Fate == DroppedByRule }

// followPort is what becomes of connections for one port, or for those of which
// nothing is known; with masqueraded, kube-proxy may have marked them. Each packet has to pass.
func followPort(ctx context.Context, met []meeting, r *Route, service, masqueraded bool, protocol byte, port int, ports *cuts) Way {
	w := Way{Verdict{Fate: Accepted}, Verdict{Fate: Accepted}}
	for _, m := range moments {
		p := r.packet(service, protocol, m)
		p.port, p.ports = port, ports
		at := atIngress
		for i := range met {
			if masqueraded && m != reply && at <= prerouting && met[i].hook > prerouting { // rules of the type nat have marked it, or not
				p.mark = p.mark.forget(binary.NativeEndian.AppendUint32(nil, masqueradeMark))
			}
			at = met[i].hook
			v := met[i].pass(ctx, &p)
			if met[i].hook == forward || met[i].hook == bridgeForward {
				w.Forward.add(v)
			} else {
				w.Beside.add(v)
			}
			if v.Drops() {
				break // it comes no further
			}
		}
	}
	return w
}

// pass is what becomes of a packet at a base chain.
func (m *meeting) pass(ctx context.Context, p *packet) Verdict {
	if m.err != nil {
		return Verdict{By: m.name + ", in " + m.where}
	}
	p.hook, p.priority, p.family = m.hook, m.priority, m.family
	w := walk{table: m.rules, p: p, left: maxRules}
	out, err := w.through(ctx, m.name, 0)
	v := w.fate(out, err, m.name, m.policy)
	v.Frame = m.hook.frames()
	v.At.Table, v.At.Legacy = m.table, m.legacy
	if v.At.Chain == "" || m.family != unix.NFPROTO_IPV4 && m.family != unix.NFPROTO_IPV6 {
		v.At = Spot{} // iptables has no table there
	}
	if v.By != "" {
		v.By += ", in " + m.where
	}
	return v
}

// fate is what becomes of a packet that may leave a base chain in those ways.
func (w *walk) fate(out ends, err error, chain, policy string) Verdict {
	v := Verdict{}
	falls := out&mayEnd != 0
	switch {
	case err != nil:
		v.By = chain + ": " + err.Error()
	case out&mayDrop == 0 && (!falls || policy == "accept"):
		v.Fate = Accepted
	case out&mayPass == 0 && falls && policy == "drop":
		v.Fate, v.At = DroppedByPolicy, Spot{Chain: chain}
	case out == mayDrop:
		v.Fate, v.At = DroppedByRule, w.dropped
	default:
		v.At = cmp.Or(w.depends, w.dropped, Spot{Chain: chain})
	}
	if v.At.Chain != "" {
		v.By = v.At.String()
	}
	return v
}

// add is what becomes of packets that come to another chain, too: one that drops
// them has the last word.
func (v *Verdict) add(other Verdict) {
	worse := map[Fate]int{Accepted: 0, Depends: 1, DroppedByRule: 2, DroppedByPolicy: 3}
	if worse[other.Fate] > worse[v.Fate] {
		of := v.Of
		*v = other
		if v.Of == "" {
			v.Of = of
		}
	}
}
