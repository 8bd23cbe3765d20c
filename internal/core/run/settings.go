package run

import (
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
)

// How often the sysctls are read when nothing tells of a write. With the time
// to wake up, a write that nobody tells of (through another mount of procfs)
// is put right within one second. Where the kernel tells of every write, it is
// for what changes them in another way.
const (
	resync     = 900 * time.Millisecond
	resyncTold = 30 * time.Second
)

// Settings are what c asks for.
func Settings(c config.Config) daemon.Settings {
	s := daemon.Settings{
		Policy: guard.Policy{
			Mode:     guard.Enforce,
			Module:   c.Module.Name,
			Override: c.Module.OverrideBlacklist,
			Ignored:  c.Bridges.Ignore,
			Programs: c.KubeProxy.Processes,
			Units:    c.KubeProxy.Units,
		},
		Contention: keep.Contention{
			Limit: c.Contention.Limit, Window: c.Contention.Window, Yield: c.Contention.Policy == config.PolicyYield,
		},
		Resync:   c.Timing.Resync,
		Audit:    c.Timing.Audit,
		Textfile: c.Metrics.Textfile,
	}
	switch c.Mode {
	case config.ModeObserve:
		s.Policy.Mode = guard.Observe
	case config.ModeLock:
		s.Policy.Mode = guard.Lock
	case config.ModeEnforce:
	}
	if s.Resync == 0 {
		s.Resync, s.ResyncTold = resync, resyncTold
	}
	s.Policy.Bridges, s.Policy.Hairpin = selection(c), hairpin(c)
	for _, k := range c.Sysctl {
		if k.Ignore {
			continue
		}
		s.Policy.Sysctls = append(s.Policy.Sysctls, guard.Setting{Key: k.Key, Value: k.Value})
	}
	if c.Persist.Enabled {
		s.Policy.ModulesLoad, s.Policy.SysctlD = c.Persist.ModulesLoad, c.Persist.Sysctl
	}
	return s
}

// selection is the part of the policy for scope "bridges", nil for the other.
func selection(c config.Config) *guard.Selection {
	if c.Scope != config.ScopeBridges {
		return nil
	}
	s := &guard.Selection{Match: c.Bridges.Match, Auto: c.Bridges.Auto, Ignore: c.Bridges.Ignore}
	for f, flag := range []config.Flag{guard.IPv4: config.FlagIPTables, guard.IPv6: config.FlagIP6Tables, guard.ARP: config.FlagARPTables} {
		if slices.Contains(c.Bridges.Flags, flag) {
			s.Families = append(s.Families, guard.Family(f))
		}
	}
	return s
}

// hairpin is the part of the policy for the ports of pods.
func hairpin(c config.Config) guard.Hairpin {
	return guard.Hairpin{
		Keep: c.Bridges.Hairpin == config.HairpinKeep,
		On:   guard.Selection{Match: c.Bridges.Match, Auto: c.Bridges.Auto, Ignore: c.Bridges.Ignore},
	}
}
