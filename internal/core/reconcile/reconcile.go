// Package reconcile carries out one pass: look, plan, act, look again,
// record. The daemon and the commands make the same pass; there is no second
// way to the machine.
//
// A [Reconciler] belongs to one goroutine, which owns all of its state. What
// can take long (reading files, asking for bridges, modprobe, a disk) is
// handed to [Options.Beside]; the sysctls are looked at and put right without
// waiting for any of it.
package reconcile

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// Host is the machine that is kept right.
type Host interface {
	// Value reads one sysctl, without ever blocking, and tells whether it was
	// unregistered since the last call.
	Value(k guard.Key) (v guard.Value, lost bool)

	// Refresh opens anew what was opened and is no more what its name says, and
	// closes what p does not guard. It returns how many there were of the former.
	Refresh(p *guard.Policy) int

	// Survey looks at everything else, and at what look asks for. It may take
	// long, and runs beside Value and SetSysctl.
	Survey(ctx context.Context, p *guard.Policy, look guard.Look) guard.Observation

	// SurveyBridge looks at one bridge only, and at what else decides about its
	// flags. It may wait for others' changes of the network's devices, and runs
	// beside everything else. A bridge that does not exist is not in its answer.
	SurveyBridge(ctx context.Context, p *guard.Policy, name string) guard.Observation

	// Do carries out one action. SetSysctl never blocks; the others may.
	Do(ctx context.Context, a guard.Action) error
}

// Recorder keeps events. Record never blocks.
type Recorder interface {
	Record(e record.Event)
}

// Trigger says why a pass is made.
type Trigger struct {
	Source string     // "start", "resync", "audit", a source's name
	Time   time.Time  // when it woke us
	Look   guard.Look // what else is to be looked at
}

// Options are the parts of a Reconciler. Host and Recorder are needed.
type Options struct {
	Host     Host
	Recorder Recorder

	// Beside runs work and returns when it has ended, or with an error as
	// soon as it gives up waiting for it; it may call Live meanwhile. Nil
	// means to run it and wait.
	Beside func(ctx context.Context, work func(context.Context)) error

	// Aside starts work that Tend is to hear the end of, and returns at once.
	// Nil means to run it and wait.
	Aside func(work func())

	// Yield has the kernel let foreign values of k be stored, or no longer,
	// where it would otherwise store ours. Nil means that it never does.
	Yield func(k guard.Key, yields bool)

	// News returns the writes that the kernel has told of since the last
	// call. Nil means that it never tells.
	News func() []record.Write

	// Named adds to a process what its pod is called. Nil: nobody knows.
	Named func(record.Process) record.Process
}

// Reconciler makes passes.
type Reconciler struct {
	o      Options
	policy guard.Policy
	limits Contention

	keys    []key
	values  []guard.Value
	pending []correction
	seen    []record.Write

	last     time.Time // when the sysctls were looked at last
	known    bool      // the host was surveyed
	ipv6Off  bool
	passes   uint64
	standing map[string]complaint
	things   map[string]*fight // of module and drop-ins, by subject
	bridges  []guard.Bridge
	surveyed bool
	errands  []errand          // bridges that wait for a look,
	waiting  map[string]int    // and where they stand there, by name
	gone     map[int]time.Time // since when evidence has been gone, by the bridge's index
	batch    *batch            // of those that are looked at now; nil: none
	greeter  greeter
	proxy    proxy
	moves    pace            // of records of bridges that came and went
	notes    pace            // of records of concerns
	odd      []guard.Finding // of kube-proxy, as recorded
	concerns []guard.Finding // of bridges, as recorded
	ahead    []guard.Finding // of the next boot, as recorded
	changes  []Change
	totals   Totals
}

// Totals count what was done since the start.
type Totals struct {
	Drifts    uint64 `json:"drifts"`    // found, or rewritten by the kernel
	Corrected uint64 `json:"corrected"` // put right, the same
	Failed    uint64 `json:"failed"`    // attempts that failed
	Denied    uint64 `json:"denied"`    // foreign writes that the kernel refused, in mode lock
}

// New returns a Reconciler for p.
func New(p guard.Policy, c Contention, o Options) *Reconciler {
	if o.Beside == nil {
		o.Beside = func(ctx context.Context, work func(context.Context)) error { work(ctx); return nil }
	}
	if o.Named == nil {
		o.Named = func(p record.Process) record.Process { return p }
	}
	if o.Aside == nil {
		o.Aside = func(work func()) { work() }
	}
	r := &Reconciler{o: o, standing: make(map[string]complaint), things: make(map[string]*fight)}
	r.SetPolicy(p, c)
	return r
}

