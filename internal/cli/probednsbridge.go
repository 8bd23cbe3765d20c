package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/diag/probe"
	"github.com/nfguard/nfguard/internal/diag/probe/dns"
	"github.com/nfguard/nfguard/internal/diag/services"
)

// askOn asks from a pod on a bridge.
func (a *app) askOn(o *dnsOptions, plan *dns.Plan, d *dnsDocument) error {
	pod, err := a.podOn(o, plan)
	if err != nil {
		return err
	}
	d.Addresses = pod.Addresses
	d.Report = dns.Run(a.ctx, pod, *plan)
	if err := pod.Close(); err != nil {
		return err
	}
	if a.ctx.Err() != nil {
		return errInterrupted
	}
	return nil
}

// podOn plugs a pod into the bridge of the flags, which asks for the plan what
// it has to. What the flags do not say of the Service and its replicas is taken
// from kube-proxy's rules.
func (a *app) podOn(o *dnsOptions, plan *dns.Plan) (*plugged, error) {
	subnets, err := a.podSubnets(o.bridge)
	if err != nil {
		return nil, err
	}
	list, _, err := a.services()
	if err != nil {
		return nil, err
	}
	s, err := dnsService(list, subnets, plan.Server)
	if err != nil {
		return nil, err
	}
	plan.Server = s.ClusterIP
	for _, e := range s.Endpoints {
		if !slices.Contains(plan.Replicas, e) {
			plan.Replicas = append(plan.Replicas, e)
		}
	}
	for _, p := range subnets {
		plan.Networks = append(plan.Networks, p.Masked())
	}
	f := realFlags{bridge: o.bridge, addresses: o.addresses, plugins: o.plugins, yes: o.yes}
	return a.plugIn(&f, subnets, []probe.Subject{{Service: s}})
}

// dnsService is the Service at an address, or the cluster's DNS where that is not
// given: the only one with a UDP port 53 in a family of subnets, of all or of the
// namespace kube-system. One that the rules do not have is that address without
// endpoints.
func dnsService(list []services.Service, subnets []netip.Prefix, at netip.AddrPort) (services.Service, error) {
	if at.IsValid() {
		s, ok := services.Find(list, at, "udp")
		if !ok {
			s = services.Service{Name: "no Service of kube-proxy's rules", ClusterIP: at, Protocol: "udp"}
		}
		return s, nil
	}
	list = slices.DeleteFunc(slices.Clone(list), func(s services.Service) bool {
		same := func(p netip.Prefix) bool { return p.Addr().Is4() == s.ClusterIP.Addr().Is4() }
		return s.Protocol != "udp" || s.ClusterIP.Port() != 53 || !slices.ContainsFunc(subnets, same)
	})
	if own := slices.DeleteFunc(slices.Clone(list), func(s services.Service) bool { return !strings.HasPrefix(s.Name, "kube-system/") }); len(own) > 0 {
		list = own
	}
	const hint = "name it by --server: kubectl -n kube-system get service kube-dns"
	switch {
	case len(list) == 0:
		return services.Service{}, &hintError{errors.New("kube-proxy's rules have no Service with a UDP port 53"), hint}
	case len(list) > 1 && list[0].Name != list[len(list)-1].Name: // one of both families is one
		return services.Service{}, &hintError{
			fmt.Errorf("kube-proxy's rules have several Services with a UDP port 53, %s and %s among them", list[0].Name, list[len(list)-1].Name), hint,
		}
	}
	return list[0], nil
}
