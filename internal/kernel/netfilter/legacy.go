package netfilter

import (
	"context"
	"net/netip"
	"slices"

	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// legacyTable is what the last look at a table nat found. The same Info is
// taken for the same table: kube-proxy adds and removes whole chains, and only
// a chain renamed to one as long goes unnoticed.
type legacyTable struct {
	info     xtables.Info
	services bool
}

// HasLegacy reports whether iptables-legacy has a table nat, of either family,
// with or without rules. Changes in it are told to nobody.
func HasLegacy() bool {
	v4, _ := hasNAT(xtables.IPv4)
	v6, _ := hasNAT(xtables.IPv6)
	return v4 || v6
}

// hasNAT reports whether the table nat exists. One that does not must not be read.
func hasNAT(f *xtables.Family) (bool, error) {
	names, err := f.Tables()
	return slices.Contains(names, natTable), err
}

// hasServices reports whether the chain of kube-proxy holds a rule.
func (t *legacyTable) hasServices(ctx context.Context, f *xtables.Family) (bool, error) {
	exists, err := hasNAT(f)
	if exists && err == nil {
		t.info, err = f.Read(ctx, natTable, t.info, func(x *xtables.Table) (err error) {
			t.services, err = x.Uses(servicesChain)
			return err
		})
	}
	if !exists || err != nil {
		*t = legacyTable{}
	}
	return t.services, err
}

// legacyEndpoints reads the table nat, if there is one.
func legacyEndpoints(ctx context.Context, f *xtables.Family, add func(netip.Addr)) error {
	if exists, err := hasNAT(f); !exists || err != nil {
		return err
	}
	_, err := f.Read(ctx, natTable, xtables.Info{}, func(x *xtables.Table) error {
		if used, err := x.Uses(servicesChain); !used || err != nil {
			return err
		}
		return x.Destinations(endpointChain, add)
	})
	return err
}
