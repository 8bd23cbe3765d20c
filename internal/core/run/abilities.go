package run

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/kernel/drops"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// Ability is what a promise rests on here, as a probe found it with the rights of the
// command that asked.
type Ability struct {
	What     string `json:"what"`         // "network", "names", "window", "lock" or "drops"
	By       string `json:"by,omitempty"` // what does it: "BPF", "fanotify"; "": nothing can
	Sentence string `json:"sentence"`
}

// Abilities finds out where this is, and what this host can do: which writers are named, whether a foreign
// value is in effect for a moment, whether it can be refused, and whether trace hears why
// the kernel drops a packet. It loads programs and takes them away again; the one write
// that it makes is ignored by the kernel.
func (m *Machine) Abilities(s *daemon.Settings) []Ability {
	p := probed{fanotify: fanotify()}
	if l, err := m.loadHook()(hook.Options{Keys: hookKeys(*s)}); err != nil {
		p.why = "BPF: " + err.Error()
	} else if h, err := hook.Open(l, hook.Use{Answer: hook.Observe}); err != nil {
		p.why = "BPF: " + err.Error()
	} else {
		p.named, p.rewrites, p.refuses, p.how = h.Names(), h.Rewrites(), h.Can(hook.Refuse) == hook.Refuse, h.How()
		_ = h.Close() // it has done nothing
	}
	w, err := drops.Open()
	if err == nil {
		_ = w.Close()
	}
	p.drops = err
	list := p.abilities()
	if where := instance.OtherNetwork(); where != "" {
		list = slices.Insert(list, 0, Ability{What: "network", Sentence: where})
	}
	return list
}

// fanotify returns why fanotify tells no names.
func fanotify() error {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// probed is what the probes found.
type probed struct {
	why      string // there is no BPF; "": there is
	how      string // what BPF does not do, and why
	named    bool   // BPF names writers
	rewrites bool
	refuses  bool
	fanotify error
	drops    error
}

func (p *probed) abilities() []Ability {
	return []Ability{p.names(), p.window(), p.lock(), p.trace()}
}

func (p *probed) names() Ability {
	switch {
	case p.why == "" && p.named:
		return Ability{"names", "BPF", "every writer is named, also one in a container with its own /proc"}
	case p.fanotify == nil:
		return Ability{"names", "fanotify", "writers through the host's own /proc are named; it takes CAP_SYS_ADMIN: " + p.reason()}
	case errors.Is(p.fanotify, unix.EPERM):
		return Ability{"names", "", "not known: as root it can be found out"}
	}
	return Ability{"names", "", fmt.Sprintf("no writer is named: %s; fanotify: %v", p.reason(), p.fanotify)}
}

func (p *probed) window() Ability {
	if p.why == "" && p.rewrites {
		return Ability{"window", "BPF", "a foreign value is never in effect: the kernel stores the wanted one instead of it"}
	}
	return Ability{"window", "", "a foreign value is in effect until it is put right: " + p.reason()}
}

func (p *probed) lock() Ability {
	if p.why == "" && p.refuses {
		return Ability{"lock", "BPF", "mode = \"lock\" has the kernel refuse foreign values"}
	}
	return Ability{"lock", "", "mode = \"lock\" does what enforce does: " + p.reason()}
}

func (p *probed) trace() Ability {
	if p.drops == nil {
		return Ability{"drops", "BPF", "trace hears the kernel's reason for a dropped packet"}
	}
	return Ability{"drops", "", "trace does not hear why the kernel drops a packet: " + p.drops.Error()}
}

// reason is why BPF does not do something.
func (p *probed) reason() string {
	if p.why != "" {
		return p.why
	}
	return p.how
}
