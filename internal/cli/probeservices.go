package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/diag/probe"
	"github.com/nfguard/nfguard/internal/diag/services"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// services are the Services of kube-proxy's rules, sorted, and what rules those are.
func (a *app) services() (list []services.Service, rules []netfilter.Rules, err error) {
	var look netfilter.Look
	rules, err = look.KubeProxy(a.ctx)
	if err != nil {
		return nil, nil, unprobed(err)
	}
	for _, r := range rules {
		found, err := servicesOf(a.ctx, r)
		if a.ctx.Err() != nil {
			return nil, rules, errInterrupted
		}
		if err != nil {
			return nil, rules, err
		}
		list = append(list, found...)
	}
	services.Sort(list)
	return list, rules, nil
}

// servicesOf reads what there is in the rules of one mode and backend.
func servicesOf(ctx context.Context, r netfilter.Rules) ([]services.Service, error) {
	var list []services.Service
	for _, v6 := range []bool{false, true} {
		if v6 && !r.IPv6 || !v6 && !r.IPv4 || r.Mode == netfilter.IPVS {
			continue
		}
		var found []services.Service
		var err error
		if r.Mode == netfilter.NFTables {
			found, err = services.NFTables(ctx, v6)
		} else {
			backend := "nft"
			if r.Backend == netfilter.Legacy {
				backend = "legacy"
			}
			var text []byte
			if text, err = host.SaveRules(ctx, backend, v6); err == nil {
				found, err = services.ParseIPTables(bytes.NewReader(text))
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil, &hintError{fmt.Errorf("read kube-proxy's rules: %w", err), "install iptables: apt-get install iptables, dnf install iptables-nft"}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read kube-proxy's rules: %w", err)
		}
		list = append(list, found...)
	}
	return list, nil
}

// subjects are the Services to ask.
func (a *app) subjects(d *realProof, f *realFlags) ([]probe.Subject, error) {
	list, rules, err := a.services()
	for _, r := range rules {
		d.Rules = append(d.Rules, r.String())
	}
	if err != nil {
		return nil, err
	}
	d.Services = len(list)
	if len(list) == 0 {
		why := errors.New("there are no Services in kube-proxy's rules here")
		if slices.ContainsFunc(rules, func(r netfilter.Rules) bool { return r.Mode == netfilter.IPVS }) {
			why = errors.New("kube-proxy runs in mode ipvs, whose Services are not read")
		}
		return nil, &hintError{why, "nfguard probe, without --bridge, tries the kernel by itself"}
	}
	b, err := rtnl.BridgeNamed(f.bridge)
	if err != nil {
		return nil, err
	}
	place := func(s services.Service) probe.Subject {
		return probe.NewSubject(s, b.Index, rtnl.Index("lo"), rtnl.RouteTo)
	}
	var subjects []probe.Subject
	if len(f.services) > 0 {
		for _, text := range f.services {
			some, err := named(list, text)
			if err != nil {
				return nil, err
			}
			for _, s := range some {
				twice := func(o probe.Subject) bool { return o.ClusterIP == s.ClusterIP && o.Protocol == s.Protocol }
				if !slices.ContainsFunc(subjects, twice) {
					subjects = append(subjects, place(s))
				}
			}
		}
		return subjects, nil
	}
	for _, s := range list {
		subjects = append(subjects, place(s))
	}
	if subjects = probe.Choose(subjects); !slices.ContainsFunc(subjects, func(s probe.Subject) bool { return len(s.Bridged) > 0 }) {
		return nil, &hintError{
			fmt.Errorf("of %d Services none that can be asked has an endpoint behind %s", len(list), f.bridge),
			"start a pod of a Service on this node; nfguard probe, without --bridge, tries the kernel by itself",
		}
	}
	return subjects, nil
}

// named finds the Service of --service: "10.32.0.10:53/udp", or by its name, of
// each family.
func named(list []services.Service, text string) ([]services.Service, error) {
	at, protocol, _ := strings.Cut(text, "/")
	if addr, err := netip.ParseAddrPort(at); err == nil {
		if s, ok := services.Find(list, addr, services.Protocol(strings.ToLower(protocol))); ok {
			return []services.Service{s}, nil
		}
	}
	some := slices.DeleteFunc(slices.Clone(list), func(s services.Service) bool { return s.Name != text })
	if len(some) > 0 {
		return some, nil
	}
	return nil, &hintError{
		fmt.Errorf("--service %s: it is not in kube-proxy's rules, or has no endpoints", text),
		fmt.Sprintf("write it as kubectl get services shows it, with the port: --service %s/%s, or --service %s",
			list[0].ClusterIP, list[0].Protocol, list[0].Name),
	}
}
