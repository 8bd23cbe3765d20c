package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/reconcile"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/exec"
	"github.com/nfguard/nfguard/internal/core/source/file"
	"github.com/nfguard/nfguard/internal/core/source/link"
	"github.com/nfguard/nfguard/internal/core/source/rules"
	"github.com/nfguard/nfguard/internal/core/source/sysctl"
	"github.com/nfguard/nfguard/internal/core/source/uevent"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// How often the sysctls are read when nothing tells of a write. With the time
// to wake up, a write that nobody tells of (through another mount of procfs)
// is put right within one second. Where the kernel tells of every write, it is
// for what changes them in another way.
const (
	resync     = 900 * time.Millisecond
	resyncTold = 30 * time.Second
)

// settings reads the configuration and translates it.
func (a *app) settings() (daemon.Settings, config.Config, error) {
	c, _, err := a.config()
	if err != nil {
		return daemon.Settings{}, c, err
	}
	s := settingsOf(c)
	return s, c, nil
}

// config reads the configuration, of the tree where there is one. A tree that is
// mistyped would have none, and whatever is not there would seem to be so.
func (a *app) config() (config.Config, config.Origins, error) {
	if a.root != "" {
		if info, err := os.Stat(a.root); err != nil {
			return config.Config{}, nil, &hintError{fmt.Errorf("--root: %w", err), "is the name right? the tree has to be there"}
		} else if !info.IsDir() {
			return config.Config{}, nil, &hintError{fmt.Errorf("--root: %s is no directory", a.root), "name the directory that the tree is mounted or unpacked at"}
		}
	}
	return config.Load(a.root, a.configPath)
}

func settingsOf(c config.Config) daemon.Settings {
	s := daemon.Settings{
		Policy: guard.Policy{
			Mode:     guard.Enforce,
			Module:   c.Module.Name,
			Override: c.Module.OverrideBlacklist,
			Programs: c.KubeProxy.Processes,
			Units:    c.KubeProxy.Units,
		},
		Contention: reconcile.Contention{
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
	s.Policy.Bridges = selection(c)
	for _, k := range c.Sysctl {
		if k.Ignore || s.Policy.Bridges != nil && k.Key.ByFlag() {
			continue
		}
		s.Policy.Sysctls = append(s.Policy.Sysctls, guard.Setting{Key: k.Key, Value: k.Value})
	}
	if c.Persist.Enabled {
		s.Policy.ModulesLoad, s.Policy.SysctlD = c.Persist.ModulesLoad, c.Persist.Sysctl
	}
	return s
}

// machine is the host that the commands work on, where that is no tree.
func (a *app) machine() *host.Linux {
	var h host.Helper
	if a.helped() {
		h = helpful{&a.client}
	}
	return host.New(host.Options{
		Helper:  h,
		Bridges: host.Bridges, KubeProxy: a.proxies.look, Endpoints: netfilter.Endpoints, PodSpaces: host.PodSpaces,
		Memory: filepath.Join(runtimePath(), "bridges.json"),
	})
}

// sources are where the daemon gets its news from.
func (a *app) sources(s daemon.Settings, loop source.Lender) ([]source.Source, error) {
	paths := make([]string, len(s.Policy.Sysctls))
	var devices []string
	for i, k := range s.Policy.Sysctls {
		paths[i] = k.Key.File()
		if d := k.Key.Device(); d != "" && !slices.Contains(devices, d) {
			devices = append(devices, d)
		}
	}
	files := []string{literal(a.configPath), literal(confD(a.configPath)) + "/*.toml"}
	for _, path := range []string{s.Policy.ModulesLoad, s.Policy.SysctlD} {
		if path != "" {
			files = append(files, literal(path))
		}
	}
	files = append(files, boot.Files()...)
	if b := s.Policy.Bridges; b != nil && b.Auto {
		for _, dir := range host.CNIDirs() {
			files = append(files, dir+"/*")
		}
	}
	news, err := file.New("file", files...)
	if err != nil {
		return nil, err
	}
	sources := []source.Source{link.New(devices...), uevent.New(s.Policy.Module), news}
	a.proxies.lookThroughEvery(s.Audit)
	if len(s.Policy.Programs) > 0 {
		sources = append(sources, exec.New(exec.Options{Names: s.Policy.Programs, Load: a.loadExecHook(), Noted: a.proxies.note}))
	}
	if len(s.Policy.Units) > 0 {
		var groups []string
		for _, unit := range s.Policy.Units {
			groups = append(groups, literal(proc.UnitGroup(unit)))
		}
		units, err := file.New("unit", groups...)
		if err != nil {
			return nil, err
		}
		sources = append(sources, units)
	}
	sources = append(sources, rules.New(s.Audit))
	if err := a.hook.follow(s); err != nil { // last: what fails changes nothing
		return nil, fmt.Errorf("guard by BPF: %w", err)
	}
	if len(paths) > 0 {
		sources = slices.Insert(sources, 0, source.Source(sysctl.New(paths, loop, a.hook.Hook, a.hook.why)))
	}
	return sources, nil
}

// confD is the directory of the drop-ins beside a configuration file.
func confD(path string) string { return filepath.Join(filepath.Dir(path), "conf.d") }

// configures reports whether path is of the configuration, or a directory on
// the way to it, or unknown.
func (a *app) configures(path string) bool {
	if path == "" || path == a.configPath || filepath.Dir(path) == confD(a.configPath) {
		return true
	}
	return strings.HasPrefix(confD(a.configPath)+"/", path+"/")
}

// literal is the pattern that matches only path.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
