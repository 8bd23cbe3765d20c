package guard

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Verdict is the judgement on one guarded thing.
type Verdict string

// The verdicts.
const (
	Right     Verdict = "right"   // as wanted
	Wrong     Verdict = "wrong"   // not as wanted, and there is an action for it or for what it waits for
	Blocked   Verdict = "blocked" // not as wanted, and the host does not let us
	Excused   Verdict = "excused" // not as wanted, and nothing is wrong with that
	Uncertain Verdict = "unknown" // could not look
)

// Settled reports whether nothing is left to do: it is as wanted, or left so on
// purpose.
func (v Verdict) Settled() bool { return v == Right || v == Excused }

// Item is the judgement on one guarded thing, with what is to be done.
type Item struct {
	Kind    record.Kind // record.KindModule, record.KindDrift, record.KindFlag or record.KindDropin
	Subject string      // module, key, bridge or path
	Verdict Verdict
	Want    string
	Have    string
	Reason  string  // why it is not Right, for people
	Next    string  // what a person can do; "" when nothing is needed
	Action  *Action // nil when there is nothing that we can do
	Err     error   // why it is Uncertain
	Why     string  // of a bridge, why it is kept: "matches cni*"
}

// Op is what an action does.
type Op uint8

// The operations.
const (
	LoadModule Op = iota + 1
	SetSysctl
	WriteFile
	SetFlags
	ClearFlags
)

func (o Op) String() string {
	switch o {
	case LoadModule:
		return "load"
	case SetSysctl:
		return "set"
	case WriteFile:
		return "write"
	case SetFlags:
		return "flag"
	case ClearFlags:
		return "unflag"
	}
	return "?"
}

// Action is one change to the host, as data.
type Action struct {
	Op      Op
	Subject string // module, key, bridge or path
	Value   string // value or content of SetSysctl and WriteFile
	Force   bool   // LoadModule only: against modprobe.d's word
	Modules bool   // WriteFile only: it is the drop-in that loads the module, not the one that sets sysctls

	// SetFlags and ClearFlags only: the bridge's index, which together with its
	// name says that it is the one that was looked at, and which flags.
	Index int
	Flags Flags

	// SetFlags only: the ports of the bridge that are put in hairpin mode.
	Ports []Port

	Evidence bool // it is evidence that says so, or said so, not a pattern
}

// PlanFor judges o by p. The items come in a fixed order: the module, the
// sysctls in the policy's order, the bridges, the drop-ins.
func PlanFor(p *Policy, o *Observation) []Item {
	items := make([]Item, 0, 3+len(p.Sysctls))
	items = append(items, planModule(p, o))
	for i, s := range p.Sysctls {
		items = append(items, PlanSysctl(p, o, s, o.Values[i]))
	}
	items = append(items, PlanFlags(p, o)...)
	return append(items, PlanDropins(p, o)...)
}

// PlanDropins judges the drop-ins of o. It is a part of [PlanFor], for
// callers that have no more to judge.
func PlanDropins(p *Policy, o *Observation) []Item {
	var items []Item
	for _, d := range o.Dropins {
		items = append(items, planDropin(p, o, d))
	}
	return items
}

// Guards returns what tells whether p asks for a thing of a kind. Of bridges it
// does not tell: that depends on what they are.
func (p *Policy) Guards() func(kind record.Kind, subject string) bool {
	keys := make(map[string]bool, len(p.Sysctls))
	for _, s := range p.Sysctls {
		keys[string(s.Key)] = true
	}
	return func(kind record.Kind, subject string) bool {
		switch kind { //nolint:exhaustive // the kinds of items
		case record.KindModule:
			return subject == p.Module
		case record.KindDrift:
			return keys[subject]
		case record.KindDropin:
			return subject == p.ModulesLoad || subject == p.SysctlD
		}
		return true
	}
}

const loaded = "loaded"

// Loaded reports whether it is of the module, and that is loaded, needed or not.
func (it *Item) Loaded() bool {
	return it.Kind == record.KindModule && (it.Verdict == Right || it.Have == loaded)
}

func planModule(p *Policy, o *Observation) Item {
	it := Item{Kind: record.KindModule, Subject: p.Module, Want: loaded}
	if !p.NeedsModule() && o.Module.State != Unknown {
		it.Verdict, it.Have, it.Reason = Excused, loaded, "no flag of a bridge is kept, and nothing else asks for it"
		if o.Module.State == Absent {
			it.Have = "not loaded"
		}
		it.Want = it.Have // as others have it
		return it
	}
	switch o.Module.State {
	case Present:
		it.Verdict, it.Have = Right, loaded
	case Absent:
		it.Have = "not loaded"
		if b := o.Module.Obstacle; b != nil {
			it.Verdict, it.Reason, it.Next = Blocked, b.Reason, b.Next
			break
		}
		it.Verdict = Wrong
		it.Reason = "without it no bridged packet is handed to iptables"
		it.Action = &Action{Op: LoadModule, Subject: p.Module, Force: p.Override}
	case Unknown:
		it.Verdict, it.Err = Uncertain, o.Module.Err
		it.Reason = fmt.Sprintf("could not look: %v", o.Module.Err)
	}
	return it
}

