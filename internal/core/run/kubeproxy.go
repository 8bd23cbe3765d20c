package run

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// kubeProxies looks for what there is of kube-proxy: native processes by their
// name or unit, and rules in the kernel. Looking through all processes takes long
// where there are many, so it is done once in a while; in between, only those
// that were found or noted are looked at. The zero value begins with all.
type kubeProxies struct {
	rules netfilter.Look

	mu    sync.Mutex
	every time.Duration // between looks through all processes
	noted []int         // started since the last look, of any name
	all   bool          // so many that all processes are to be looked at

	// Of the last look; for one goroutine.
	found    []int
	programs []string
	walked   time.Time
}

// maxNoted is how many processes are noted before all are looked at instead.
const maxNoted = 256

// note says that a process has started, and 0 that any may have.
func (k *kubeProxies) note(pid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case pid == 0 || len(k.noted) >= maxNoted:
		k.all, k.noted = true, nil
	case !k.all && !slices.Contains(k.noted, pid):
		k.noted = append(k.noted, pid)
	}
}

// lookThroughEvery sets how often all processes are looked at.
func (k *kubeProxies) lookThroughEvery(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.every = d
}

func (k *kubeProxies) look(ctx context.Context, p *guard.Policy) (found guard.KubeProxy) {
	step.Begin(ctx, "looking for kube-proxy's processes in /proc")
	found.Processes, found.ProcessesErr = k.processes(p)
	step.Begin(ctx, "asking the kernel for kube-proxy's rules")
	rules, err := k.rules.KubeProxy(ctx)
	found.RulesErr = err
	for _, r := range rules {
		found.Rules = append(found.Rules, guard.Rules{Mode: string(r.Mode), Backend: string(r.Backend), IPv4: r.IPv4, IPv6: r.IPv6})
	}
	return found
}

// processes lists those that run under one of the names, and of each unit
// that has none of these its first one.
func (k *kubeProxies) processes(p *guard.Policy) (found []guard.Process, err error) {
	named, err := k.named(p.Programs)
	if err != nil && !errors.Is(err, proc.ErrUncertain) {
		return nil, err
	}
	add := func(q proc.Process) {
		place := proc.Locate(q.Cgroup)
		found = append(found, guard.Process{
			PID: q.PID, Comm: q.Comm, Exe: q.Exe, Cgroup: q.Cgroup,
			Unit: place.Unit, Container: place.Container, Pod: place.Pod, Started: q.Started,
		})
	}
	for _, q := range named {
		add(q)
	}
	for _, unit := range p.Units {
		if slices.ContainsFunc(found, func(f guard.Process) bool { return f.Unit == unit }) {
			continue
		}
		q, ok, uncertain := proc.OldestNative(proc.UnitGroup(unit))
		err = errors.Join(err, uncertain)
		// "systemd", then "(name)", is systemd on its way to execute it: a later
		// look sees what it is.
		if ok && q.Comm != "systemd" && !strings.HasPrefix(q.Comm, "(") {
			add(q)
		}
	}
	return found, err
}

func (k *kubeProxies) named(programs []string) ([]proc.Process, error) {
	k.mu.Lock()
	noted, all, every := k.noted, k.all, k.every
	k.noted, k.all = nil, false
	k.mu.Unlock()

	if len(programs) == 0 {
		return nil, nil
	}
	names, now := proc.NewNames(programs), time.Now()
	var named []proc.Process
	var err error
	if all || k.walked.IsZero() || now.Sub(k.walked) >= every || !slices.Equal(programs, k.programs) {
		named, err = names.Native("/proc")
		k.walked, k.programs = now, slices.Clone(programs)
	} else {
		pids := append(noted, k.found...)
		slices.Sort(pids)
		named, err = names.NativeOf("/proc", slices.Compact(pids))
	}
	if err != nil {
		k.note(0) // until it is certain
		return named, err
	}
	k.found = k.found[:0]
	for _, p := range named {
		k.found = append(k.found, p.PID)
	}
	return named, nil
}
