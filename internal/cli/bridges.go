package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// bridgeRow is a bridge with what is in effect for it: the sysctl or its own
// flag.
type bridgeRow struct {
	guard.Bridge
	IPTables  bool `json:"effective_iptables"`
	IP6Tables bool `json:"effective_ip6tables"`
	ARPTables bool `json:"effective_arptables"`

	// Of scope "bridges" only: whether its flags are kept, and why or why not.
	Kept *bool  `json:"kept,omitempty"`
	Why  string `json:"why,omitempty"`

	// PodNames are the pods behind its ports, "namespace/name", as far as the
	// node tells.
	PodNames []string `json:"pod_names,omitempty"`

	sysctls [3]bool
}

// sysctlRow is which sysctls hand the frames of every bridge over.
type sysctlRow struct {
	IPTables  bool `json:"iptables"`
	IP6Tables bool `json:"ip6tables"`
	ARPTables bool `json:"arptables"`
}

// flagsAtBoot is what there is to say of the next boot: no file of systemd's
// can carry what a device that does not exist yet is to have.
const flagsAtBoot = "no file can set a bridge's own flags: nfguard.service, which is ordered before the kubelet and its like, sets them when the bridge appears"

func (d *document) addBridges(r *keep.Report, p *guard.Policy) {
	if d.Root != "" {
		return
	}
	d.Sysctls = &sysctlRow{r.On[guard.IPv4], r.On[guard.IPv6], r.On[guard.ARP]}
	if p.Bridges != nil && len(p.Bridges.Families) > 0 {
		d.FlagsAtBoot = flagsAtBoot
	}
	var called map[int]string
	if slices.ContainsFunc(r.Bridges, func(b guard.Bridge) bool { return len(b.Behind) > 0 }) {
		called = podNames()
	}
	for i := range r.Bridges {
		b := &r.Bridges[i]
		row := bridgeRow{
			Bridge:    *b,
			IPTables:  b.Effective(guard.IPv4, r.On[guard.IPv4]),
			IP6Tables: b.Effective(guard.IPv6, r.On[guard.IPv6]),
			ARPTables: b.Effective(guard.ARP, r.On[guard.ARP]),
			sysctls:   r.On,
		}
		if p.Bridges != nil {
			c := p.Bridges.Choose(b, r.Evidence)
			if len(p.Bridges.Families) == 0 {
				c = guard.Choice{Why: "no flag is to be kept"}
			}
			row.Kept, row.Why = &c.Kept, c.Why
		}
		for _, id := range b.Behind {
			if name := called[id]; name != "" {
				row.PodNames = append(row.PodNames, name)
			}
		}
		slices.Sort(row.PodNames)
		d.Bridges = append(d.Bridges, row)
	}
}

// writeLeft says in a line which sysctls scope "bridges" leaves alone.
func (d *document) writeLeft(w io.Writer, s style) {
	if d.Sysctls == nil || d.Scope != "bridges" {
		return
	}
	var left []string
	for f, on := range []bool{guard.IPv4: d.Sysctls.IPTables, guard.IPv6: d.Sysctls.IP6Tables, guard.ARP: d.Sysctls.ARPTables} {
		key := string(guard.Family(f).Key())
		if !slices.ContainsFunc(d.Items, func(r row) bool { return r.Subject == key }) {
			left = append(left, strings.TrimPrefix(key, callPrefix)+" "+digit(on))
		}
	}
	if len(left) > 0 {
		fmt.Fprintf(w, "%s  %s*  %s; left alone: scope = \"bridges\"\n", s.word(guard.Excused), callPrefix, strings.Join(left, ", "))
	}
}

// callPrefix begins the sysctls that a bridge's own flags can stand for.
const callPrefix = "net.bridge.bridge-nf-call-"

// digits are the values of the three sysctls or flags, in the order of the table.
func digits(on [3]bool) string { return digit(on[0]) + " " + digit(on[1]) + " " + digit(on[2]) }

func digit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

