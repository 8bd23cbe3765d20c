package cli

import (
	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/guard"
)

// selection is the part of the policy for scope "bridges", nil for the other.
// The flags that are kept are those whose sysctl would be 1: with "ignore" or
// 0 a flag is left alone.
func selection(c config.Config) *guard.Selection {
	if c.Scope != config.ScopeBridges {
		return nil
	}
	s := &guard.Selection{Match: c.Bridges.Match, Auto: c.Bridges.Auto, Ignore: c.Bridges.Ignore}
	for _, f := range []guard.Family{guard.IPv4, guard.IPv6, guard.ARP} {
		for _, k := range c.Sysctl {
			if k.Key == f.Key() && !k.Ignore && k.Value == "1" {
				s.Families = append(s.Families, f)
			}
		}
	}
	return s
}
