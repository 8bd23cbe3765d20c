package reconcile

import (
	"context"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// maxActs bounds the rounds of one pass: loading the module makes keys appear
// with the kernel's own values, and a second round settles them. What is not
// settled by a third is somebody else's doing.
const maxActs = 3

// attempt is what became of an action in a pass.
type attempt struct {
	was  guard.Item // as it was when the action was carried out
	err  error
	took time.Duration
}

// Pass looks at everything, puts right what it can, looks again, and records
// what it did and what it could not. It returns early, with Aborted set, when
// ctx is cancelled.
func (r *Reconciler) Pass(ctx context.Context, t Trigger) Report {
	r.passes++
	r.changes = nil
	r.o.Host.Refresh(&r.policy)
	tried := make(map[string]attempt)
	var first []guard.Item
	var before []guard.Bridge
	if !r.known {
		r.firstLook(ctx, t)
	}
	for round := 0; ; round++ {
		var o guard.Observation
		if err := r.beside(ctx, func(ctx context.Context) { o = r.o.Host.Survey(ctx, &r.policy, t.Look) }); err != nil {
			r.gone = nil
			return Report{Pass: r.passes, Time: time.Now(), Aborted: err}
		}
		r.age(time.Now(), &o)
		r.known, r.ipv6Off = true, o.IPv6Off
		r.Live(ctx, t)
		o.SetValues(&r.policy, slices.Clone(r.values))
		if round < maxActs && vanished(&r.policy, &o) {
			continue // the module went between the two looks
		}
		rep := report(&r.policy, &o)
		if first == nil {
			first, before = rep.Items, r.bridges
		}
		if round < maxActs && r.act(ctx, t, rep.Items, tried) {
			continue
		}
		r.settle(t, first, rep.Items, tried, before, &o)
		rep.Pass, rep.Changes = r.passes, r.changes
		r.beyond(t, &rep, &o)
		return rep
	}
}

// firstLook has the sysctls put right before the first survey, which may hang at
// a file: all that has to be known for that is in procfs and sysfs.
func (r *Reconciler) firstLook(ctx context.Context, t Trigger) {
	var o guard.Observation
	p := guard.Policy{Mode: r.policy.Mode, Module: r.policy.Module}
	if r.beside(ctx, func(ctx context.Context) { o = r.o.Host.Survey(ctx, &p, 0) }) != nil {
		return
	}
	r.known, r.ipv6Off = true, o.IPv6Off
	r.Live(ctx, t)
}

// vanished reports whether o contradicts itself: the module is there, and a
// sysctl that comes with it is not.
func vanished(p *guard.Policy, o *guard.Observation) bool {
	if o.Module.State != guard.Present {
		return false
	}
	for i, s := range p.Sysctls {
		if s.Key.ByFlag() && o.Values[i].State == guard.Absent {
			return true
		}
	}
	return false
}

// beyond records what there is beside the guarded things: kube-proxy, and
// what others' files will do. What was not looked at is as it was.
func (r *Reconciler) beyond(t Trigger, rep *Report, o *guard.Observation) {
	r.followProxy(t, rep, o.KubeProxy)
	o.KubeProxy = r.proxy.seen
	r.odd = r.follow(t, record.KindKubeProxy, r.odd, o.KubeProxy.Findings())
	if o.Bridging == nil {
		r.concerns = r.follow(t, record.KindBridge, r.concerns, guard.Concerns(&r.policy, o))
	}
	if o.NextBoot != nil {
		r.ahead = r.follow(t, record.KindNextBoot, r.ahead, o.NextBoot.Findings)
	}
	rep.explain(&r.policy, o, r.ProxyState(), r.concerns, &guard.NextBoot{Findings: r.ahead})
}

// beside runs work through Options.Beside. A work that was given up on must
// not be waited for, and what it writes must not be read.
func (r *Reconciler) beside(ctx context.Context, work func(context.Context)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.o.Beside(ctx, work)
}

// act carries out what the items ask for and was not tried in this pass yet,
// and reports whether there was anything. The sysctls are Live's, and the
// flags of bridges Tend's: news of a bridge may have it look there already.
func (r *Reconciler) act(ctx context.Context, t Trigger, items []guard.Item, tried map[string]attempt) bool {
	if r.policy.Mode == guard.Observe {
		return false
	}
	acted, flags := false, false
	p := r.policy
	for _, it := range items {
		if it.Action == nil || it.Action.Op == guard.SetSysctl {
			continue
		}
		if _, again := tried[it.Subject]; again {
			continue
		}
		acted = true
		if it.Kind == record.KindFlag {
			flags, tried[it.Subject] = true, attempt{}
			r.enqueue(errand{name: it.Subject, policy: &p, cause: t, stale: it.Action.Op == guard.ClearFlags && it.Action.Evidence})
			continue
		}
		start := time.Now()
		var done error
		err := r.beside(ctx, func(ctx context.Context) { done = r.o.Host.Do(ctx, *it.Action) })
		if err == nil {
			err = done
		}
		tried[it.Subject] = attempt{it, err, time.Since(start)}
	}
	if flags {
		r.tend(ctx)
	}
	return acted
}

// settle records what the pass did to the module and the drop-ins, what it
// could not do, and which bridges came and went.
func (r *Reconciler) settle(t Trigger, first, items []guard.Item, tried map[string]attempt, bridges []guard.Bridge, o *guard.Observation) {
	var gone, came []string
	if o.Bridging == nil {
		if r.surveyed {
			gone, came = compare(bridges, o.Bridges)
		}
		r.bridges, r.surveyed = o.Bridges, true
	}
	r.prune(t, items)
	before := index(first)
	for _, it := range items {
		was, op := it, ""
		if f, ok := before[about{it.Kind, it.Subject}]; ok { // a bridge may not have been there
			was = f
		}
		a, acted := tried[it.Subject]
		if it.Kind == record.KindFlag {
			acted = false
		}
		if acted {
			was, op = a.was, a.was.Action.Op.String()
		}
		e := record.Event{
			Kind: it.Kind, Time: time.Now(), Subject: it.Subject, Want: it.Want, Have: was.Have, Now: it.Have,
			Duration: -1, Source: t.Source, Pass: r.passes, Next: it.Next,
		}
		switch {
		case acted && it.Verdict == guard.Right:
			e.Outcome = record.Corrected
			e.Message = correctedMessage(&e, a.took, gone)
			r.change(op, e, nil)
			r.settled(it.Subject)
			r.totals.Drifts++
			r.totals.Corrected++
			r.reversal(r.thing(it.Subject), e)
		case acted && a.err == nil:
			r.totals.Failed++
			e.Outcome, e.Err = record.Reverted, errNotKept
			e.Next = next(e.Err)
			r.change(op, e, e.Err)
			e.Message = stuckMessage(&e)
			r.complain(e)
		case acted:
			r.totals.Failed++
			e.Outcome, e.Err = record.Failed, a.err
			if n := next(a.err); n != "" {
				e.Next = n
			}
			r.change(op, e, e.Err)
			e.Message = stuckMessage(&e)
			r.complain(e)
		case it.Verdict == guard.Right:
			r.ended(e, "is as wanted again", "")
		case it.Verdict == guard.Excused:
			r.ended(e, "is left as it is", ": "+it.Reason)
		case it.Kind == record.KindDrift && it.Action != nil:
			// Live has recorded it.
		case it.Kind == record.KindDrift && it.Verdict == guard.Wrong:
			// The module's own record covers it.
		case it.Kind == record.KindFlag && it.Verdict == guard.Wrong && r.policy.Mode != guard.Observe:
			// Tend has recorded it, or the record of a sysctl covers it.
		default:
			e.Outcome, e.Err = record.Failed, it.Err
			if r.policy.Mode == guard.Observe {
				e.Outcome = record.Observed
			}
			e.Message = it.Subject + " is " + orUnknown(it.Have) + ", wanted " + it.Want + ": " + it.Reason
			r.complain(e)
		}
	}
	r.recordBridges(t, gone, came, items)
}

// index finds items by what they are about.
func index(items []guard.Item) map[about]guard.Item {
	found := make(map[about]guard.Item, len(items))
	for _, it := range items {
		found[about{it.Kind, it.Subject}] = it
	}
	return found
}

type about struct {
	kind    record.Kind
	subject string
}

func (r *Reconciler) thing(subject string) *fight {
	f := r.things[subject]
	if f == nil {
		f = new(fight)
		r.things[subject] = f
	}
	return f
}

// complaint is what stands recorded about a subject. It is not repeated until
// it changes, and its end is recorded too.
type complaint struct {
	kind    record.Kind
	message string
	since   time.Time
}

func (r *Reconciler) complain(e record.Event) {
	if r.standing[e.Subject].message == e.Message {
		return
	}
	since := e.Time
	if c, ok := r.standing[e.Subject]; ok {
		since = c.since
	}
	r.standing[e.Subject] = complaint{e.Kind, e.Message, since}
	r.o.Recorder.Record(e)
}

func (r *Reconciler) settled(subject string) { delete(r.standing, subject) }

// ended records the end of a complaint that somebody else settled, and how it is
// now.
func (r *Reconciler) ended(e record.Event, how, why string) {
	c, ok := r.standing[e.Subject]
	if !ok {
		return
	}
	r.settled(e.Subject)
	e.Outcome, e.Duration, e.Next = record.Observed, e.Time.Sub(c.since), ""
	e.Message = e.Subject + " " + how + " (" + e.Now + "), after " + words.Short(e.Duration) + why
	r.o.Recorder.Record(e)
}

// Complaints returns what stands recorded as not put right, by subject.
func (r *Reconciler) Complaints() map[string]string {
	out := make(map[string]string, len(r.standing))
	for subject, c := range r.standing {
		out[subject] = c.message
	}
	return out
}