// SetPolicy replaces the policy from the next look on. What is known of a
// key that stays is kept.
func (r *Reconciler) SetPolicy(p guard.Policy, c Contention) {
	old := r.keys
	acts := r.policy.Mode == guard.Observe && p.Mode != guard.Observe // what was left so is put right
	r.policy, r.limits = p, c
	r.errands, r.waiting = nil, nil // of the policy that went,
	r.gone = nil                    // and so is this
	r.last = time.Time{}            // of a new key there was no look before
	r.keys = make([]key, len(p.Sysctls))
	r.values = make([]guard.Value, len(p.Sysctls))
	for i, s := range p.Sysctls {
		r.keys[i] = key{Setting: s, file: s.Key.File(), asked: r.known}
		for _, k := range old {
			if k.Key == s.Key {
				r.keys[i].fight, r.keys[i].there = k.fight, k.there
				r.keys[i].asked = k.asked || acts || k.Value != s.Value
			}
		}
	}
	r.instruct()
	for i := range r.keys {
		r.yield(&r.keys[i].fight)
	}
	r.drop()
}

// drop forgets what was said and done about things that are configured no more.
// The end of a complaint is recorded, as always. Of bridges, the next pass does it.
func (r *Reconciler) drop() {
	now := time.Now()
	for _, subject := range slices.Sorted(maps.Keys(r.standing)) {
		if kind := r.standing[subject].kind; !r.policy.Guards(kind, subject) {
			r.ended(record.Event{
				Kind: kind, Time: now, Subject: subject, Now: "no longer configured", Source: "reload", Pass: r.passes,
			}, "is left as it is", "")
		}
	}
	for subject, f := range r.things {
		if f.kind != "" && !r.policy.Guards(f.kind, subject) {
			r.leave(f, now)
			delete(r.things, subject)
		}
	}
}

// Current judges items again, which are of the last pass, by what was seen of the
// sysctls since, and leaves out what is configured no more.
func (r *Reconciler) Current(items []guard.Item) []guard.Item {
	out := make([]guard.Item, 0, len(items))
	o := guard.Observation{Module: guard.Module{State: guard.Present}, IPv6Off: r.ipv6Off}
	for _, it := range items {
		if !r.policy.Guards(it.Kind, it.Subject) {
			continue
		}
		for i := range r.keys {
			k, v := &r.keys[i], r.values[i]
			// One that is not there any more is the next pass's, which is due at once.
			if it.Kind == record.KindDrift && string(k.Key) == it.Subject && v.State == guard.Present {
				it = guard.PlanSysctl(&r.policy, &o, k.Setting, v)
			}
		}
		out = append(out, it)
	}
	return out
}

// Policy returns the policy in force.
func (r *Reconciler) Policy() guard.Policy { return r.policy }

// Totals returns what was done so far.
func (r *Reconciler) Totals() Totals { return r.totals }

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

	KubeProxy  *guard.KubeProxy // nil: never looked at
	ProxyState guard.ProxyState
	Findings   []guard.Finding // of kube-proxy, of bridges, then of the next boot
	Meaning    string          // what all this means for Services, one sentence
}

// Verdict sums up: Wrong if anything is known not to be as wanted, Uncertain
// if nothing is but something could not be looked at, Right otherwise.
func (r *Report) Verdict() guard.Verdict {
	verdict := guard.Right
	if r.Aborted != nil {
		verdict = guard.Uncertain
	}
	for _, it := range r.Items {
		switch it.Verdict {
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
	rep := report(p, &o)
	rep.explain(p, &o, o.KubeProxy.State(), guard.Concerns(p, &o), o.NextBoot)
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

// explain adds what is beside the guarded things.
func (r *Report) explain(p *guard.Policy, o *guard.Observation, state guard.ProxyState, concerns []guard.Finding, next *guard.NextBoot) {
	r.KubeProxy, r.ProxyState = o.KubeProxy, state
	r.Findings = append(o.KubeProxy.Findings(), concerns...)
	if next != nil {
		r.Findings = append(r.Findings, next.Findings...)
	}
	r.Meaning = guard.Meaning(p, o)
}
