package keep

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// Change is one thing that a pass did, or tried.
type Change struct {
	Op      string `json:"op"`
	Subject string `json:"subject"`
	From    string `json:"from"`
	To      string `json:"to"`
	Error   string `json:"error,omitempty"`
	Next    string `json:"next,omitempty"` // what a person can do about Error
}

// Report is what a pass found and did.
type Report struct {
	Pass     uint64
	Time     time.Time
	Items    []guard.Item // as they are after the pass
	Changes  []Change
	Bridges  []guard.Bridge
	Bridging error // why the bridges are not known
	IPv6Off  bool
	On       [3]bool         // which sysctls hand bridged frames over, by guard.Family
	Evidence *guard.Evidence // what says that bridges carry pods; nil: not looked at
	Aborted  error           // why the pass was not finished; the rest is empty then

	Hairpin    []guard.Finding  // of pods that do not reach their own Service
	KubeProxy  *guard.KubeProxy // nil: never looked at
	ProxyState guard.ProxyState
	Findings   []guard.Finding // of kube-proxy, of bridges, then of the next boot
	Meaning    string          // what all this means for Services, one sentence
	Needs      []guard.Need    // what Services need, of each bridge with pods; nil: not looked at
	Unready    []string        // what keeps the node from being ready beside the items: see [guard.Unready]
	Bypassing  guard.Bypassing // of [Audit] only
	Ahead      []guard.Finding // what it will change to hand over what is not yet; of [Audit] only
}

// Verdict sums up: Wrong if anything is known not to be as wanted, Uncertain
// if nothing is but something could not be looked at, Right otherwise.
func (r *Report) Verdict() guard.Verdict {
	verdict := guard.Right
	if r.Aborted != nil {
		verdict = guard.Uncertain
	}
	for i := range r.Items {
		switch r.Items[i].Verdict {
		case guard.Wrong, guard.Blocked:
			return guard.Wrong
		case guard.Uncertain:
			verdict = guard.Uncertain
		case guard.Right, guard.Excused:
		}
	}
	return verdict
}

// Audit looks once at everything and judges, and changes nothing.
func Audit(ctx context.Context, h Host, p *guard.Policy) Report {
	o := h.Survey(ctx, p, guard.LookAll)
	values := make([]guard.Value, len(p.Sysctls))
	for i, s := range p.Sysctls {
		values[i], _ = h.Value(s.Key)
	}
	o.SetValues(p, values)
	o.Bare = p.Bare(&o)
	rep := report(p, &o)
	rep.explain(p, &o, o.KubeProxy.State(), guard.Concerns(p, &o), o.NextBoot)
	rep.Ahead, rep.Bypassing = guard.Ahead(p, &o), o.Bypassing()
	return rep
}

func report(p *guard.Policy, o *guard.Observation) Report {
	return Report{
		Time:     time.Now(),
		Items:    guard.PlanFor(p, o),
		Bridges:  o.Bridges,
		Bridging: o.Bridging,
		IPv6Off:  o.IPv6Off,
		On:       o.On,
		Evidence: o.Evidence,
	}
}

// explain adds what there is besides the guarded things.
func (r *Report) explain(p *guard.Policy, o *guard.Observation, state guard.ProxyState, concerns []guard.Finding, next *guard.NextBoot) {
	r.KubeProxy, r.ProxyState = o.KubeProxy, state
	r.Findings = append(o.KubeProxy.Findings(), concerns...)
	if next != nil {
		r.Findings = append(r.Findings, next.Findings...)
	}
	r.Meaning, r.Needs = guard.Meaning(p, o), guard.NeedsOf(o)
}

// Readiness says in a few words how the guarded things stand.
func Readiness(items []guard.Item) string {
	module := "the module is not loaded"
	all, settled := make(map[record.Kind]int), make(map[record.Kind]int)
	for i := range items {
		it := &items[i]
		all[it.Kind]++
		if it.Verdict.Settled() {
			settled[it.Kind]++
		}
		if it.Loaded() {
			module = it.Subject + " loaded"
		}
		if it.Kind == record.KindModule && it.Verdict == guard.Uncertain {
			module = "it is not known whether " + it.Subject + " is loaded"
		}
	}
	var parts []string
	if n := all[record.KindDrift]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d keys", settled[record.KindDrift], n))
	}
	if n := all[record.KindFlag]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d bridges", settled[record.KindFlag], n))
	}
	if len(parts) == 0 {
		return module + ", no key and no bridge to keep"
	}
	return module + ", " + strings.Join(parts, " and ") + " as wanted"
}
