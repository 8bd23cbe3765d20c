// Package keep keeps one host as its policy wants it. A [Keeper] is put together
// from four parts, each with its own state and its own account of what it did:
// the sysctls, the flags of bridges, the files (the module and the drop-ins), and
// what is known of kube-proxy. The daemon and the commands make the same pass;
// there is no second way to the machine.
//
// A Keeper belongs to one goroutine; only [Keeper.Correct] may be called from
// others. What can take long (reading files, asking for bridges, modprobe, a
// disk) is handed to [Options.Wait] and [Options.Go]; the sysctls are looked at
// and put right without waiting for any of it.
package keep

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// Host is the machine that is kept right.
type Host interface {
	// Value reads one sysctl, without ever blocking, and tells whether it was
	// unregistered since the last call.
	Value(k guard.Key) (v guard.Value, lost bool)

	// Refresh opens anew what was opened and is no longer what its name says, and
	// closes what p does not guard. It returns how many there were of the former.
	Refresh(p *guard.Policy) int

	// Survey looks at everything else, and at what look asks for. It may take
	// long, and runs at the same time as Value and SetSysctl.
	Survey(ctx context.Context, p *guard.Policy, look guard.Look) guard.Observation

	// SurveyBridge looks at one bridge only, or one port of a bridge where it is
	// called so, and at what else decides about its flags. It may wait for others' changes of the network's devices, and runs
	// at the same time as everything else. A bridge that does not exist is not in
	// its answer.
	SurveyBridge(ctx context.Context, p *guard.Policy, name string) guard.Observation

	// Do carries out one action. SetSysctl never blocks; the others may.
	Do(ctx context.Context, a guard.Action) error
}

// Recorder keeps events. Record never blocks.
type Recorder interface {
	Record(e record.Event)
}

// Trigger says why there is a look.
type Trigger struct {
	Source record.Cause
	Time   time.Time  // when it woke us; zero: nothing did
	Look   guard.Look // what else a pass looks at
}

// Options are the parts of a Keeper. Host and Recorder are needed.
type Options struct {
	Host     Host
	Recorder Recorder

	// Wait runs work and returns when it has ended, or with an error as soon as
	// it gives up waiting for it; it may call Look meanwhile. Nil means to run
	// it and wait.
	Wait func(ctx context.Context, work func(context.Context)) error

	// Go starts work, returns at once, and has Look called when work has ended.
	// Nil means to run it and wait.
	Go func(work func())

	// Yield has the kernel let foreign values of k be stored, or no longer,
	// where it would otherwise store ours. Nil means that it never does.
	Yield func(k guard.Key, yields bool)

	// News returns the writes that the kernel has told of since the last
	// call. Nil means that it never tells.
	News func() []record.Write

	// Named adds to a process what its pod is called. Nil: nobody knows.
	Named func(record.Process) record.Process
}

// Keeper keeps one host right.
type Keeper struct {
	o       Options
	policy  guard.Policy
	account account
	sysctls sysctls
	bridges bridges
	files   files
	proxy   proxy
}

// New returns a Keeper that keeps to p.
func New(p guard.Policy, c Contention, o Options) *Keeper {
	if o.Wait == nil {
		o.Wait = func(ctx context.Context, work func(context.Context)) error { work(ctx); return nil }
	}
	if o.Go == nil {
		o.Go = func(work func()) { work() }
	}
	if o.News == nil {
		o.News = func() []record.Write { return nil }
	}
	if o.Named == nil {
		o.Named = func(p record.Process) record.Process { return p }
	}
	k := &Keeper{o: o, account: account{recorder: o.Recorder}}
	k.sysctls = newSysctls(&k.account, o)
	k.bridges = newBridges(&k.account, o.Host, k.wait, o.Go)
	k.files = files{book: newBook(&k.account), host: o.Host, wait: k.wait}
	k.proxy = proxy{account: &k.account}
	k.SetPolicy(p, c)
	return k
}

// SetPolicy replaces the policy from the next look on. What is known of a thing
// that stays is kept; the rest is forgotten.
func (k *Keeper) SetPolicy(p guard.Policy, c Contention) {
	was := k.policy
	k.policy, k.account.limits, k.account.mode = p, c, p.Mode
	k.files.setPolicy(&k.policy)
	k.sysctls.setPolicy(&k.policy, &was)
	k.bridges.setPolicy(p)
}

