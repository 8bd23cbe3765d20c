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
		o := &guard.Obstacle{
			Reason: "loading modules is switched off until the next boot (kernel.modules_disabled = 1)",
			Next:   "reboot: " + p.ModulesLoad + " loads it before that switch is set",
		}
		if p.ModulesLoad == "" {
			o.Next = "write its name to a file in /etc/modules-load.d, and reboot: it is loaded before that switch is set"
		}
		return o
	}
	m := l.loadable(ctx, p.Module)
	switch m.State {
	case boot.Forbidden:
		if p.Override {
			return nil
		}
		return &guard.Obstacle{Reason: m.Reason, Next: m.Next + ", or set override_blacklist = true under [module]"}
	case boot.Missing, boot.Removed, boot.Unindexed, boot.Unbuilt, boot.Unsigned, boot.Container:
		return &guard.Obstacle{Reason: m.Reason, Next: m.Next}
	case boot.BuiltIn:
		return hidden(&m)
	case boot.Unknown, boot.Loaded, boot.Loadable:
		if m.In != "" && !MayLoad() {
			return &guard.Obstacle{
				Reason: "this is a container (" + m.In + ") that may not load modules",
				Next:   "load it on the host: modprobe " + p.Module,
			}
		}
	}
	return nil
}

// hidden is the obstacle where the kernel has the module built in, and its
// sysctls are not to be seen: nothing that is loaded would bring them.
func hidden(m *boot.Module) *guard.Obstacle {
	o := &guard.Obstacle{
		Reason: "the kernel has it built in, and yet /proc/sys/net/bridge is not there: something hides it",
		Next:   "run nfguard where /proc/sys is the host's",
	}
	if m.In != "" {
		o.Reason = "this is a container (" + m.In + "), and its /proc/sys does not show the sysctls of " + m.Name + ", which the kernel has built in"
		o.Next = "set them on the host: run nfguard there"
	}
	return o
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

// carried adds to drop-ins that are absent who else carries the state.
func carried(list []guard.Dropin, p *guard.Policy, r *boot.Report) {
	for i := range list {
		switch d := &list[i]; {
		case d.State != guard.Absent || d.Obstacle != nil:
		case d.Path == p.ModulesLoad:
			d.Carried = r.Others.Module
		case d.Path == p.SysctlD:
			d.Carried = r.Others.Sysctls
		}
	}
}

// Forecast is the full result of the last survey that looked at the next boot. Do not
// call it concurrently with Survey.
func (l *Linux) Forecast() boot.Report { return l.forecast }

// foretell says, from the files of the machine, what the next boot will bring for p.
func (l *Linux) foretell(ctx context.Context, p *guard.Policy) boot.Report {
	return boot.Forecast(boot.Options{
		Root: l.dir, Keys: p.Sysctls, Module: p.Module, Unneeded: !p.NeedsModule(), SysctlD: p.SysctlD, ModulesLoad: p.ModulesLoad,
		Release: l.release(), Cmdline: l.cmdline(), Loaded: l.module(ctx, p).State == guard.Present, Reading: reading(ctx),
	})
}
