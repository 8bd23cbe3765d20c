// Package metrics leaves numbers for Prometheus in a file that node_exporter's
// textfile collector reads: how the host stands, what was done about it, and
// how nfguard itself fares. It opens no socket.
//
// It writes the text format itself: client_golang, with its registry, protobuf
// and net/http, made the idle daemon 4 MiB larger. The tests have what is written
// read by Prometheus' own parser, promtool and node_exporter.
package metrics

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

// State is how things stand, as of the last pass.
type State struct {
	// Textfile is where the metrics go; "" for nowhere.
	Textfile string

	Started    time.Time
	LastPass   time.Time
	Passes     uint64
	Looking    time.Time     // since when a look runs that takes long; zero: none does
	Late       bool          // no look has ended for two audit intervals
	Audit      time.Duration // the longest time between two passes
	PausedTill time.Time     // nothing is corrected until then; zero: there is no pause
	Mode       guard.Mode
	Scope      string // "host" or "bridges"
	BadConfig  bool   // the configuration on disk is wrong and not in force
	Verdict    guard.Verdict
	Items      []guard.Item
	Complaints map[string]string // of a look since the pass, by subject
	Fights     []string          // subjects
	Failed     uint64            // attempts
	Findings   []guard.Finding
	Bridges    []guard.Bridge
	Bridging   error   // why Bridges is not known
	On         [3]bool // which sysctls hand bridged frames over, by guard.Family
	KubeProxy  guard.ProxyState
	Sources    []source.Health
}

// Metrics counts events, and has a file written. Its methods are called by one
// goroutine; none of them waits for a disk.
type Metrics struct {
	things   []thing
	culprits []culprit
	stood    stood
	last     State

	unreplied atomic.Uint64 // connections, see AddUnreplied
	file      *file
	revision  string
	size      int // of the last text, in bytes
}

// thing counts what happened to one guarded thing.
type thing struct {
	kind, subject       string
	drifts, corrections uint64
}

// culprit counts the foreign values that a unit has written to a key.
type culprit struct {
	key, unit string
	outcome   record.Outcome
	n         uint64
}

// How many series there may be of what others name: beyond, a name is "other".
// A host has a handful of either; a fault, or somebody who makes a unit for
// each write, must not fill Prometheus.
const (
	maxThings   = 64
	maxCulprits = 64
	maxBridges  = 32
)

// Record counts e, which the journal gets as well.
func (m *Metrics) Record(e record.Event) {
	about, n := e.Kind, uint64(1+max(e.Suppressed, 0))
	if e.Kind == record.KindContention { // it is only about others
		about, n = e.About, uint64(max(e.Suppressed, 0))
		if about == "" {
			about = record.KindDrift
		}
	}
	kind := kindOf(about)
	if e.Bridge != "" { // ports come and go with the pods
		e.Subject = e.Bridge
	}
	switch {
	case n == 0, e.New:
	case about == record.KindDenied:
		outcome := e.Outcome
		if e.Kind == record.KindContention {
			outcome = record.Denied
		}
		m.culprit(e.Subject, unitOf(e.Writer), outcome).n += n
	case kind == "":
	case e.Source == record.CausePause && corrected(&e): // the pause has counted it
		m.thing(kind, e.Subject).corrections += n
	case e.Kind == record.KindContention || drifted(&e):
		t := m.thing(kind, e.Subject)
		t.drifts += n
		outcome := e.Outcome
		switch {
		case e.Kind == record.KindContention, corrected(&e):
			t.corrections += n
			outcome = record.Corrected
		case e.Outcome == record.Rewritten: // by the kernel, before it was stored
			t.corrections += n
		}
		if about == record.KindDrift {
			m.culprit(e.Subject, unitOf(e.Writer), outcome).n += n
		}
	}
	if e.Kind == record.KindDrift && corrected(&e) && e.Duration > 0 && e.Source != record.CausePause {
		m.stood.observe(e.Duration)
	}
}

// AddUnreplied counts connections that had no reply because it bypassed netfilter. It can
// be called from any goroutine; the next text has it.
func (m *Metrics) AddUnreplied(n int) { m.unreplied.Add(uint64(n)) }

// drifted reports whether e tells of a thing that was not as wanted: not of the
// end of that, nor of one that could not be looked at.
func drifted(e *record.Event) bool {
	if e.Have == "" && e.Err != nil {
		return false
	}
	return e.Outcome != record.Observed || !guard.SameValue(e.Now, e.Want)
}

// corrected reports whether e was put right, even if somebody else then changed it
// again. What did not stay although nobody did has failed.
func corrected(e *record.Event) bool {
	return e.Outcome == record.Corrected || e.Outcome == record.Reverted && e.Err == nil
}

// kindOf is the word for a guarded thing, as nfguard check -o json has it; ""
// for an event of another kind.
func kindOf(k record.Kind) string {
	switch k { //nolint:exhaustive // those of guarded things
	case record.KindDrift:
		return "sysctl"
	case record.KindModule:
		return "module"
	case record.KindFlag:
		return "bridge"
	case record.KindDropin:
		return "dropin"
	}
	return ""
}

// unitOf is the writer as a label. Names that are made up for each login,
// container or call are left out, for each would be a series for ever.
func unitOf(w record.Process) string {
	switch {
	case w.PID == 0:
		return "unknown" // nobody saw it
	case w.Container != "" || w.Pod != "":
		return "container"
	case w.Unit == "":
		return "none"
	case strings.HasSuffix(w.Unit, ".scope"), strings.HasPrefix(w.Unit, "run-"):
		return "transient"
	}
	return w.Unit
}

func (m *Metrics) thing(kind, subject string) *thing {
	for i := range m.things {
		if t := &m.things[i]; t.kind == kind && t.subject == subject {
			return t
		}
	}
	if len(m.things) >= maxThings && subject != other {
		return m.thing(kind, other)
	}
	m.things = append(m.things, thing{kind: kind, subject: subject})
	return &m.things[len(m.things)-1]
}

func (m *Metrics) culprit(key, unit string, o record.Outcome) *culprit {
	for i := range m.culprits {
		if c := &m.culprits[i]; c.key == key && c.unit == unit && c.outcome == o {
			return c
		}
	}
	if len(m.culprits) >= maxCulprits && unit != other {
		return m.culprit(key, other, o)
	}
	m.culprits = append(m.culprits, culprit{key: key, unit: unit, outcome: o})
	return &m.culprits[len(m.culprits)-1]
}

const other = "other"

// bounds are those of the histogram, in seconds: what a wake-up takes, what a
// busy processor takes, the resync, and what should never happen.
var bounds = [...]float64{0.00005, 0.0001, 0.00025, 0.001, 0.01, 0.1, 1, 10}

// stood counts for how long foreign values were in effect.
type stood struct {
	counts [len(bounds) + 1]uint64 // each of its own bucket; the last has no bound
	sum    float64
}

func (s *stood) observe(d time.Duration) {
	v := d.Seconds()
	s.sum += v
	for i, b := range bounds {
		if v <= b {
			s.counts[i]++
			return
		}
	}
	s.counts[len(bounds)]++
}
