package netfilter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
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
// is copied as there; up to 4 MB are garbage afterwards. ctx is looked at
// between the chains, and between the copies.
func Endpoints(ctx context.Context) ([]netip.Addr, error) {
	runtime.LockOSThread() // for /proc/thread-self and the sockets' namespace
	defer runtime.UnlockOSThread()

	var list []netip.Addr
	add := func(a netip.Addr) { list = append(list, a) }
	err := nftEndpoints(ctx, add)
	err4 := ipv4Family.endpoints(ctx, add)
	err6 := ipv6Family.endpoints(ctx, add)
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), errors.Join(err, err4, err6)
}

// nftEndpoints reads what kube-proxy has in nf_tables.
func nftEndpoints(ctx context.Context, add func(netip.Addr)) error {
	rules, err := nftRules(IPTables) // with ipvs there are no chains of endpoints
	for _, r := range rules {
		p := place{table: natTable, chains: []string{endpointChain}}
		if r.Mode == NFTables {
			p = place{table: proxyTable, chains: endpointsOfNFT}
		}
		if p.family = unix.NFPROTO_IPV4; r.IPv4 {
			err = errors.Join(err, p.endpoints(ctx, add))
		}
		if p.family = unix.NFPROTO_IPV6; r.IPv6 {
			err = errors.Join(err, p.endpoints(ctx, add))
		}
	}
	return err
}

// place is a table of nf_tables, and how the names of its chains begin that
// translate to endpoints.
type place struct {
	family byte
	table  string
	chains []string
}

// endpoints asks for the names of the chains, and then for the rules of each.
// For those of the table at once the kernel would begin each part of its answer
// by passing over all that it has told (__nf_tables_dump_rules in
// net/netfilter/nf_tables_api.c): for 6,000 Services of iptables-nft that takes
// 490 ms of a processor, and this 75.
func (p *place) endpoints(ctx context.Context, add func(netip.Addr)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the table %s of nf_tables: %w", p.table, err)
		}
	}()
	d, err := openDumper()
	if err != nil {
		return err
	}
	defer d.close()
	var names []byte // each with its zero
	err = d.whole(ctx, newRequest(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, p.family), func() { names = nil }, func(chain []byte) {
		name := attr(chain, unix.NFTA_CHAIN_NAME)
		begins := func(prefix string) bool { return bytes.HasPrefix(name, []byte(prefix)) }
		if string(attr(chain, unix.NFTA_CHAIN_TABLE)) == p.table+"\x00" && slices.ContainsFunc(p.chains, begins) {
			names = append(names, name...)
		}
	})
	for err == nil && len(names) > 0 {
		name, rest, _ := bytes.Cut(names, []byte{0})
		names = rest
		for range attempts {
			if err = p.chain(ctx, d, name, add); !errors.Is(err, unix.ENOENT) {
				break // or a map went with its rule, since that was read
			}
		}
	}
	return err
}

