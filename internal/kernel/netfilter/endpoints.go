package netfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// The chains in which kube-proxy translates to endpoints. Of mode iptables, to
// one each (pkg/proxy/iptables/proxier.go). Of mode nftables, in a table of its
// own (pkg/proxy/nftables/proxier.go): to one each, and since 1.37, but for
// Services with affinity, in the chain of the Service to one, or to one of a map.
const endpointChain = "KUBE-SEP-"

var endpointsOfNFT = []string{"endpoint-", "service-", "local-"}

// Endpoints returns the addresses that kube-proxy's rules translate
// connections to, in order, each once: of the modes iptables, in both backends,
// and nftables. Those of mode ipvs are in no rule, and not read. Where there
// are no rules, there are none, without an error. With an error, what is
// returned is there and the rest is unknown; one that is unix.EPERM means that
// the capability is missing.
//
// It makes, loads and runs nothing, as [Look.KubeProxy], and costs 0.1 ms where
// there are no rules. For 10,000 Services it takes 140 ms of a processor with
// iptables-nft, 120 ms with nftables and 80 ms with iptables-legacy, whose table
// is copied as there; up to 15 MB of garbage pass by. ctx is looked at
// between the chains, and between the copies.
func Endpoints(ctx context.Context) ([]netip.Addr, error) {
	runtime.LockOSThread() // for /proc/thread-self and the sockets' namespace
	defer runtime.UnlockOSThread()

	var list []netip.Addr
	add := func(a netip.Addr) { list = append(list, a) }
	err := nftEndpoints(ctx, add)
	err4 := legacyEndpoints(ctx, xtables.IPv4, add)
	err6 := legacyEndpoints(ctx, xtables.IPv6, add)
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), errors.Join(err, err4, err6)
}

// nftEndpoints reads what kube-proxy has in nf_tables.
func nftEndpoints(ctx context.Context, add func(netip.Addr)) error {
	rules, err := nftRules(IPTables) // with ipvs there are no chains of endpoints
	for _, r := range rules {
		p := place{Table: nfnl.Table{Name: natTable}, chains: []string{endpointChain}}
		if r.Mode == NFTables {
			p = place{Table: nfnl.Table{Name: proxyTable}, chains: endpointsOfNFT}
		}
		if p.Family = unix.NFPROTO_IPV4; r.IPv4 {
			err = errors.Join(err, p.endpoints(ctx, add))
		}
		if p.Family = unix.NFPROTO_IPV6; r.IPv6 {
			err = errors.Join(err, p.endpoints(ctx, add))
		}
	}
	return err
}

// place is a table of nf_tables, and how the names of its chains begin that
// translate to endpoints.
type place struct {
	nfnl.Table
	chains []string
}

func (p *place) v6() bool { return p.Family == unix.NFPROTO_IPV6 }

// attempts to read a chain whose map goes with its rule.
const attempts = 10

// endpoints asks for the names of the chains, and then for the rules of each.
// For those of the table at once the kernel would begin each part of its answer
// by passing over all that it has told (__nf_tables_dump_rules in
// net/netfilter/nf_tables_api.c): for 6,000 Services of iptables-nft that takes
// 490 ms of a processor, and this 75.
func (p *place) endpoints(ctx context.Context, add func(netip.Addr)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the table %s of nf_tables: %w", p.Name, err)
		}
	}()
	c, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var names []string
	err = c.List(ctx, nfnl.Chains(p.Family), func() { names = nil }, func(chain []byte) {
		if string(nfnl.Find(chain, unix.NFTA_CHAIN_TABLE)) != p.Name+"\x00" {
			return
		}
		name := nfnl.Find(chain, unix.NFTA_CHAIN_NAME)
		if slices.ContainsFunc(p.chains, func(prefix string) bool { return strings.HasPrefix(string(name), prefix) }) {
			names = append(names, nfnl.Text(name))
		}
	})
	for _, name := range names {
		if err != nil {
			break
		}
		for range attempts {
			if err = p.chain(ctx, c, name, add); !errors.Is(err, unix.ENOENT) {
				break // or a map went with its rule, since that was read
			}
		}
	}
	return err
}

// chain asks for the rules of a chain, and for the maps without names in them.
func (p *place) chain(ctx context.Context, c *nfnl.Conn, name string, add func(netip.Addr)) error {
	var maps []string
	err := c.List(ctx, p.Rules(name), func() { maps = nil }, func(rule []byte) {
		to, among := translation(p.v6(), rule)
		if to.IsValid() {
			add(to)
		}
		if among != "" {
			maps = append(maps, among)
		}
	})
	for _, m := range maps {
		if err != nil {
			break
		}
		err = c.List(ctx, p.Elements(m), nil, func(elements []byte) { targets(p.v6(), elements, add) })
	}
	return err
}

// targets adds the addresses that the elements of a map have, each before its
// port. The kernel pads both to four bytes.
func targets(v6 bool, elements []byte, add func(netip.Addr)) {
	size := 4
	if v6 {
		size = 16
	}
	for e := range nfnl.Elements(elements) {
		if len(e.Value) == size+4 {
			to, _ := netip.AddrFromSlice(e.Value[:size])
			add(to)
		}
	}
}

// translation is the address that a rule translates a destination to, or zero,
// or the map among whose it is. iptables-nft has the target of x_tables for it.
func translation(v6 bool, rule []byte) (to netip.Addr, among string) {
	for e := range nfnl.Expressions(rule) {
		switch string(e.Name) {
		case "target":
			if name, revision, info := e.Target(); name == "DNAT" {
				to, _ = xtables.NAT(v6, revision, info)
				return to, ""
			}
		case "lookup":
			among = cmp.Or(e.Map(), among)
		case "nat":
			if to, _ = e.Translation(); to.IsValid() {
				among = ""
			}
			return to, among
		}
	}
	return netip.Addr{}, ""
}
