package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Bridges lists the bridges of this process's network namespace, for
// [Options.Bridges].
func Bridges(ctx context.Context) ([]guard.Bridge, error) {
	list, err := rtnl.Bridges(ctx)
	if err != nil {
		return nil, fmt.Errorf("list bridges: %w", err)
	}
	out := make([]guard.Bridge, len(list))
	for i, b := range list {
		out[i] = bridge(b)
	}
	return out, nil
}

func bridge(b rtnl.Bridge) guard.Bridge {
	out := guard.Bridge{
		Name: b.Name, Index: b.Index, Up: b.Up, VLANFiltering: b.VLANFiltering,
		CallIPTables: b.NFCallIPTables, CallIP6Tables: b.NFCallIP6Tables, CallARPTables: b.NFCallARPTables,
	}
	for _, p := range b.Ports {
		out.Ports.Count(p.Kind, p.Away)
		if p.Kind == "veth" && p.Away {
			out.Behind = append(out.Behind, p.ID)
		}
	}
	return out
}

// SurveyBridge looks at one bridge, and at what else decides about its flags. A bridge
// that does not exist is not in the observation. For kube-proxy's rules, it uses what the
// last [Linux.Survey] has read.
func (l *Linux) SurveyBridge(ctx context.Context, p *guard.Policy, name string) guard.Observation {
	var o guard.Observation
	step.Begin(ctx, "asking the kernel for bridge "+name)
	b, err := rtnl.BridgeNamed(name)
	switch {
	case errors.Is(err, rtnl.ErrNoBridge):
		return o
	case err == nil && p.Bridges != nil && p.Bridges.Auto:
		b.Ports, err = rtnl.PortsOf(ctx, b.Index)
	}
	if err != nil {
		o.Bridging = fmt.Errorf("look at bridge %s: %w", name, err)
		return o
	}
	o.Bridges = []guard.Bridge{bridge(b)}
	o.IPv6Off = l.ipv6Off()
	if p.Bridges == nil {
		o.Module = l.module(ctx, p)
		o.On = l.on()
	}
	if p.Bridges == nil || p.Bridges.Auto {
		o.Remembered, o.RememberedErr = l.remembered(ctx, name)
	}
	l.evidence(ctx, p, &o, false)
	return o
}

// addresses adds to o those of bridges that carry pods: they tell which families
// the pods have. What could not be found out is left out.
func addresses(ctx context.Context, o *guard.Observation) {
	if !slices.ContainsFunc(o.Bridges, func(b guard.Bridge) bool { return b.Ports.Pods > 0 }) {
		return
	}
	all, _ := rtnl.Addresses(ctx)
	for i := range o.Bridges {
		o.Bridges[i].Addresses = all[o.Bridges[i].Index]
	}
}

// evidence adds to o the evidence that bridges carry pods, if that counts. With ask, it
// also reads kube-proxy's rules, which takes a moment.
func (l *Linux) evidence(ctx context.Context, p *guard.Policy, o *guard.Observation, ask bool) {
	if p.Bridges == nil || !p.Bridges.Auto || o.Bridging != nil {
		return
	}
	o.Evidence = &guard.Evidence{CNI: l.cni(ctx)}
	step.Begin(ctx, "asking the kernel for its addresses")
	addresses, err := rtnl.Addresses(ctx)
	if err != nil {
		o.Evidence.CNI.Err = errors.Join(o.Evidence.CNI.Err, err)
	}
	for i := range o.Bridges {
		o.Bridges[i].Addresses = addresses[o.Bridges[i].Index]
	}
	l.endpoints(ctx, p, o, addresses, ask)
}

// vlanTagged decides whether VLAN-tagged frames are handed to netfilter too.
const vlanTagged guard.Key = "net.bridge.bridge-nf-filter-vlan-tagged"

// on returns which sysctls hand bridged frames to netfilter.
func (l *Linux) on() (on [3]bool) {
	for _, f := range []guard.Family{guard.IPv4, guard.IPv6, guard.ARP} {
		on[f] = l.digit(f.Key()) > '0'
	}
	return on
}

// digit is the first character of a sysctl, or 0 if it cannot be read.
func (l *Linux) digit(k guard.Key) byte {
	text, err := os.ReadFile(filepath.Join(l.o.Proc, "sys", k.Path()))
	if err != nil || len(text) == 0 {
		return 0
	}
	return text[0]
}

// setFlags sets flags of a bridge, after noting that it was us. If the note cannot be
// written, the bridge does not have to wait: the next survey reports the error.
func (l *Linux) setFlags(a guard.Action) error {
	l.memory.remember(a)
	defer l.memory.tidy(a)
	if err := rtnl.SetNFCall(a.Index, a.Subject, rtnl.NFCall(a.Flags), true); err != nil {
		return fmt.Errorf("set flags of bridge %s: %w", a.Subject, err)
	}
	return nil
}

// clearFlags takes flags back, and then forgets them.
func (l *Linux) clearFlags(a guard.Action) error {
	err := rtnl.SetNFCall(a.Index, a.Subject, rtnl.NFCall(a.Flags), false)
	if err != nil && !errors.Is(err, rtnl.ErrNoBridge) {
		return fmt.Errorf("clear flags of bridge %s: %w", a.Subject, err)
	}
	return l.memory.forget(a)
}
