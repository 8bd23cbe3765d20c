package guard

import (
	"fmt"
	"strings"
	"time"
)

// KubeProxy is what is seen of kube-proxy, or of what takes its place: the
// programs that are it or contain it, and the rules in the kernel, whoever
// wrote them.
type KubeProxy struct {
	Processes []Process
	Rules     []Rules

	ProcessesErr error // why Processes is not known; nil when it is
	RulesErr     error // why Rules is not known; nil when it is
}

// Process is a running program.
type Process struct {
	PID       int    `json:"pid"`
	Comm      string `json:"comm"`
	Exe       string `json:"exe,omitempty"`
	Unit      string `json:"unit,omitempty"`      // systemd unit
	Container string `json:"container,omitempty"` // container id
	Pod       string `json:"pod,omitempty"`       // uid of the pod
	Cgroup    string `json:"cgroup,omitempty"`

	// Started is how long after the boot it began: with the PID it is one
	// process, whatever PIDs are used again.
	Started time.Duration `json:"-"`
}

// String names the process for people: kube-proxy[4242].
func (p Process) String() string { return fmt.Sprintf("%s[%d]", p.Comm, p.PID) }

// Home is where the process runs, as far as that is known; "" otherwise.
func (p Process) Home() string {
	switch {
	case p.Container != "":
		return "container " + p.Container[:min(12, len(p.Container))]
	case p.Unit != "":
		return p.Unit
	}
	return ""
}

// Rules are kube-proxy's rules of one kind.
type Rules struct {
	Mode    string `json:"mode"`    // "iptables", "nftables" or "ipvs"
	Backend string `json:"backend"` // of mode iptables: "nf_tables" or "legacy"; "" otherwise
	IPv4    bool   `json:"ipv4"`
	IPv6    bool   `json:"ipv6"`
}

func (r Rules) String() string {
	s := r.Mode + " mode"
	if r.Backend != "" {
		s += " (" + r.Backend + ")"
	}
	var families []string
	if r.IPv4 {
		families = append(families, "IPv4")
	}
	if r.IPv6 {
		families = append(families, "IPv6")
	}
	if len(families) > 0 {
		s += ", " + strings.Join(families, " and ")
	}
	return s
}

// ProxyState is how far kube-proxy has come.
type ProxyState string

// The states.
const (
	ProxyAbsent     ProxyState = "absent"     // no program and no rules
	ProxyStarting   ProxyState = "starting"   // a program, no rules yet
	ProxyProgrammed ProxyState = "programmed" // rules are in the kernel, whether we know the program or not
	ProxyGone       ProxyState = "gone"       // it was there, and its program has ended
	ProxyUnknown    ProxyState = "unknown"    // could not look
)

// State judges k alone. [ProxyGone] takes a memory, and is never its answer.
func (k *KubeProxy) State() ProxyState {
	switch {
	case k == nil:
		return ProxyUnknown
	case len(k.Rules) > 0:
		return ProxyProgrammed
	case k.RulesErr != nil:
		return ProxyUnknown
	case len(k.Processes) > 0:
		return ProxyStarting
	case k.ProcessesErr != nil:
		return ProxyUnknown
	}
	return ProxyAbsent
}

// Describe says in a few words what is there: "kube-proxy[4242],
// kube-proxy.service; iptables mode (nf_tables), IPv4".
func (k *KubeProxy) Describe() string {
	var parts []string
	for _, p := range k.Processes {
		s := p.String()
		if h := p.Home(); h != "" {
			s += " (" + h + ")"
		}
		parts = append(parts, s)
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "no process that is known"
		if k.ProcessesErr != nil {
			text = "processes unknown: " + k.ProcessesErr.Error()
		}
	}
	return text + "; " + k.DescribeRules()
}

// DescribeRules says which rules are in the kernel.
func (k *KubeProxy) DescribeRules() string {
	var parts []string
	for _, r := range k.Rules {
		parts = append(parts, r.String())
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, " and ")
	case k.RulesErr != nil:
		return "rules unknown: " + k.RulesErr.Error()
	}
	return "no rules"
}

// serves reports whether rules for IPv4, or IPv6, are there.
func (k *KubeProxy) serves(f Family) bool {
	for _, r := range k.Rules {
		if f == IPv4 && r.IPv4 || f == IPv6 && r.IPv6 {
			return true
		}
	}
	return false
}

// Findings judges what k means besides what is guarded.
func (k *KubeProxy) Findings() []Finding {
	if k == nil {
		return nil
	}
	var list []Finding
	for _, f := range []Family{IPv4, IPv6} {
		var backends []string
		for _, r := range k.Rules {
			if r.Backend != "" && (f == IPv4 && r.IPv4 || f == IPv6 && r.IPv6) {
				backends = append(backends, r.Backend)
			}
		}
		if len(backends) < 2 {
			continue
		}
		list = append(list, Finding{
			Subject: "kube-proxy",
			Sentence: fmt.Sprintf("%s rules of kube-proxy are in both backends of iptables, nf_tables and legacy: "+
				"the kernel runs both, one of them is not kept up to date, and its stale endpoints take a part of the connections", f),
			Next: "find out which one kube-proxy writes (iptables --version where it runs), then remove the other's rules: " +
				"kube-proxy --cleanup with the other iptables, or a reboot",
		})
	}
	return list
}
