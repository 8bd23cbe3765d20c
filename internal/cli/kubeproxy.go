package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/guard"
	"github.com/nfguard/nfguard/internal/netfilter"
	"github.com/nfguard/nfguard/internal/proc"
	"github.com/nfguard/nfguard/internal/step"
)

// kubeProxies looks for what there is of kube-proxy: programs by their name or
// unit, in our network namespace, and rules in the kernel.
type kubeProxies struct {
	rules netfilter.Look
}

func (k *kubeProxies) look(ctx context.Context, p *guard.Policy) (found guard.KubeProxy) {
	step.Begin(ctx, "looking for kube-proxy's processes in /proc")
	found.Processes, found.ProcessesErr = processes(p)
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
func processes(p *guard.Policy) ([]guard.Process, error) {
	named, err := proc.Named("/proc", p.Programs)
	if err != nil {
		return nil, err
	}
	var found []guard.Process
	add := func(q proc.Process) {
		// One in another namespace is another node's: a cluster in containers.
		if here := proc.Netns(); q.Netns != 0 && q.Netns != here {
			return
		}
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
		q, ok := proc.Oldest(proc.UnitGroup(unit))
		// "systemd", then "(name)", is systemd on its way to execute it: a later
		// look sees what it is.
		if ok && q.Comm != "systemd" && !strings.HasPrefix(q.Comm, "(") {
			add(q)
		}
	}
	return found, nil
}
