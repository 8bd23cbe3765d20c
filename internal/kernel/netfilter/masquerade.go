package netfilter

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// masqueradeMark is the bit of the mark by which kube-proxy knows what it
// masquerades, and which its rules in FORWARD let through.
const masqueradeMark = 0x4000

// How kube-proxy names the chains of a Service, and that in which it marks what it
// masquerades, in the modes iptables and nftables (pkg/proxy).
const (
	serviceChain    = "KUBE-SVC-"
	markChain       = "KUBE-MARK-MASQ"
	nftServiceChain = "service-"
	nftMarkChain    = "mark-for-masquerade"
)

// mostServices is how many Services' chains are looked at: kube-proxy treats all
// alike.
const mostServices = 3

// masquerades says whether kube-proxy masquerades what a pod sends a Service that is
// not its own, as with --masquerade-all, or where --cluster-cidr does not have the
// pod's address.
func masquerades(ctx context.Context, r *Route) answer {
	p := r.packet(false, unix.IPPROTO_TCP, first)
	p.hook, p.priority, p.To = prerouting, natPriority, p.From // whatever its destination is
	p.service = true
	got := no
	judge := func(t table, chain, mark string) {
		rules, err := t.rules(ctx, chain)
		if err != nil {
			got = got.or(perhaps)
		}
		for _, one := range rules[:min(len(rules), maxRules)] {
			for _, s := range one.meet(ctx, &p) {
				if s.chain == mark {
					got = got.or(perhaps)
				}
			}
		}
	}
	if nfnl.Loaded() {
		if err := nftServices(ctx, r.IPv6, judge); err != nil {
			got = got.or(perhaps)
		}
	}
	exists, err := hasNAT(xtables.Of(r.IPv6))
	if exists && err == nil {
		var t legacyRules
		if t, _, err = readLegacy(ctx, r.IPv6, natTable); err == nil {
			for chain := range t {
				if strings.HasPrefix(chain, serviceChain) || chain == servicesChain {
					judge(t, chain, markChain)
				}
			}
		}
	}
	if err != nil {
		got = got.or(perhaps)
	}
	return got
}

// nftServices calls do with the chains of some Services in nf_tables, or with that of
// all of them, as mode ipvs has it.
func nftServices(ctx context.Context, ipv6 bool, do func(t table, chain, mark string)) error {
	c, err := nfnl.Dial()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	family := byte(unix.NFPROTO_IPV4)
	if ipv6 {
		family = unix.NFPROTO_IPV6
	}
	found := make(map[string][]string) // the chains, by the table
	err = c.List(ctx, nfnl.Chains(family), func() { clear(found) }, func(in []byte) {
		t, name := nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_TABLE)), nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_NAME))
		if len(found[t]) < mostServices && (t == natTable && strings.HasPrefix(name, serviceChain) || t == proxyTable && strings.HasPrefix(name, nftServiceChain)) {
			found[t] = append(found[t], name)
		}
	})
	if err != nil {
		return err
	}
	if len(found[natTable]) == 0 {
		found[natTable] = []string{servicesChain}
	}
	for _, of := range []struct{ table, mark string }{{natTable, markChain}, {proxyTable, nftMarkChain}} {
		t := &nftTable{Table: nfnl.Table{Family: family, Name: of.table}, conn: c, chains: make(map[string][]chainRule), sets: make(map[string]*set)}
		if slices.Equal(found[of.table], []string{servicesChain}) {
			if there, err := c.Get(t.Chain(servicesChain)); there == nil || err != nil {
				continue
			}
		}
		for _, chain := range found[of.table] {
			do(t, chain, of.mark)
		}
	}
	return nil
}
