package services

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
)

// What kube-proxy's mode nftables makes (pkg/proxy/nftables/proxier.go).
const (
	proxyTable     = "kube-proxy"
	serviceMap     = "service-ips" // address . protocol . port → goto a chain
	servicePrefix  = "service-"    // of a cluster IP; "external-" of others
	localPrefix    = "local-"      // the same with internalTrafficPolicy: Local
	endpointPrefix = "endpoint-"   // where there is a choice to be remembered; before 1.37 always
)

// NFTables reads the Services of one family from kube-proxy's table, which has
// to be there, in the network namespace of the calling thread. It asks once for
// the map, once for each Service and once for each endpoint; ctx is looked at
// in between.
func NFTables(ctx context.Context, v6 bool) ([]Service, error) {
	// The socket stays in the namespace in which it is opened. To keep the
	// thread for longer would make each answer wait for it.
	runtime.LockOSThread()
	c, err := nftables.New(nftables.AsLasting())
	runtime.UnlockOSThread()
	if err != nil {
		return nil, err
	}
	defer c.CloseLasting() //nolint:errcheck // it was only read from
	t := &nftables.Table{Name: proxyTable, Family: nftables.TableFamilyIPv4}
	if v6 {
		t.Family = nftables.TableFamilyIPv6
	}
	r := &reader{c, t, map[string]netip.AddrPort{}}
	elements, err := r.elements(serviceMap)
	if err != nil {
		return nil, err
	}
	var list []Service
	for _, e := range elements {
		at, protocol, ok := parseKey(e.Key)
		chain := verdictChain(e.Val)
		if !ok || !strings.HasPrefix(chain, servicePrefix) && !strings.HasPrefix(chain, localPrefix) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := Service{Name: nameOf(chain), ClusterIP: at, Protocol: protocol}
		if s.Endpoints, err = r.endpoints(chain); err != nil {
			return nil, err
		}
		if len(s.Endpoints) > 0 {
			list = append(list, s)
		}
	}
	Sort(list)
	return list, nil
}

type reader struct {
	c     *nftables.Conn
	t     *nftables.Table
	known map[string]netip.AddrPort // endpoints by chain: several Services have the same
}

func (r *reader) elements(set string) ([]nftables.SetElement, error) {
	e, err := r.c.GetSetElements(&nftables.Set{Table: r.t, Name: set})
	if err != nil {
		return nil, fmt.Errorf("read the map %s of kube-proxy's table: %w", set, err)
	}
	return e, nil
}

func (r *reader) rules(chain string) ([]*nftables.Rule, error) {
	rules, err := r.c.GetRules(r.t, &nftables.Chain{Name: chain})
	if err != nil {
		return nil, fmt.Errorf("read the chain %s of kube-proxy's table: %w", chain, err)
	}
	return rules, nil
}

// endpoints returns those that the rules of a Service's chain lead to. Which one
// takes a connection is decided by chance, through a map without a name: of
// addresses and ports (since kube-proxy 1.37, where one that is alone is
// translated to without a map), or of chains that translate to one each (before,
// and for Services with affinity).
func (r *reader) endpoints(service string) ([]netip.AddrPort, error) {
	rules, err := r.rules(service)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, rule := range rules {
		if a := translation(rule); a.IsValid() {
			list = append(list, a)
		}
		for _, e := range rule.Exprs {
			var chains []string
			switch e := e.(type) {
			case *expr.Verdict:
				chains = append(chains, e.Chain)
			case *expr.Lookup:
				if !e.IsDestRegSet { // a set, and no map
					continue
				}
				elements, err := r.elements(e.SetName)
				if err != nil {
					return nil, err
				}
				for _, el := range elements {
					if a := parseTarget(el.Val); a.IsValid() && translates(rule) {
						list = append(list, a)
						continue
					}
					chains = append(chains, verdictChain(el.Val))
				}
			}
			for _, chain := range chains {
				a, err := r.target(chain)
				if err != nil {
					return nil, err
				}
				if a.IsValid() {
					list = append(list, a)
				}
			}
		}
	}
	return list, nil
}

// target is where an endpoint's chain translates to, or zero for another chain.
func (r *reader) target(chain string) (a netip.AddrPort, err error) {
	if !strings.HasPrefix(chain, endpointPrefix) {
		return netip.AddrPort{}, nil
	}
	a, ok := r.known[chain]
	if ok {
		return a, nil
	}
	rules, err := r.rules(chain)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, rule := range rules {
		if a = translation(rule); a.IsValid() {
			break
		}
	}
	r.known[chain] = a
	return a, nil
}

// translates reports whether a rule changes addresses.
func translates(rule *nftables.Rule) bool {
	return slices.ContainsFunc(rule.Exprs, func(e expr.Any) bool { _, ok := e.(*expr.NAT); return ok })
}

// translation is the one address and port that a rule translates to, or zero.
func translation(rule *nftables.Rule) netip.AddrPort {
	registers := map[uint32][]byte{}
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Immediate:
			registers[e.Register] = e.Data
		case *expr.NAT:
			addr, ok := netip.AddrFromSlice(registers[e.RegAddrMin])
			port := registers[e.RegProtoMin]
			if ok && len(port) >= 2 {
				return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
			}
		}
	}
	return netip.AddrPort{}
}

// parseTarget reads an element of a map of addresses and ports, each padded to
// four bytes. It is zero where it is none.
func parseTarget(b []byte) netip.AddrPort {
	if len(b) != 8 && len(b) != 20 {
		return netip.AddrPort{}
	}
	addr, _ := netip.AddrFromSlice(b[:len(b)-4])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[len(b)-4:]))
}

// parseKey reads a key of the map: an address, a protocol and a port, each
// padded to four bytes.
func parseKey(b []byte) (netip.AddrPort, Protocol, bool) {
	if len(b) != 12 && len(b) != 24 {
		return netip.AddrPort{}, "", false
	}
	n := len(b) - 8
	addr, _ := netip.AddrFromSlice(b[:n])
	at := netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[n+4:]))
	switch b[n] {
	case unix.IPPROTO_TCP:
		return at, "tcp", true
	case unix.IPPROTO_UDP:
		return at, "udp", true
	case unix.IPPROTO_SCTP:
		return at, "sctp", true
	}
	return netip.AddrPort{}, "", false
}

// verdictChain is the chain in a verdict as the kernel gives it with an element
// of a map: attributes of which the library reads none. It is "" where there is
// none.
func verdictChain(b []byte) string {
	for t, value := range rtnl.Attrs(b) {
		if t == unix.NFTA_VERDICT_CHAIN {
			return unix.ByteSliceToString(value)
		}
	}
	return ""
}