func (d *document) writeFlagsAtBoot(w io.Writer, s style) {
	if d.FlagsAtBoot != "" {
		writeLine(w, s.warn("note   "), d.FlagsAtBoot)
	}
}

// writeFindings prints the findings that are of bridges, or those that are not.
func (d *document) writeFindings(w io.Writer, s style, ofBridges bool) {
	for _, f := range d.Findings {
		of := f.Subject == guard.AllBridges || slices.ContainsFunc(d.Bridges, func(b bridgeRow) bool { return b.Name == f.Subject })
		if of != ofBridges || f.OfNeed || slices.Contains(d.Ahead, f) {
			continue // or it is told where the need is, or what lies ahead
		}
		word := s.warn("note   ")
		if f.Breaks {
			word = s.bad("breaks ")
		}
		writeLine(w, word, f.Sentence, f.Next)
	}
}

func (d *document) writeBridges(w io.Writer, s style) {
	if d.BridgesError == "" && len(d.Bridges) == 0 {
		return
	}
	fmt.Fprintln(w, "\nBRIDGES")
	if d.BridgesError != "" {
		fmt.Fprintf(w, "%s  %s\n", s.word(guard.Uncertain), d.BridgesError)
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "name\tstate\tports\tto iptables\tto ip6tables\tto arptables"
	if d.Scope == "bridges" {
		head += "\tkeys\tflags\tkept or left"
	}
	fmt.Fprintln(t, head)
	for _, b := range d.Bridges {
		state := "down"
		if b.Up {
			state = "up"
		}
		flags := b.Flags()
		line := []string{b.Name, state, ports(&b)}
		for f, on := range b.sysctls {
			line = append(line, through(flags[f], on))
		}
		if b.Kept != nil {
			kept := "left: "
			if *b.Kept {
				kept = "kept: "
			}
			line = append(line, digits(b.sysctls), digits(flags), kept+b.Why)
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	t.Flush()
	for _, b := range d.Bridges {
		if n := len(b.PodNames); n > maxPodNames {
			fmt.Fprintf(w, "behind %s: %s and %d more\n", b.Name, strings.Join(b.PodNames[:maxPodNames], ", "), n-maxPodNames)
		} else if n > 0 {
			fmt.Fprintf(w, "behind %s: %s\n", b.Name, strings.Join(b.PodNames, ", "))
		}
	}
}

// maxPodNames is how many pods of a bridge are told by name; -o json has all.
const maxPodNames = 8

// podNames are the names of the pods on this node, by the ids that their network
// namespaces have here. What cannot be read has no name.
func podNames() map[int]string {
	running, _ := pods.Running("/sys/fs/cgroup")
	names, _ := pods.ReadNames(run.PodLogs)
	called := make(map[int]string)
	for _, p := range running {
		if id, err := rtnl.SpaceOf(p.PID); err == nil && id >= 0 {
			called[id] = names.Of(p.UID, "").String()
		}
	}
	return called
}

// ports says what is behind the ports of a bridge: "2 pods, 1 uplink"; and, where
// its frames are handed over, of how many pods a port lacks hairpin mode.
func ports(b *bridgeRow) string {
	p := b.Ports
	var parts []string
	for _, c := range []struct {
		n         int
		one, many string
	}{{p.Pods, "pod", "pods"}, {p.VMs, "VM", "VMs"}, {p.Uplinks, "uplink", "uplinks"}, {p.Others, "other", "others"}} {
		switch {
		case c.n == 1:
			parts = append(parts, "1 "+c.one)
		case c.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.many))
		}
		if n := p.Pods - p.Hairpin; c.one == "pod" && n > 0 && (b.IPTables || b.IP6Tables) {
			parts[0] += fmt.Sprintf(" (%d without hairpin mode)", n)
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// through says whether bridged packets are handed over, and by what.
func through(flag, sysctl bool) string {
	switch {
	case flag && sysctl:
		return "yes (both)"
	case flag:
		return "yes (flag)"
	case sysctl:
		return "yes (sysctl)"
	}
	return "no"
}