// chain asks for the rules of a chain, and for the maps without names in them.
func (p *place) chain(ctx context.Context, d *dumper, name []byte, add func(netip.Addr)) error {
	ask := func(message, table, in uint16, what []byte) []byte {
		request := appendString(newRequest(message, unix.NLM_F_DUMP, p.family), table, p.table)
		return appendString(request, in, what)
	}
	v6 := p.family == unix.NFPROTO_IPV6
	var maps [][]byte
	err := d.whole(ctx, ask(unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, name), func() { maps = nil }, func(rule []byte) {
		to, among := translation(v6, attr(rule, unix.NFTA_RULE_EXPRESSIONS))
		if to.IsValid() {
			add(to)
		}
		if len(among) > 0 {
			maps = append(maps, bytes.Clone(among))
		}
	})
	for _, m := range maps {
		if err != nil {
			break
		}
		err = d.whole(ctx, ask(unix.NFT_MSG_GETSETELEM, unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET, m), func() {}, func(elements []byte) {
			targets(v6, attr(elements, unix.NFTA_SET_ELEM_LIST_ELEMENTS), add)
		})
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
	for _, e := range rtnl.Attrs(elements) {
		value := attr(attr(e, unix.NFTA_SET_ELEM_DATA), unix.NFTA_DATA_VALUE)
		if len(value) == size+4 {
			to, _ := netip.AddrFromSlice(value[:size])
			add(to)
		}
	}
}

// translation is the address that the expressions of a rule translate a
// destination to, or zero, or the map among whose it is. iptables-nft has the
// target of x_tables for it; "nft" loads a register, and translates to that.
func translation(v6 bool, expressions []byte) (to netip.Addr, among []byte) {
	var registers [unix.NFT_REG32_15 + 1][]byte
	register := func(b []byte) *[]byte {
		if len(b) != 4 || binary.BigEndian.Uint32(b) >= uint32(len(registers)) {
			return new([]byte)
		}
		return &registers[binary.BigEndian.Uint32(b)]
	}
	for _, e := range rtnl.Attrs(expressions) {
		data := attr(e, unix.NFTA_EXPR_DATA)
		switch string(attr(e, unix.NFTA_EXPR_NAME)) {
		case "target\x00":
			revision := attr(data, unix.NFTA_TARGET_REV)
			if string(attr(data, unix.NFTA_TARGET_NAME)) == "DNAT\x00" && len(revision) == 4 {
				return natRange(v6, revision[3], attr(data, unix.NFTA_TARGET_INFO)), nil
			}
		case "immediate\x00":
			*register(attr(data, unix.NFTA_IMMEDIATE_DREG)) = attr(attr(data, unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VALUE)
		case "lookup\x00":
			if name := attr(data, unix.NFTA_LOOKUP_SET); len(name) > 0 && len(attr(data, unix.NFTA_LOOKUP_DREG)) > 0 {
				among = name[:len(name)-1] // without its zero
			}
		case "nat\x00":
			to, ok := netip.AddrFromSlice(*register(attr(data, unix.NFTA_NAT_REG_ADDR_MIN)))
			if ok {
				among = nil
			}
			return to, among
		}
	}
	return netip.Addr{}, nil
}

// endpoints reads the table nat of iptables-legacy, if there is one.
func (f *family) endpoints(ctx context.Context, add func(netip.Addr)) error {
	if exists, err := f.hasNAT(); !exists || err != nil {
		return err
	}
	_, err := f.entries(ctx, tableInfo{}, func(b []byte) error {
		if used, err := f.layout.hasServices(b); !used || err != nil {
			return err
		}
		return f.layout.endpoints(f == &ipv6Family, b, add)
	})
	return err
}

// endpoints adds those of the entries of a table nat; for the chains in it see
// hasServices.
func (l *layout) endpoints(v6 bool, b []byte, add func(netip.Addr)) error {
	head, inside := []byte(errorTarget+"\x00"), false
	return l.each(b, func(_, _ int, _, t []byte) bool {
		switch name := t[targetName : targetHeader-1]; {
		case bytes.HasPrefix(name, head):
			inside = bytes.HasPrefix(t[targetHeader:], []byte(endpointChain))
		case inside && bytes.HasPrefix(name, []byte("DNAT\x00")):
			if to := natRange(v6, t[targetHeader-1], t[targetHeader:]); to.IsValid() {
				add(to)
			}
		}
		return true
	})
}

// natRange is the first address that the target DNAT translates to: of a struct
// nf_nat_ipv4_multi_range_compat in revision 0, which is of IPv4, and of a
// struct nf_nat_range from revision 1 on. It is zero where only the port is
// translated.
func natRange(v6 bool, revision uint8, info []byte) netip.Addr {
	const mapsAddress = 1 << 0 // NF_NAT_RANGE_MAP_IPS
	at := 4                    // behind the flags
	if revision == 0 {
		at = 8 // and behind the number of ranges
	}
	size := 4
	if v6 {
		size = 16
	}
	if len(info) < at+size || binary.NativeEndian.Uint32(info[at-4:])&mapsAddress == 0 {
		return netip.Addr{}
	}
	to, _ := netip.AddrFromSlice(info[at : at+size])
	return to
}
