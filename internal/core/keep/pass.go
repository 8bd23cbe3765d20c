package keep

import (
	"context"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// maxActs bounds the rounds of one pass: loading the module makes keys appear
// with the kernel's own values, and a second round settles them. What is not
// settled by a third is somebody else's doing.
const maxActs = 3

// Pass looks at everything, puts right what it can, looks again, and records
// what it did and what it could not. It returns early, with Aborted set, when
// ctx is cancelled.
func (k *Keeper) Pass(ctx context.Context, t Trigger) Report {
	k.account.pass++
	k.account.changes = nil
	k.o.Host.Refresh(&k.policy)
	k.files.tried, k.bridges.tried = make(map[string]attempt), make(map[string]bool)
	var first []guard.Item
	if !k.sysctls.known {
		k.firstLook(ctx, t)
	}
	for round := 0; ; round++ {
		o, err := k.survey(ctx, &k.policy, t)
		if err != nil {
			k.bridges.gone = nil
			return Report{Pass: k.account.pass, Time: time.Now(), Aborted: err}
		}
		k.bridges.age(time.Now(), &o)
		o.SetValues(&k.policy, slices.Clone(k.sysctls.values))
		if round < maxActs && vanished(&k.policy, &o) {
			continue // the module was unloaded between the two looks
		}
		rep := report(&k.policy, &o)
		if first == nil {
			first = rep.Items
		}
		if round < maxActs && k.act(ctx, t, rep.Items) {
			continue
		}
		k.settle(t, first, &rep)
		rep.Pass, rep.Changes = k.account.pass, k.account.changes
		k.recordRest(t, &rep, &o)
		return rep
	}
}

// firstLook has the sysctls put right before the first survey of everything,
// which may hang at a file: all that has to be known for that is in procfs and
// sysfs.
func (k *Keeper) firstLook(ctx context.Context, t Trigger) {
	t.Look = guard.LookNeeds
	_, _ = k.survey(ctx, &guard.Policy{Mode: k.policy.Mode, Module: k.policy.Module}, t) // the pass sees the error, too
}

// survey looks at everything that p asks for, and then at the sysctls, which are put
// right at once. Before the first time, what that is going to cost is told.
func (k *Keeper) survey(ctx context.Context, p *guard.Policy, t Trigger) (o guard.Observation, err error) {
	var found guard.Observation // what is written after we have given up is not read
	if err := k.wait(ctx, func(ctx context.Context) { found = k.o.Host.Survey(ctx, p, t.Look) }); err != nil {
		return o, err
	}
	if !k.sysctls.known && found.Bridging == nil {
		k.bridges.tell(t, append(guard.Dropping(&k.policy, &found), guard.HairpinConcerns(&k.policy, &found)...))
	}
	k.sysctls.known, k.sysctls.ipv6Off = true, found.IPv6Off
	k.sysctls.wait(k.policy.Bare(&found))
	k.Look(ctx, t)
	found.Bare = k.sysctls.waiting()
	return found, nil
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

// act carries out what the items ask for and was not tried in this pass yet, and
// reports whether there was anything. The sysctls are Look's.
func (k *Keeper) act(ctx context.Context, t Trigger, items []guard.Item) bool {
	if k.policy.Mode == guard.Observe {
		return false
	}
	acted := k.files.act(ctx, items)
	return k.account.acts() && k.bridges.act(ctx, t, items) || acted
}

// about names a thing.
type about struct {
	kind    record.Kind
	subject string
}

// settle records what each thing has come to, and which bridges were removed and
// appeared. first are the items as the pass found them.
func (k *Keeper) settle(t Trigger, first []guard.Item, rep *Report) {
	now := time.Now()
	var removed, appeared []guard.Bridge
	if rep.Bridging == nil {
		removed, appeared = k.bridges.noted(rep.Bridges)
	}
	k.sysctls.prune(now)
	k.files.prune(now)
	k.bridges.prune(t, rep.Items)
	was := make(map[about]string, len(first))
	for i := range first {
		was[about{first[i].Kind, first[i].Subject}] = first[i].Have
	}
	for i := range rep.Items {
		it := &rep.Items[i]
		e := record.Event{
			Kind: it.Kind, Time: time.Now(), Subject: it.Subject, Want: it.Want, Have: it.Have, Now: it.Have, Source: t.Source, Next: it.Next,
		}
		if have, ok := was[about{it.Kind, it.Subject}]; ok { // a bridge may not have been there
			e.Have = have
		}
		switch it.Kind { //nolint:exhaustive // the kinds of items
		case record.KindDrift: // Look has recorded it, or the module's record covers it
			// A value that is there and wrong is the look's to record, also where it can't be set.
			k.sysctls.settle(it, e, it.Action != nil || it.Verdict == guard.Wrong || it.Verdict == guard.Blocked && it.Have != "absent")
		case record.KindFlag: // the visit is on record, or the record of a sysctl covers it
			k.bridges.settle(it, e, it.Verdict == guard.Wrong && k.account.acts())
		default:
			k.files.settle(it, e, removed)
		}
	}
	k.bridges.recordMoves(t, removed, appeared, Readiness(rep.Items))
}

// recordRest records what there is besides the guarded things: kube-proxy, and
// what a person should know. What was not looked at is as it was.
func (k *Keeper) recordRest(t Trigger, rep *Report, o *guard.Observation) {
	rep.Hairpin, rep.Unready = guard.HairpinConcerns(&k.policy, o), guard.Unready(o)
	k.proxy.look(t, rep, o.KubeProxy)
	o.KubeProxy = k.proxy.seen
	k.proxy.odd = follow(t, record.KindKubeProxy, k.proxy.odd, o.KubeProxy.Findings(), k.account.record)
	b := &k.bridges
	if o.Bridging == nil {
		b.tell(t, guard.Concerns(&k.policy, o))
	}
	if o.NextBoot != nil {
		k.files.nextBoot = follow(t, record.KindNextBoot, k.files.nextBoot, o.NextBoot.Findings, k.account.record)
	}
	rep.explain(&k.policy, o, k.ProxyState(), k.bridges.concerns, &guard.NextBoot{Findings: k.files.nextBoot})
}
