package services

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// The map and chains of kube-proxy's mode nftables (pkg/proxy/nftables/proxier.go).
const (
	proxyTable     = "kube-proxy"
	serviceMap     = "service-ips" // address . protocol . port → goto a chain
	servicePrefix  = "service-"    // for a cluster IP; other addresses have "external-"
	localPrefix    = "local-"      // the same with internalTrafficPolicy: Local
	endpointPrefix = "endpoint-"   // since 1.37 only for Services with affinity
)

// NFTables reads the Services of one family from kube-proxy's table, which has to
// exist, in the network namespace of the calling thread. It makes one request for
// the map, one for each Service and one for each endpoint; ctx is checked in
// between.
func NFTables(ctx context.Context, v6 bool) ([]Service, error) {
	// The connection stays in the namespace in which it was opened. Keeping the
	// thread locked any longer would delay every answer.
	runtime.LockOSThread()
	c, err := nfnl.Dial()
	runtime.UnlockOSThread()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := &reader{c, nfnl.Table{Family: unix.NFPROTO_IPV4, Name: proxyTable}, map[string]netip.AddrPort{}}
	if v6 {
		r.t.Family = unix.NFPROTO_IPV6
	}
	elements, err := r.elements(ctx, serviceMap)
	if err != nil {
		return nil, err
	}
	var list []Service
	for _, e := range elements {
		at, protocol, ok := parseKey(e.Key)
		_, chain, _ := nfnl.Verdict(e.Verdict)
		if !ok || !strings.HasPrefix(chain, servicePrefix) && !strings.HasPrefix(chain, localPrefix) {
			continue
		}
		s := Service{Name: nameOf(chain), ClusterIP: at, Protocol: protocol}
		if s.Endpoints, err = r.endpoints(ctx, chain); err != nil {
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
	c     *nfnl.Conn
	t     nfnl.Table
	known map[string]netip.AddrPort // endpoints by chain: Services can share them
}

func (r *reader) elements(ctx context.Context, set string) (list []nfnl.Element, err error) {
	err = r.c.List(ctx, r.t.Elements(set), func() { list = nil }, func(in []byte) {
		list = slices.AppendSeq(list, nfnl.Elements(bytes.Clone(in)))
	})
	if err != nil {
		return nil, fmt.Errorf("read the map %s of kube-proxy's table: %w", set, err)
	}
	return list, nil
}

func (r *reader) rules(ctx context.Context, chain string) (rules [][]byte, err error) {
	err = r.c.List(ctx, r.t.Rules(chain), func() { rules = nil }, func(in []byte) { rules = append(rules, bytes.Clone(in)) })
	if err != nil {
		return nil, fmt.Errorf("read the chain %s of kube-proxy's table: %w", chain, err)
	}
	return rules, nil
}

// endpoints returns the endpoints that the rules of a Service's chain lead to. The
// rules choose one at random through an anonymous map. The map holds addresses and
// ports (since kube-proxy 1.37; a single endpoint needs no map), or it holds chains
// that translate to one endpoint each (before 1.37, and for Services with affinity).
func (r *reader) endpoints(ctx context.Context, service string) ([]netip.AddrPort, error) {
	rules, err := r.rules(ctx, service)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, rule := range rules {
		a, translates := translation(rule)
		if a.IsValid() {
			list = append(list, a)
		}
		var chains []string
		for e := range nfnl.Expressions(rule) {
			if _, chain, ok := nfnl.Verdict(e.Verdict()); ok {
				chains = append(chains, chain)
			}
			set := e.Map()
			if set == "" {
				continue
			}
			elements, err := r.elements(ctx, set)
			if err != nil {
				return nil, err
			}
			for _, el := range elements {
				if a := parseTarget(el.Value); a.IsValid() && translates {
					list = append(list, a)
				} else if _, chain, ok := nfnl.Verdict(el.Verdict); ok {
					chains = append(chains, chain)
				}
			}
		}
		for _, chain := range chains {
			a, err := r.target(ctx, chain)
			if err != nil {
				return nil, err
			}
			if a.IsValid() {
				list = append(list, a)
			}
		}
	}
	return list, nil
}

// target is the address that an endpoint's chain translates to, or zero for another
// chain.
func (r *reader) target(ctx context.Context, chain string) (a netip.AddrPort, err error) {
	if !strings.HasPrefix(chain, endpointPrefix) {
		return netip.AddrPort{}, nil
	}
	a, ok := r.known[chain]
	if ok {
		return a, nil
	}
	rules, err := r.rules(ctx, chain)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, rule := range rules {
		if a, _ = translation(rule); a.IsValid() {
			break
		}
	}
	r.known[chain] = a
	return a, nil
}

// translation is the single address and port that a rule translates to, or zero, and
// whether it translates addresses at all.
func translation(rule []byte) (to netip.AddrPort, translates bool) {
	for e := range nfnl.Expressions(rule) {
		translates = translates || string(e.Name) == "nat"
		if a, port := e.Translation(); a.IsValid() && port != 0 && !to.IsValid() {
			to = netip.AddrPortFrom(a, port)
		}
	}
	return to, translates
}

// parseTarget reads an element of a map of addresses and ports, each padded to four
// bytes. It returns zero if b is not one.
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
