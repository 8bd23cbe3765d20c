// Package services reads the Services and their endpoints from kube-proxy's rules:
// from the output of iptables-save, or from the tables of kube-proxy's mode
// nftables. It does not read mode ipvs. It runs no program and uses no API.
package services

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Protocol is "tcp", "udp" or "sctp".
type Protocol string

// Service is one port of a Service at its cluster IP.
type Service struct {
	Name      string // "namespace/name:port"; without ":port" if the port has no name
	ClusterIP netip.AddrPort
	Protocol  Protocol
	Endpoints []netip.AddrPort // that connections go to, sorted
}

// Sort sorts Services by name, then by address and protocol.
func Sort(list []Service) {
	for i := range list {
		slices.SortFunc(list[i].Endpoints, netip.AddrPort.Compare)
		list[i].Endpoints = slices.Compact(list[i].Endpoints)
	}
	slices.SortFunc(list, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.ClusterIP.Compare(b.ClusterIP), cmp.Compare(a.Protocol, b.Protocol))
	})
}

// Find returns the Service with that cluster IP, port and protocol; protocol "" is
// any. ok is false if there is none.
func Find(list []Service, at netip.AddrPort, protocol Protocol) (s Service, ok bool) {
	for _, s := range list {
		if s.ClusterIP == at && (protocol == "" || s.Protocol == protocol) {
			return s, true
		}
	}
	return Service{}, false
}

// endpoint parses an address with or without a port: "10.0.0.1:80",
// "[fd00::1]:80".
func endpoint(text string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(text)
	return a, err == nil && a.Port() != 0
}

// nameOf returns the name of a Service from that of a chain of mode nftables:
// "service-ULMVA6XW-ns1/svc1/tcp/p80" is ns1/svc1:p80.
func nameOf(chain string) string {
	_, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(chain, servicePrefix), localPrefix), "-")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 3 {
		return chain
	}
	name := parts[0] + "/" + parts[1]
	if len(parts) > 3 && parts[3] != "" {
		name += ":" + parts[3]
	}
	return name
}
