package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/helper"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/kernel/hook"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
)

// Machine is this host, as the daemon and the commands work on it: with the
// helper where this process lacks the rights.
type Machine struct {
	*host.Linux
	ctx     context.Context // of what the helper is asked for, but for actions
	helped  bool
	client  helper.Client
	proxies kubeProxies
}

// NewMachine returns this host; it is to be closed.
func NewMachine(ctx context.Context) *Machine {
	// Started by hand, root has the rights; the unit of the daemon takes them away.
	m := &Machine{ctx: ctx, helped: os.Geteuid() == 0 && !host.MayLoad()}
	o := host.Options{
		Bridges: host.Bridges, KubeProxy: m.proxies.look, Endpoints: netfilter.Endpoints, PodSpaces: host.PodSpaces,
		Memory: filepath.Join(Dir(), "bridges.json"),
	}
	if m.helped {
		o.Helper = asker{&m.client}
	}
	m.Linux = host.New(o)
	return m
}

// asker is the helper as a host knows it.
type asker struct{ *helper.Client }

// Do is as [host.Helper] has it.
func (c asker) Do(ctx context.Context, a guard.Action) error {
	r := helper.WriteSysctls
	switch {
	case a.Op == guard.LoadModule:
		r = helper.LoadModule
	case a.Modules:
		r = helper.WriteModules
	}
	_, err := c.Ask(ctx, r, nil)
	if errors.Is(err, helper.ErrAbsent) {
		return fmt.Errorf("%w: %w", err, host.ErrNoHelper)
	}
	return err
}

// loadHook is what loads the program for the sysctls.
func (m *Machine) loadHook() loader {
	if !m.helped {
		return hook.Load
	}
	return func(o hook.Options) (*hook.Loaded, error) {
		return m.loaded(helper.LoadHook, func() (*hook.Loaded, error) { return hook.Load(o) })
	}
}

// loadExecHook is what loads the program for the starts of processes.
func (m *Machine) loadExecHook() func(names []string) (*hook.Loaded, error) {
	if !m.helped {
		return hook.LoadExec
	}
	return func(names []string) (*hook.Loaded, error) {
		return m.loaded(helper.LoadExecHook, func() (*hook.Loaded, error) { return hook.LoadExec(names) })
	}
}

// loaded is a program that the helper has loaded, or where there is no helper
// what itself returns.
func (m *Machine) loaded(r helper.Request, itself func() (*hook.Loaded, error)) (*hook.Loaded, error) {
	l := &hook.Loaded{}
	var err error
	l.Files, err = m.client.Ask(m.ctx, r, &l.Facts)
	switch {
	case errors.Is(err, helper.ErrAbsent):
		return itself()
	case errors.Is(err, errors.ErrUnsupported):
		return nil, neverError{err}
	case err != nil:
		return nil, err
	}
	return l, nil
}

// neverError is an error of the helper that will be the same another time.
type neverError struct{ error }

func (e neverError) Is(target error) bool { return target == hook.ErrNotSupported }
func (e neverError) Unwrap() error        { return e.error }

// synchronize is what has journald write to disk what it has.
func (m *Machine) synchronize() func(context.Context) error {
	if !m.helped {
		return journal.Synchronize
	}
	return func(ctx context.Context) error {
		_, err := m.client.Ask(ctx, helper.SyncJournal, nil)
		if errors.Is(err, helper.ErrAbsent) {
			return journal.Synchronize(ctx)
		}
		return err
	}
}

// weak says what can't be kept on this host for want of the helper.
func (m *Machine) weak() []guard.Finding {
	if !m.helped || m.client.There() {
		return nil
	}
	return []guard.Finding{{
		Subject:  "nfguard-helper.socket",
		Sentence: "nfguard-helper.socket is not there: the module, if it is unloaded, and the drop-ins, if they are changed, are not put right",
		Next:     "systemctl unmask nfguard-helper.socket, then systemctl restart nfguard; in a container, the host has to do it",
	}}
}

// rights says who makes the changes that take more rights than others.
func (m *Machine) rights() string {
	switch {
	case !m.helped:
		return daemon.RightsItself
	case m.client.There():
		return "nfguard-helper"
	}
	return "nobody"
}
