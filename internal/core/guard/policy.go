// Package guard decides: from the state that is wanted ([Policy]) and the
// state that was seen ([Observation]) it makes the list of what is right,
// what is wrong and what to do about it ([PlanFor]). It is data and pure
// functions; it opens nothing, runs nothing and knows no clock.
package guard

import "strings"

// Mode says what happens to a drift.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // put right and recorded
	Observe Mode = "observe" // recorded, nothing is changed
	Lock    Mode = "lock"    // as enforce, and the kernel is asked to keep foreign values out
)

// Policy is the desired state of a host.
type Policy struct {
	Mode Mode

	// Module is the name that modprobe is asked for. Whether it is loaded is
	// judged by br_netfilter's own sysctls, whatever the name.
	Module string

	// Override loads the module although modprobe.d forbids it.
	Override bool

	// Sysctls are the guarded keys. A key that is to be ignored is not here.
	Sysctls []Setting

	// Bridges is scope "bridges"; nil means scope "host". With it the three
	// sysctls of the flags are 0 in Sysctls, or not there: they are left alone.
	Bridges *Selection

	// Hairpin is about the ports of pods, in both scopes.
	Hairpin Hairpin

	// Ignored are patterns of bridges whose containers are no pods: what Services
	// need is not looked at for those.
	Ignored []string

	// Programs and Units tell kube-proxy, or what contains it: names of
	// programs without directories, and systemd units.
	Programs, Units []string

	// ModulesLoad and SysctlD are the paths of the drop-ins that carry the
	// state over a reboot. Empty: the drop-in is not kept.
	ModulesLoad string
	SysctlD     string
}

// Setting is one guarded sysctl with the value that it has to have.
type Setting struct {
	Key   Key
	Value string
}

// Scope is the word for it: "host" or "bridges".
func (p *Policy) Scope() string {
	if p.Bridges != nil {
		return "bridges"
	}
	return "host"
}

// ByEvidence reports whether evidence decides which bridges something is done to.
func (p *Policy) ByEvidence() bool {
	return p.Bridges != nil && p.Bridges.Auto || p.Hairpin.Keep && p.Hairpin.On.Auto
}

// Selected are the bridges that something is done to, in either scope.
func (p *Policy) Selected() *Selection {
	if p.Bridges != nil {
		return p.Bridges
	}
	return &p.Hairpin.On
}

// Ignores reports whether a bridge of that name carries no pods, whatever is
// behind its ports.
func (p *Policy) Ignores(bridge string) bool { return matching(p.Ignored, bridge) != "" }

// mark begins each file of ours. A file that begins otherwise is not replaced.
const mark = "# Written by nfguard"

// Ours reports whether a file that begins so is one that nfguard wrote.
func Ours(start []byte) bool { return strings.HasPrefix(string(start), mark) }

const header = mark + ", see nfguard(8). A change made here is put back:\n" +
	"# what is kept is decided in /etc/nfguard/nfguard.toml.\n"

// ModulesLoadText is the content of the modules-load.d drop-in, which names no
// module where none is needed.
func (p *Policy) ModulesLoadText() string {
	if !p.NeedsModule() {
		return header
	}
	return header + p.Module + "\n"
}

// SysctlText is the content of the sysctl.d drop-in. Keys that [Policy.Excused]
// names are left out: the file must not do at boot what we do not do live.
func (p *Policy) SysctlText(o *Observation) string {
	var b strings.Builder
	b.WriteString(header)
	for _, s := range p.Sysctls {
		if p.Excused(s, o) == "" {
			b.WriteString(string(s.Key) + " = " + s.Value + "\n")
		}
	}
	return b.String()
}

// Excused says why s is not to be set on the host of o, or "" when it is.
//
// With IPv6 switched off at boot, br_netfilter drops every bridged IPv6 frame
// as soon as ip6tables is asked for (br_nf_pre_routing, NF_DROP after
// "Module ipv6 is disabled, so call_ip6tables is not supported").
func (p *Policy) Excused(s Setting, o *Observation) string {
	if o.IPv6Off && s.Key == IP6Tables && s.Value != "0" {
		return noIPv6
	}
	return ""
}

// What is said of ip6tables where the kernel has no IPv6: of 0, and of 1.
const (
	noIPv6    = "IPv6 is switched off in this kernel, and with 1 it would drop every bridged IPv6 frame"
	noIPv6Now = "IPv6 is switched off in this kernel: it drops every bridged IPv6 frame now"
)