// Prepare does what has to be done before p takes the place of the policy in
// force: where flags of bridges replace the sysctls, the flags are set first. A
// sysctl that is to be 0 waits for those that could not be.
func (k *Keeper) Prepare(ctx context.Context, p guard.Policy, t Trigger) {
	if p.Bridges != nil && p.Mode != guard.Observe && !k.account.paused {
		k.bridges.prepare(ctx, p, t)
	}
}

// Seen is what a look tells the loop.
type Seen struct {
	Lost      bool      // a sysctl went away: the module was unloaded
	Recovered bool      // a sysctl that was wrong is right
	Next      time.Time // when to look again at the latest; zero: nothing waits
}

// wants notes that there is to be a look at t, if that is set.
func (s *Seen) wants(t time.Time) { s.Next = earlier(s.Next, t) }

// Look looks at the sysctls and puts right what is wrong, then asks who did it,
// then records it. It also records what was done to single bridges, and begins
// with those that wait. It never blocks.
func (k *Keeper) Look(ctx context.Context, t Trigger) Seen {
	seen := k.sysctls.look(ctx, t)
	if k.policy.Bridges != nil || k.policy.Hairpin.Keep {
		seen.wants(k.bridges.attend(ctx, time.Now()))
	}
	return seen
}

// Ask has one bridge, or one port of a bridge, looked at and put right without waiting for a pass; the
// next [Keeper.Look] begins with it. A bridge that is not kept is not touched.
func (k *Keeper) Ask(name string, t Trigger) {
	if k.bridges.rules != nil {
		k.bridges.ask(visit{name: name, policy: k.bridges.policy, trigger: t})
	}
}

// Correct looks at one bridge, or one port of a bridge, and puts it right before it returns; the next
// [Keeper.Look] records it. It is for whoever hears of a bridge first, and safe
// from any goroutine. It waits as long as the kernel makes it wait. False means
// that nothing was done, and that the loop is to be asked, by [Keeper.Ask].
func (k *Keeper) Correct(ctx context.Context, name string, t Trigger) bool {
	return k.bridges.correct(ctx, name, t)
}

// Tick records what is due by the clock: fights that go on or have ended, changes
// that are over, counts of what was not recorded one by one. It returns when it
// wants to be called again: zero when nothing is due later.
func (k *Keeper) Tick(now time.Time) (again time.Time) {
	for _, b := range k.books() {
		again = earlier(again, b.tick(now))
	}
	return earlier(again, earlier(k.proxy.tick(now), k.bridges.tickPaced(now)))
}

// Leave records what nobody would record later: what the kernel has kept out
// until now, what the fights that go on have come to, and a change of
// kube-proxy's rules.
func (k *Keeper) Leave(now time.Time) {
	k.bridges.recordDone()
	k.sysctls.hear()
	k.sysctls.recordPending(Trigger{})
	k.proxy.leave()
	for _, b := range k.books() {
		b.leave(now)
	}
}

func (k *Keeper) books() [3]*book { return [3]*book{&k.sysctls.book, &k.bridges.book, &k.files.book} }

// Totals returns what was done so far.
func (k *Keeper) Totals() (t Totals) {
	for _, b := range k.books() {
		t.add(b.totals)
	}
	return t
}

// Complaints returns what stands recorded as not put right, by subject.
func (k *Keeper) Complaints() map[string]string {
	out := make(map[string]string)
	for _, b := range k.books() {
		for subject, c := range b.complaints {
			out[subject] = c.message
		}
	}
	return out
}

// Fights returns the subjects that somebody fights about.
func (k *Keeper) Fights() (on []string) {
	for _, b := range k.books() {
		on = append(on, b.fighting()...)
	}
	return on
}

// ProxyState is how far kube-proxy has come, as of the last look.
func (k *Keeper) ProxyState() guard.ProxyState { return k.proxy.now() }

// Current judges items again, which are of the last pass, by what was seen of the
// sysctls since, and leaves out what is no longer configured.
func (k *Keeper) Current(items []guard.Item) []guard.Item {
	guards := k.policy.Guards()
	out := make([]guard.Item, 0, len(items))
	for _, it := range items {
		if guards(it.Kind, it.Subject) {
			out = append(out, k.sysctls.current(it))
		}
	}
	return out
}

// waiter runs work and waits for it, as [Options.Wait] says.
type waiter func(ctx context.Context, work func(context.Context)) error

// wait runs work through Options.Wait. A work that was given up on must not be
// waited for, and what it writes must not be read.
func (k *Keeper) wait(ctx context.Context, work func(context.Context)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return k.o.Wait(ctx, work)
}

// earlier is the first of two times, of which either may not be set.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
