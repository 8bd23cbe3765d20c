package hosttest

import (
	"context"
	"errors"
	"slices"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// bridging is the part of a [Host] for its bridges.
type bridging struct {
	bridges    []guard.Bridge
	remembered []guard.Remembered
	hairpins   map[string][]string // the ports that were put in hairpin mode, by bridge
}

// errGone is the kernel's error for a device that does not exist.
var errGone = errors.New("no such bridge")

// SetBridges sets the bridges.
func (h *Host) SetBridges(b ...guard.Bridge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bridges = slices.Clone(b)
}

// SetFlags acts like somebody else's ip link set NAME type bridge nf_call_….
func (h *Host) SetFlags(name string, f guard.Flags) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.bridges {
		if h.bridges[i].Name == name {
			store(&h.bridges[i], f)
		}
	}
}

// Flags returns the flags of a bridge.
func (h *Host) Flags(name string) guard.Flags {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.bridges {
		if h.bridges[i].Name == name {
			return h.bridges[i].Flags()
		}
	}
	return guard.Flags{}
}

// Remembered returns what was set and not taken back.
func (h *Host) Remembered() []guard.Remembered {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.remembered)
}

func store(b *guard.Bridge, f guard.Flags) {
	b.CallIPTables, b.CallIP6Tables, b.CallARPTables = f[guard.IPv4], f[guard.IPv6], f[guard.ARP]
}

// SurveyBridge implements keep.Host.
func (h *Host) SurveyBridge(ctx context.Context, p *guard.Policy, name string) guard.Observation {
	if h.HangLook != nil {
		<-h.HangLook
	}
	o := h.Survey(ctx, p, 0)
	for i := range o.Bridges {
		b := &o.Bridges[i]
		if port := func(p guard.Port) bool { return p.Name == name }; slices.ContainsFunc(b.NoHairpin, port) {
			b.AlonePort = name
			b.NoHairpin = slices.DeleteFunc(slices.Clone(b.NoHairpin), func(p guard.Port) bool { return !port(p) })
		} else if slices.Contains(h.hairpins[b.Name], name) {
			b.AlonePort, b.NoHairpin = name, nil
		}
	}
	o.Bridges = slices.DeleteFunc(o.Bridges, func(b guard.Bridge) bool { return b.Name != name && b.AlonePort == "" })
	return o
}

// beyondBridges adds what else is needed to judge bridges; h.mu is held.
func (h *Host) beyondBridges(o *guard.Observation) {
	o.Evidence = h.Evidence
	o.Remembered, o.RememberedErr = slices.Clone(h.remembered), h.MemoryErr
}

// flag carries out SetFlags and ClearFlags; h.mu is held.
func (h *Host) flag(a guard.Action) error {
	if h.FlagErr != nil {
		return h.FlagErr
	}
	i := slices.IndexFunc(h.bridges, func(b guard.Bridge) bool { return b.Index == a.Index && b.Name == a.Subject })
	if i < 0 {
		return errGone
	}
	if h.hairpins == nil {
		h.hairpins = make(map[string][]string)
	}
	for _, p := range a.Ports {
		h.hairpins[a.Subject] = append(h.hairpins[a.Subject], p.Name)
		h.bridges[i].NoHairpin = slices.DeleteFunc(slices.Clone(h.bridges[i].NoHairpin), func(q guard.Port) bool { return p.Index == q.Index })
	}
	if a.Flags == (guard.Flags{}) {
		return nil
	}
	on := a.Op == guard.SetFlags
	n := slices.IndexFunc(h.remembered, func(r guard.Remembered) bool { return r.Index == a.Index && r.Name == a.Subject })
	if n < 0 {
		n = len(h.remembered)
		h.remembered = append(h.remembered, guard.Remembered{Name: a.Subject, Index: a.Index})
	}
	f := h.bridges[i].Flags()
	for x := range f {
		if a.Flags[x] {
			f[x], h.remembered[n].Flags[x] = on && !h.FlagsFixed, on
			h.remembered[n].Evidence[x] = on && a.Evidence
		}
	}
	store(&h.bridges[i], f)
	h.remembered = slices.DeleteFunc(h.remembered, func(r guard.Remembered) bool { return r.Flags == guard.Flags{} })
	return nil
}
