package run

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/exec"
	"github.com/nfguard/nfguard/internal/core/source/file"
	"github.com/nfguard/nfguard/internal/core/source/link"
	"github.com/nfguard/nfguard/internal/core/source/rules"
	"github.com/nfguard/nfguard/internal/core/source/sysctl"
	"github.com/nfguard/nfguard/internal/core/source/uevent"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// news is where the daemon gets its news from.
type news struct {
	config  string // the path of the configuration file, absolute
	pause   string // that of the file that asks for a pause, too
	hook    *writeHook
	machine *Machine
}

// sources makes the sources of news for s, and says how to open the watch of its
// sysctls.
func (n *news) sources(s daemon.Settings) (daemon.Opener, []source.Source, error) {
	paths := make([]string, len(s.Policy.Sysctls))
	var devices []string
	for i, k := range s.Policy.Sysctls {
		paths[i] = k.Key.File()
		if d := k.Key.Device(); d != "" && !slices.Contains(devices, d) {
			devices = append(devices, d)
		}
	}
	files := []string{literal(n.config), literal(confD(n.config)) + "/*.toml", literal(n.pause)}
	for _, path := range []string{s.Policy.ModulesLoad, s.Policy.SysctlD} {
		if path != "" {
			files = append(files, literal(path))
		}
	}
	files = append(files, boot.Files()...)
	if s.Policy.ByEvidence() {
		for _, dir := range host.CNIDirs() {
			files = append(files, dir+"/*")
		}
	}
	news, err := file.New("file", source.Files, files...)
	if err != nil {
		return nil, nil, err
	}
	sources := []source.Source{link.New(s.Policy.Hairpin.Keep, devices...), uevent.New(s.Policy.Module), news}
	n.machine.proxies.lookThroughEvery(s.Audit)
	if len(s.Policy.Programs) > 0 {
		sources = append(sources, exec.New(exec.Options{Names: s.Policy.Programs, Load: n.machine.loadExecHook(), Noted: n.machine.proxies.note}))
	}
	if len(s.Policy.Units) > 0 {
		var groups []string
		for _, unit := range s.Policy.Units {
			groups = append(groups, literal(proc.UnitGroup(unit)))
		}
		units, err := file.New("unit", source.Processes, groups...)
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, units)
	}
	sources = append(sources, rules.New(s.Audit))
	if err := n.hook.follow(s); err != nil { // last: what fails changes nothing
		return nil, nil, fmt.Errorf("guard by BPF: %w", err)
	}
	if len(paths) == 0 {
		return nil, sources, nil
	}
	h, why := n.hook.Hook, n.hook.why
	return func() (daemon.Watch, string, error) {
		w, how, err := sysctl.Open(paths, h, why)
		if err != nil {
			return nil, "", err
		}
		return w, how, nil
	}, sources, nil
}

// confD is the directory of the drop-ins next to a configuration file.
func confD(path string) string { return filepath.Join(filepath.Dir(path), "conf.d") }

// configures reports whether path is of the configuration, or a directory on
// the way to it, or unknown.
func (n *news) configures(path string) bool {
	if path == "" || path == n.config || filepath.Dir(path) == confD(n.config) {
		return true
	}
	return strings.HasPrefix(confD(n.config)+"/", path+"/")
}

// literal is the pattern that matches only path.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
