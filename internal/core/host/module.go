package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
)

// module checks whether br_netfilter is loaded, by its effect: if it is built in, it has
// no line in /proc/modules, no entry in /sys/module, and modinfo does not know it.
func (l *Linux) module(ctx context.Context, p *guard.Policy) guard.Module {
	step.Begin(ctx, "looking whether "+p.Module+" is loaded")
	_, err := os.Stat(filepath.Join(l.o.Proc, "sys", guard.IPTables.Path()))
	if err == nil {
		return guard.Module{State: guard.Present}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return guard.Module{Err: err}
	}
	if _, err := os.Stat(filepath.Join(l.o.Proc, "sys/net")); err != nil {
		return guard.Module{Err: fmt.Errorf("procfs is not mounted with its sysctls: %w", err)}
	}
	return guard.Module{State: guard.Absent, Obstacle: l.obstacle(ctx, p)}
}

// obstacle finds out what will keep the module from being loaded, without trying.
func (l *Linux) obstacle(ctx context.Context, p *guard.Policy) *guard.Obstacle {
	if text, err := os.ReadFile(filepath.Join(l.o.Proc, "sys/kernel/modules_disabled")); err == nil && strings.TrimSpace(string(text)) == "1" {
		return &guard.Obstacle{
			Reason: "loading modules is switched off until the next boot (kernel.modules_disabled = 1)",
			Next:   "reboot: the drop-in in modules-load.d loads it before that switch is set",
		}
	}
	m := l.loadable(ctx, p.Module)
	switch m.State {
	case boot.Forbidden:
		if p.Override {
			return nil
		}
		return &guard.Obstacle{Reason: m.Reason, Next: m.Next + ", or set override_blacklist = true under [module]"}
	case boot.Missing, boot.Removed, boot.Unindexed, boot.Unbuilt, boot.Unsigned:
		return &guard.Obstacle{Reason: m.Reason, Next: m.Next}
	case boot.Unknown, boot.Loaded, boot.BuiltIn, boot.Loadable, boot.Container:
	}
	return nil // in a container it may still be allowed: modprobe tells
}

// loadable says, from the files, whether the running kernel can load a module.
func (l *Linux) loadable(ctx context.Context, name string) boot.Module {
	return boot.Running(boot.Options{Root: l.dir, Module: name, Release: l.release(), Cmdline: l.cmdline(), Reading: reading(ctx)})
}

// reading returns a function that reports each file that is read.
func reading(ctx context.Context) func(path string) {
	return func(path string) { step.Begin(ctx, "reading "+path) }
}

// release is the running kernel's, or "".
func (l *Linux) release() string {
	text, err := os.ReadFile(filepath.Join(l.o.Proc, "sys/kernel/osrelease"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// cmdline is the running kernel's command line, or "".
func (l *Linux) cmdline() string {
	text, err := os.ReadFile(filepath.Join(l.o.Proc, "cmdline"))
	if err != nil {
		return ""
	}
	return string(text)
}

// nextBoot is the part of a forecast that a pass needs.
func nextBoot(r *boot.Report) *guard.NextBoot {
	n := &guard.NextBoot{Findings: make([]guard.Finding, 0, len(r.Findings))}
	for _, f := range r.Findings {
		n.Findings = append(n.Findings, guard.Finding{
			Subject: f.Subject, Place: f.Place.String(), Sentence: f.Sentence, Next: f.Next, Breaks: f.Breaks,
		})
	}
	return n
}

// Forecast is the full result of the last survey that looked at the next boot. Do not
// call it concurrently with Survey.
func (l *Linux) Forecast() boot.Report { return l.forecast }

// foretell says, from the files of the machine, what the next boot will bring for p.
func (l *Linux) foretell(ctx context.Context, p *guard.Policy) boot.Report {
	return boot.Forecast(boot.Options{
		Root: l.dir, Keys: p.Sysctls, Module: p.Module, SysctlD: p.SysctlD, ModulesLoad: p.ModulesLoad,
		Release: l.release(), Cmdline: l.cmdline(), Loaded: l.module(ctx, p).State == guard.Present, Reading: reading(ctx),
	})
}
