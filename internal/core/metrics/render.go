package metrics

import (
	"math"
	"runtime"
	"slices"
	"strconv"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// render is the file for s: all that is known.
func (m *Metrics) render(s *State) []byte {
	t := &text{b: make([]byte, 0, m.size+256)}
	t.family("nfguard_up", gauge, "Whether nfguard guards this host: 0 before its first look and after it was stopped.").add(1)
	m.program(t, s)
	m.looks(t, s)
	t.family("nfguard_passes_total", counter, "Looks at everything.").add(float64(s.Passes))
	t.family("nfguard_audit_interval_seconds", gauge, "The longest time between two looks at everything: [timing] audit.").add(s.Audit.Seconds())
	t.family("nfguard_config_info", gauge, "What is in force.").add(1, "mode", string(s.Mode), "scope", s.Scope)
	till := 0.0
	if !s.PausedTill.IsZero() {
		till = seconds(s.PausedTill)
	}
	t.family("nfguard_paused", gauge, "Whether nfguard corrects nothing, because somebody asked for a pause.").add(truth(till > 0))
	t.family("nfguard_pause_end_timestamp_seconds", gauge, "When the pause ends by itself, since the epoch; 0: there is none.").add(till)
	t.family("nfguard_config_last_reload_successful", gauge, "Whether the configuration on disk is the one in force.").add(truth(!s.BadConfig))

	f := t.family("nfguard_verdict", gauge, "The verdict of the last look: 1 for the one that holds.")
	for _, v := range []guard.Verdict{guard.Right, guard.Wrong, guard.Uncertain} {
		f.add(truth(v == s.Verdict), "verdict", string(v))
	}
	m.guarded(t, s)
	m.drift(t, s)
	t.bridges(s)

	f = t.family("nfguard_kube_proxy_state", gauge, "How far kube-proxy has come: 1 for the state that holds.")
	for _, p := range []guard.ProxyState{guard.ProxyAbsent, guard.ProxyStarting, guard.ProxyProgrammed, guard.ProxyGone, guard.ProxyUnknown} {
		f.add(truth(p == s.KubeProxy), "state", string(p))
	}
	breaks := 0
	for _, x := range s.Findings {
		if x.Breaks {
			breaks++
		}
	}
	t.family("nfguard_next_boot_breaks", gauge, "Findings that will undo the guarded state at the next boot; 0 is well.").add(float64(breaks))
	t.family("nfguard_findings", gauge, "All findings of nfguard check.").add(float64(len(s.Findings)))
	f = t.family("nfguard_source_up", gauge, "Whether a source of news is heard from.")
	for _, h := range s.Sources {
		f.add(truth(h.Up), "source", h.Name)
	}
	m.size = len(t.b)
	return t.b
}

// stopped is the file once the daemon has ended, after s: without what it last saw
// and counted, which would look current for ever.
func (m *Metrics) stopped(s *State) []byte {
	t := new(text)
	t.family("nfguard_up", gauge, "Whether nfguard guards this host: 0 before its first look and after it was stopped.").add(0)
	m.program(t, s)
	return t.b
}

// program is about the daemon itself, and stays in the file when it has ended.
func (m *Metrics) program(t *text, s *State) {
	t.family("nfguard_build_info", gauge, "The build that wrote this.").
		add(1, "version", build.Version(), "revision", m.revision, "goversion", runtime.Version())
	t.family("nfguard_start_time_seconds", gauge, "When nfguard started, since the epoch: the counters count from there.").add(seconds(s.Started))
	if !s.LastPass.IsZero() {
		t.family("nfguard_last_pass_timestamp_seconds", gauge, "When everything was looked at last, since the epoch.").add(seconds(s.LastPass))
	}
}

// looks is the progress of the looks at everything.
func (m *Metrics) looks(t *text, s *State) {
	since := 0.0
	if !s.Looking.IsZero() {
		since = seconds(s.Looking)
	}
	t.family("nfguard_look_running_since_timestamp_seconds", gauge, "Since when a look has run that takes long, since the epoch; 0: none does.").add(since)
	t.family("nfguard_look_late", gauge, "Whether no look at everything has ended for two audit intervals.").add(truth(s.Late))
}

// starting is the file while the first look lasts.
func (m *Metrics) starting(s *State) []byte {
	t := new(text)
	t.family("nfguard_up", gauge, "Whether nfguard guards this host: 0 before its first look and after it was stopped.").add(0)
	m.program(t, s)
	m.looks(t, s)
	return t.b
}

// guarded is how each guarded thing stands.
func (m *Metrics) guarded(t *text, s *State) {
	f := t.family("nfguard_guarded_right", gauge,
		"Whether a guarded thing is as wanted, or left so on purpose: 1 yes, 0 no, NaN could not look.")
	flags := 0
	for i := range s.Items {
		it := &s.Items[i]
		v := math.NaN()
		switch it.Verdict {
		case guard.Right, guard.Excused:
			v = truth(s.Complaints[it.Subject] == "")
		case guard.Wrong, guard.Blocked:
			v = 0
		case guard.Uncertain:
		}
		if it.Kind == record.KindFlag {
			if flags++; flags > maxBridges {
				continue
			}
		}
		f.add(v, "kind", kindOf(it.Kind), "subject", it.Subject)
	}
}

// drift is what happened to the guarded things, and who did it. Each thing has
// its counters from the start: of one that appears as 1, increase() sees nothing.
func (m *Metrics) drift(t *text, s *State) {
	things := slices.Clone(m.things)
	for i := range s.Items {
		it := &s.Items[i]
		has := func(x thing) bool { return x.kind == kindOf(it.Kind) && x.subject == it.Subject }
		if len(things) < maxThings && !slices.ContainsFunc(things, has) {
			things = append(things, thing{kind: kindOf(it.Kind), subject: it.Subject})
		}
	}
	f := t.family("nfguard_drifts_total", counter, "How often a guarded thing was found not as wanted.")
	for _, x := range things {
		f.add(float64(x.drifts), "kind", x.kind, "subject", x.subject)
	}
	f = t.family("nfguard_corrections_total", counter, "How often a guarded thing was put right.")
	for _, x := range things {
		f.add(float64(x.corrections), "kind", x.kind, "subject", x.subject)
	}
	f = t.family("nfguard_contended", gauge, "Whether somebody changes a guarded thing again and again.")
	for _, x := range things {
		f.add(truth(slices.Contains(s.Fights, x.subject)), "kind", x.kind, "subject", x.subject)
	}
	t.family("nfguard_failed_attempts_total", counter, "Attempts to put something right that failed.").add(float64(s.Failed))

	t.family("nfguard_unreplied_connections_total", counter,
		"Connections through Services that had no reply because it bypassed netfilter, counted when a drift that lasted was recorded.").add(float64(m.unreplied.Load()))

	f = t.family("nfguard_foreign_values_total", counter, "Foreign values of sysctls by the systemd unit of the writer, and what became of them.")
	for _, c := range m.culprits {
		f.add(float64(c.n), "key", c.key, "unit", c.unit, "outcome", string(c.outcome))
	}
	m.stood.write(t.family("nfguard_foreign_value_duration_seconds", histogram,
		"For how long foreign values stood that were put right, where the kernel told of the write; not of those within a fight."))
}

func (s *stood) write(f *family) {
	n := uint64(0)
	for i, b := range bounds {
		n += s.counts[i]
		f.sample("_bucket", float64(n), "le", strconv.FormatFloat(b, 'g', -1, 64))
	}
	n += s.counts[len(bounds)]
	f.sample("_bucket", float64(n), "le", "+Inf")
	f.sample("_sum", s.sum)
	f.sample("_count", float64(n))
}

var families = [...]struct {
	guard.Family
	label string
}{{guard.IPv4, "ipv4"}, {guard.IPv6, "ipv6"}, {guard.ARP, "arp"}}

// bridges is whether frames that cross a bridge are handed to netfilter. Those
// with pods come first: they are what it is about.
func (t *text) bridges(s *State) {
	f := t.family("nfguard_sysctl_on", gauge, "Whether the sysctl hands the frames of every bridge over, guarded or not.")
	for _, x := range families {
		f.add(truth(s.On[x.Family]), "family", x.label)
	}
	f = t.family("nfguard_sysctl_wanted", gauge, "The value that this sysctl is kept at; one that is left alone is not here.")
	for _, x := range families {
		for i := range s.Items {
			if it := &s.Items[i]; it.Subject == string(x.Key()) {
				f.add(truth(it.Want != "0"), "family", x.label)
			}
		}
	}
	if s.Bridging != nil {
		return
	}
	t.family("nfguard_bridges", gauge, "Bridges of this host.").add(float64(len(s.Bridges)))
	list := slices.Clone(s.Bridges)
	slices.SortStableFunc(list, func(a, b guard.Bridge) int { return min(b.Ports.Pods, 1) - min(a.Ports.Pods, 1) })
	list = list[:min(len(list), maxBridges)]
	f = t.family("nfguard_bridge_pods", gauge, "Ports of a bridge that lead into other network namespaces.")
	for i := range list {
		f.add(float64(list[i].Ports.Pods), "bridge", list[i].Name)
	}
	f = t.family("nfguard_bridge_flag", gauge, "Whether a bridge's own flag hands its frames to netfilter, whatever the sysctl.")
	for i := range list {
		flags := list[i].Flags()
		for _, x := range families {
			f.add(truth(flags[x.Family]), "bridge", list[i].Name, "family", x.label)
		}
	}
	loaded := slices.ContainsFunc(s.Items, func(it guard.Item) bool { return it.Loaded() })
	f = t.family("nfguard_bridge_effective", gauge,
		"Whether frames that cross a bridge are handed to netfilter, by the sysctl or the flag of the bridge.")
	for i := range list {
		for _, x := range families {
			f.add(truth(loaded && list[i].Effective(x.Family, s.On[x.Family])), "bridge", list[i].Name, "family", x.label)
		}
	}
}
