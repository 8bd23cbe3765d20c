// Package fleet combines the output of "nfguard check -o json" from many hosts into
// one table: how many are as wanted, and which causes the others have in common. It
// reads the JSON itself, what ansible prints of it, and the files that ansible
// leaves.
package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Report is the state of a fleet.
type Report struct {
	Schema  int           `json:"schema"` // 1
	Verdict guard.Verdict `json:"verdict"`
	Right   int           `json:"right"`   // hosts
	Wrong   int           `json:"wrong"`   // hosts
	Unknown int           `json:"unknown"` // hosts
	Causes  []Cause       `json:"causes"`  // those with the most hosts first
	Hosts   []Host        `json:"hosts"`   // by name

	// Twice are names with more than one result, from one host or several: only
	// the last result is counted.
	Twice []string `json:"twice,omitempty"`
}

// Host is what one host said.
type Host struct {
	Name    string        `json:"name"` // from the inventory, or the host's own
	Verdict guard.Verdict `json:"verdict"`
	Mode    guard.Mode    `json:"mode,omitempty"`
	Kernel  string        `json:"kernel,omitempty"`
	Summary string        `json:"summary"`          // or why there is no answer
	Paused  string        `json:"paused,omitempty"` // why nfguard corrects nothing there now; "": it does, or does not say
	causes  []Cause
}

// Cause is a reason why hosts are not as wanted.
type Cause struct {
	Verdict guard.Verdict `json:"verdict"`
	What    string        `json:"what"`
	Next    string        `json:"next,omitempty"` // what to do about it, as the first host says
	Hosts   []string      `json:"hosts"`          // by name
}

// document is the part of check's JSON that is used here.
type document struct {
	Schema  int           `json:"schema"`
	Host    string        `json:"host"`
	Kernel  string        `json:"kernel"`
	Mode    guard.Mode    `json:"mode"`
	Verdict guard.Verdict `json:"verdict"`
	Summary string        `json:"summary"`
	Items   []struct {
		Subject string        `json:"subject"`
		Verdict guard.Verdict `json:"verdict"`
		Want    string        `json:"want"`
		Have    string        `json:"have"`
		Reason  string        `json:"reason"`
		Next    string        `json:"next"`
	} `json:"items"`
	Findings []guard.Finding `json:"findings"`
	Pause    *struct {
		Until  time.Time `json:"until"`
		Reason string    `json:"reason"`
	} `json:"pause"`
	Needs []guard.Need `json:"needs"`
	Probe *struct {
		Verdict string `json:"verdict"` // "works", "broken" or "unknown"
		Meaning string `json:"meaning"`
		Next    string `json:"next"`
	} `json:"probe"`
}

// maxCauses limits the causes that are kept of one host: nobody reads more.
const maxCauses = 1_000

// host judges d as check's exit code does.
func (d *document) host(name string) Host {
	h := Host{Name: cmp.Or(name, d.Host), Verdict: d.Verdict, Mode: d.Mode, Kernel: d.Kernel, Summary: d.Summary}
	if p := d.Pause; p != nil {
		h.Paused = "until " + p.Until.UTC().Format(time.RFC3339) + ": " + p.Reason
		h.Summary += "; nfguard is paused " + h.Paused
	}
	for _, it := range d.Items {
		if len(h.causes) == maxCauses {
			break
		}
		c := Cause{Verdict: it.Verdict, What: it.Subject + " " + it.Have + ", wanted " + it.Want, Next: it.Next}
		switch it.Verdict {
		case guard.Wrong:
		case guard.Blocked:
			c.What += ": " + it.Reason
		case guard.Uncertain:
			c.What = it.Subject + ": " + it.Reason
		case guard.Right, guard.Excused:
			continue
		default: // not one of check's verdicts
			continue
		}
		h.causes = append(h.causes, c)
	}
	for _, f := range d.Findings {
		if f.Breaks && len(h.causes) < maxCauses {
			h.worse(Cause{Verdict: guard.Wrong, What: f.Sentence, Next: f.Next})
		}
	}
	for i := range d.Needs {
		if n := &d.Needs[i]; n.Counts(d.Needs) && len(h.causes) < maxCauses {
			h.worse(Cause{Verdict: guard.Wrong, What: "Services need " + n.What + ": " + n.Have, Next: n.Next})
		}
	}
	if p := d.Probe; p != nil && p.Verdict != "works" {
		c := Cause{Verdict: guard.Uncertain, What: "probe: " + p.Meaning, Next: p.Next}
		if p.Verdict == "broken" {
			c.Verdict = guard.Wrong
		}
		h.worse(c)
	}
	return h
}

// worse adds a cause that the summary does not contain.
func (h *Host) worse(c Cause) {
	h.causes = append(h.causes, c)
	if c.Verdict == guard.Wrong || h.Verdict == guard.Right {
		h.Verdict = c.Verdict
		h.Summary += "; " + c.What
	}
}

// silent returns a host without a document.
func silent(name, why string) Host {
	return Host{Name: name, Verdict: guard.Uncertain, Summary: why, causes: []Cause{{
		Verdict: guard.Uncertain, What: "no answer of nfguard check", Next: "see below what each of them said instead",
	}}}
}

// Merge combines the results of hosts.
func Merge(hosts []Host) Report {
	r := Report{Schema: 1, Verdict: guard.Right, Causes: []Cause{}, Hosts: []Host{}}
	at := map[string]int{}
	for _, h := range hosts {
		if i, twice := at[h.Name]; twice {
			r.Hosts[i] = h
			if !slices.Contains(r.Twice, h.Name) {
				r.Twice = append(r.Twice, h.Name)
			}
			continue
		}
		at[h.Name] = len(r.Hosts)
		r.Hosts = append(r.Hosts, h)
	}
	slices.SortFunc(r.Hosts, func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })
	of := map[string]int{}
	for _, h := range r.Hosts {
		switch h.Verdict { //nolint:exhaustive // a host has one of three verdicts
		case guard.Right:
			r.Right++
		case guard.Wrong:
			r.Wrong++
		default:
			r.Unknown++
		}
		for _, c := range h.causes {
			i, known := of[c.What]
			if !known {
				i, of[c.What] = len(r.Causes), len(r.Causes)
				r.Causes = append(r.Causes, c)
			}
			if n := len(r.Causes[i].Hosts); n == 0 || r.Causes[i].Hosts[n-1] != h.Name {
				r.Causes[i].Hosts = append(r.Causes[i].Hosts, h.Name)
			}
		}
	}
	slices.SortStableFunc(r.Causes, func(a, b Cause) int { return cmp.Compare(len(b.Hosts), len(a.Hosts)) })
	switch {
	case r.Wrong > 0:
		r.Verdict = guard.Wrong
	case r.Unknown > 0:
		r.Verdict = guard.Uncertain
	}
	return r
}
