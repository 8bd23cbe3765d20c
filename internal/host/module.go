package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfguard/nfguard/internal/guard"
)

// module looks whether br_netfilter is there. Its effect decides: a built-in
// one has no line in /proc/modules, no entry in /sys/module, and modinfo does
// not know it.
func (l *Linux) module(p *guard.Policy) guard.Module {
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
	return guard.Module{State: guard.Absent, Obstacle: l.obstacle(p)}
}

// obstacle finds what will keep the module from being loaded, without trying.
func (l *Linux) obstacle(p *guard.Policy) *guard.Obstacle {
	if text, err := os.ReadFile(filepath.Join(l.o.Proc, "sys/kernel/modules_disabled")); err == nil && strings.TrimSpace(string(text)) == "1" {
		return &guard.Obstacle{
			Reason: "loading modules is switched off until the next boot (kernel.modules_disabled = 1)",
			Next:   "reboot: the drop-in in modules-load.d loads it before that switch is set",
		}
	}
	if r := l.forbidden(p.Module); r != nil && !p.Override {
		return &guard.Obstacle{
			Reason: fmt.Sprintf("%s forbids it: %s", r.place(), r.text),
			Next:   "remove that line, or set override_blacklist = true under [module]",
		}
	}
	if dir := l.modules(); !l.installed(dir, p.Module) {
		return &guard.Obstacle{Reason: "it is not in " + dir, Next: l.missingModule(dir)}
	}
	return nil
}

// modules is the directory with the running kernel's modules.
func (l *Linux) modules() string {
	release, err := os.ReadFile(filepath.Join(l.o.Proc, "sys/kernel/osrelease"))
	if err != nil {
		return "/lib/modules"
	}
	return filepath.Join("/lib/modules", strings.TrimSpace(string(release)))
}

// installed reports whether modprobe can know the module. When in doubt it
// can: modprobe says so if not.
func (l *Linux) installed(dir, name string) bool {
	if _, err := os.Stat(l.path(dir)); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	known := false
	for _, index := range []string{"modules.dep", "modules.builtin"} {
		text, err := readLimited(l.path(filepath.Join(dir, index)), 16<<20)
		if err != nil {
			continue
		}
		known = true
		for line := range strings.Lines(string(text)) {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			module, _, _ := strings.Cut(filepath.Base(file), ".ko")
			if canonical(module) == canonical(name) {
				return true
			}
		}
	}
	return !known
}

// missingModule tells what brings a module file that is not there.
func (l *Linux) missingModule(dir string) string {
	if _, err := os.Stat(l.path(dir)); errors.Is(err, fs.ErrNotExist) {
		return dir + " is gone, probably by a kernel upgrade: reboot into the new kernel"
	}
	return "install the package that brings the module to " + dir + " (linux-modules-extra on Ubuntu, kernel-modules on Red Hat's)"
}