// PlanSysctl judges v, the value of one sysctl of p, and nothing of o but the
// module, whether IPv6 is off, and what is Bare.
func PlanSysctl(p *Policy, o *Observation, s Setting, v Value) Item {
	it := Item{Kind: record.KindDrift, Subject: string(s.Key), Want: s.Value, Have: v.Have}
	switch {
	case v.State == Unknown:
		it.Verdict, it.Err = Uncertain, v.Err
		it.Reason = fmt.Sprintf("could not look: %v", v.Err)
	case v.State == Absent && s.Key.BridgeNF() && o.Module.State == Absent && !p.NeedsModule():
		it.Verdict, it.Have = Excused, "absent"
		it.Reason = "it comes with " + p.Module + ", which is not loaded: nothing is handed to netfilter"
	case v.State == Absent && s.Key.BridgeNF() && o.Module.State != Present:
		it.Verdict, it.Have = Wrong, "absent"
		it.Reason = "it comes with " + p.Module + ", which is not loaded"
		if o.Module.Obstacle != nil { // it may be there, and hidden
			it.Reason = "it comes with " + p.Module + ": see there"
		}
	case v.State == Absent:
		it.Verdict, it.Have = Blocked, "absent"
		it.Reason = "this kernel has no such key"
		it.Next = "check the spelling, or set it to \"ignore\" under [sysctl]"
	case SameValue(v.Have, s.Value):
		it.Verdict = Right
		if why := p.Excused(s, o); why != "" {
			it.Verdict, it.Reason = Excused, noIPv6Now
			it.Next = "if IPv6 frames have to cross a bridge, set it to 0 yourself and to \"ignore\" under [sysctl]"
		}
	case p.Excused(s, o) != "":
		it.Verdict, it.Reason = Excused, p.Excused(s, o)
	case v.ReadOnly:
		it.Verdict = Blocked
		it.Reason = consequence(s) + "; it cannot be set from here, where /proc/sys is mounted read-only"
		it.Next = "set it on the host: sysctl -w " + string(s.Key) + "=" + s.Value
	default:
		it.Verdict = Wrong
		it.Reason = consequence(s)
		for _, f := range allFamilies {
			if o.Bare[f] && s.Key == f.Key() && p.Waits(s) {
				it.Reason += "; it is set to 0 when each bridge that is kept has a flag of its own"
			}
		}
		it.Action = &Action{Op: SetSysctl, Subject: string(s.Key), Value: s.Value}
	}
	return it
}

// consequence says what a wrong value of a bridge key breaks.
func consequence(s Setting) string {
	for _, f := range allFamilies {
		if s.Key == f.Key() && s.Value == "0" {
			return fmt.Sprintf("the frames of every bridge pass through %s, those of virtual machines, too", f.table())
		}
	}
	if s.Value != "1" {
		return "not the value that is guarded"
	}
	switch s.Key {
	case IPTables:
		return "a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address"
	case IP6Tables:
		return "the same as for iptables, for Services over IPv6"
	case ARPTables:
		return "arptables does not see bridged ARP"
	}
	return "not the value that is guarded"
}

func planDropin(p *Policy, o *Observation, d Dropin) Item {
	want := p.ModulesLoadText()
	if d.Path == p.SysctlD {
		want = p.SysctlText(o)
	}
	it := Item{Kind: record.KindDropin, Subject: d.Path, Want: "as written by nfguard"}
	switch {
	case want == header && (d.State == Absent || d.State == Present && !Ours([]byte(d.Have))):
		it.Verdict, it.Have, it.Reason = Excused, "absent", "nothing has to be in it"
		if d.State == Present {
			it.Have = "somebody else's"
		}
		return it
	case d.Obstacle != nil:
		it.Verdict, it.Have, it.Reason, it.Next = Blocked, d.Have, d.Obstacle.Reason, d.Obstacle.Next
		return it
	case d.State == Unknown:
		it.Verdict, it.Err = Uncertain, d.Err
		it.Reason = fmt.Sprintf("could not look: %v", d.Err)
		return it
	case d.State == Present && d.Have == want:
		it.Verdict, it.Have = Right, it.Want
		return it
	case d.State == Present && !Ours([]byte(d.Have)):
		it.Verdict, it.Have = Blocked, "somebody else's"
		it.Reason = "its first line does not say that nfguard wrote it, so it is left as it is"
		it.Next = p.elsewhere(d.Path)
		return it
	case d.State == Absent && d.Carried != "":
		it.Verdict, it.Have = Excused, "absent"
		it.Reason = "not needed for the next boot: " + d.Carried + " does the same"
		it.Action = &Action{Op: WriteFile, Subject: d.Path, Value: want, Modules: d.Path != p.SysctlD}
		return it
	case d.State == Absent:
		it.Have, it.Reason = "absent", "nothing else makes sure of it at the next boot, until nfguard has started"
	default:
		it.Have, it.Reason = "changed", "it is not what nfguard wrote"
	}
	it.Verdict = Wrong
	it.Action = &Action{Op: WriteFile, Subject: d.Path, Value: want, Modules: d.Path != p.SysctlD}
	return it
}

// elsewhere is the next step where something else stands at the path of a
// drop-in.
func (p *Policy) elsewhere(path string) string {
	key := "modules_load"
	if path == p.SysctlD {
		key = "sysctl"
	}
	return "move it away if nobody needs it there, or name another file: " + key + " under [persist]"
}

// NotAFile is the obstacle where something else than a regular file stands at
// the path of a drop-in: "a FIFO".
func (p *Policy) NotAFile(path, kind string) *Obstacle {
	return &Obstacle{Reason: "it is " + kind + ", not a regular file, and is left as it is", Next: p.elsewhere(path)}
}
