package keep

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// sysctls keeps the values of the guarded keys.
type sysctls struct {
	book
	host   Host
	news   func() []record.Write
	named  func(record.Process) record.Process
	yield  func(k guard.Key, yields bool) // [Options.Yield]; nil: nobody would store ours
	policy *guard.Policy

	keys    []key // in the policy's order
	values  []guard.Value
	byFile  map[string]int
	pending []correction   // that wait to be recorded
	kept    []keptOut      // the same
	told    []int          // keys with writes that may still be stored, or that were counted
	some    []record.Write // whose key the source cannot tell

	known   bool // the host was surveyed: it is known which keys are excused
	ipv6Off bool
	last    time.Time // when there was a look last
}

// key is what is known of one guarded sysctl.
type key struct {
	guard.Setting
	there   bool      // it existed at the last look
	asked   bool      // a reload has changed what is wanted, and it has not been right since
	waits   bool      // it is not set to 0 yet: a bridge that is kept may have no flag of its own
	since   time.Time // when it was first seen wrong; zero: it is right
	noted   string    // where nothing is put right, the value that is on record
	paused  bool      // it is so because of a pause
	retry   time.Time // after a failure: not written to before this
	backoff time.Duration
	stuck   int            // writes in a row that succeeded and changed nothing
	unheld  int            // corrections that did not hold, of which nothing is recorded yet
	told    []record.Write // writes that no correction has accounted for yet
	counted *record.Write  // the last of those that are only counted and were stored; nil: none in this look
}

// maxRounds bounds the looks of one call: a writer in a tight loop must not
// hold the loop. In a fight there is one look a call, for more would win
// nothing; after the last news there is one more, restless later.
const (
	maxRounds = 4
	restless  = 20 * time.Millisecond
)

// maxStuck is how many writes in a row may succeed without effect, and without
// news of a writer, before we take it that the kernel does not keep the value. A
// writer that we cannot see can overtake a few in a row.
const maxStuck = 20

func newSysctls(a *account, o Options) sysctls {
	return sysctls{book: newBook(a), host: o.Host, news: o.News, named: o.Named, yield: o.Yield}
}

// tellYield tells the kernel whether it lets foreign values of k be stored, which is
// only in mode enforce: in mode lock nobody else has a say.
func (s *sysctls) tellYield(k *key) {
	if s.yield != nil {
		fought := s.limits.Yield && s.on[string(k.Key)] != nil
		s.yield(k.Key, s.mode == guard.Enforce && (fought || k.waits))
	}
}

// tellTurn tells the kernel of a fight that has begun or ended. In one over what the
// kernel keeps out nobody yields.
func (s *sysctls) tellTurn(f *fight) {
	if i, ok := s.byFile[guard.Key(f.subject).File()]; ok && f.kind == record.KindDrift {
		s.tellYield(&s.keys[i])
	}
}

// wait has the keys that are to be 0 wait for the flags of bridges that lack, or no
// longer. One that was 0 since it is to be does not wait again: bridges live by their
// flags then.
func (s *sysctls) wait(bare guard.Flags) {
	for i := range s.keys {
		k := &s.keys[i]
		for f, lacks := range bare {
			if k.waits && !lacks && k.Key == guard.Family(f).Key() {
				k.waits = false
				s.tellYield(k)
			}
		}
	}
}

// waiting are the families whose key waits.
func (s *sysctls) waiting() (on guard.Flags) {
	for i := range s.keys {
		for f := range on {
			on[f] = on[f] || s.keys[i].waits && s.keys[i].Key == guard.Family(f).Key()
		}
	}
	return on
}

// setPolicy keeps to p instead of was from now on.
func (s *sysctls) setPolicy(p, was *guard.Policy) {
	acts := was.Mode == guard.Observe && p.Mode != guard.Observe // what was left so is put right
	old := s.byFile
	keys := make([]key, len(p.Sysctls))
	s.policy, s.values, s.byFile, s.told = p, make([]guard.Value, len(p.Sysctls)), make(map[string]int, len(p.Sysctls)), nil
	for i, setting := range p.Sysctls {
		k := &keys[i]
		*k = key{Setting: setting, asked: s.known, waits: p.Waits(setting)}
		if n, ok := old[setting.Key.File()]; ok {
			was := &s.keys[n]
			if was.paused && was.Value == setting.Value {
				k.since, k.paused = was.since, true
			}
			k.there, k.asked = was.there, was.asked || acts || was.Value != setting.Value
			k.waits = k.waits && (was.waits || acts || was.Value != setting.Value)
			if k.told = was.told; len(k.told) > 0 {
				s.told = append(s.told, i)
			}
		}
		s.byFile[setting.Key.File()] = i
	}
	s.keys = keys
	s.last = time.Time{} // of a new key there was no look before
	s.turned = s.tellTurn
	for _, subject := range s.fighting() {
		s.turn(s.on[subject])
	}
	for i := range s.keys {
		if k := &s.keys[i]; k.Key.ByFlag() { // the program may be another one, in which they wait
			s.tellYield(k)
		}
	}
	s.forget(time.Now(), p.Guards())
}

// look looks at the keys and puts right what is wrong, then asks who did it, then
// records it. As news of a write can come before the write is stored, the last
// look is always after the last news. It does nothing before the first survey:
// what a host excuses is not known yet.
func (s *sysctls) look(ctx context.Context, t Trigger) (seen Seen) {
	if !s.known {
		return seen
	}
	former := s.last
	rounds := maxRounds
	if len(s.on) > 0 {
		rounds = 1
	}
	for round := range rounds {
		s.correct(ctx, t, former, &seen)
		if !s.hear() {
			break
		}
		if round == rounds-1 { // the last look is after the last news, if not at once
			seen.wants(time.Now().Add(restless))
		}
	}
	s.recordPending(t)
	s.expect(time.Now(), &seen)
	return seen
}

// correct makes one look and the writes that it asks for, each right after
// the value that asks for it was read.
func (s *sysctls) correct(ctx context.Context, t Trigger, former time.Time, seen *Seen) {
	now := time.Now()
	s.last = now
	first := len(s.pending)
	for i := range s.keys {
		k := &s.keys[i]
		v := s.read(i, seen)
		if v.State != guard.Present {
			seen.Lost = seen.Lost || k.there && v.State == guard.Absent
			k.there, k.since, k.asked = false, time.Time{}, false
			continue
		}
		k.there = true
		if guard.SameValue(v.Have, k.Value) {
			seen.Recovered = seen.Recovered || !k.since.IsZero()
			k.since, k.noted, k.paused, k.stuck, k.asked = time.Time{}, "", false, 0, false
			if k.waits {
				k.waits = false
				s.tellYield(k)
			}
			continue
		}
		if s.policy.Excused(k.Setting, &guard.Observation{IPv6Off: s.ipv6Off}) != "" || k.waits && s.acts() {
			continue
		}
		if k.since.IsZero() {
			k.since = now
			if !t.Time.IsZero() && t.Time.Before(now) {
				k.since = t.Time
			}
		}
		c := correction{key: i, asked: k.asked, paused: k.paused, have: v.Have, since: k.since, found: time.Now(), at: now, former: former}
		if !s.acts() {
			if k.noted != v.Have {
				k.noted, c.outcome = v.Have, s.unacted()
				k.paused = c.outcome == record.Paused
				s.pending = append(s.pending, c)
			}
			continue
		}
		if wait := s.blocked(k, now); !wait.IsZero() {
			seen.wants(wait)
			continue
		}
		c.outcome = record.Corrected
		if c.err = s.host.Do(ctx, guard.Action{Op: guard.SetSysctl, Subject: string(k.Key), Value: k.Value}); c.err != nil {
			c.outcome = record.Failed
		}
		c.at = time.Now()
		s.pending = append(s.pending, c)
	}
	if s.acts() {
		for i := first; i < len(s.pending); i++ {
			s.confirm(&s.pending[i], seen)
		}
	}
}

func (s *sysctls) read(i int, seen *Seen) guard.Value {
	v, lost := s.host.Value(s.keys[i].Key)
	s.values[i] = v
	seen.Lost = seen.Lost || lost
	return v
}

// blocked returns when k may be written to again, or zero when it may now.
func (s *sysctls) blocked(k *key, now time.Time) time.Time {
	if now.Before(k.retry) {
		return k.retry
	}
	if f := s.on[string(k.Key)]; f != nil && s.limits.Yield {
		return f.last.Add(s.limits.Window)
	}
	return time.Time{}
}

// confirm looks whether a write took effect. One that a foreign write has
// overtaken already is corrected again by the next round; one that the kernel
// accepts and does not keep is a failure, or it would be repeated for ever.
func (s *sysctls) confirm(c *correction, seen *Seen) {
	k := &s.keys[c.key]
	v := s.read(c.key, seen)
	if v.State == guard.Present && guard.SameValue(v.Have, k.Value) {
		k.since, k.backoff, k.stuck, k.asked, k.noted, k.paused = time.Time{}, 0, 0, false, "", false
		return
	}
	if c.err == nil {
		if v.State != guard.Present {
			c.outcome, c.err = record.Failed, errVanished
			seen.Lost = true
			return
		}
		c.outcome = record.Reverted
		if k.stuck++; k.stuck < maxStuck {
			seen.wants(c.at.Add(10 * time.Millisecond))
			return
		}
		c.outcome, c.err = record.Failed, &notKeptError{wrote: k.Value, shows: v.Have}
	}
	k.backoff = min(max(2*k.backoff, time.Second), time.Minute)
	k.retry = c.at.Add(k.backoff)
	seen.wants(k.retry)
}

// current judges it again by what was seen since, where it is a sysctl's.
func (s *sysctls) current(it guard.Item) guard.Item {
	if it.Kind != record.KindDrift {
		return it
	}
	// One that is no longer there is the next pass's, which is due at once.
	i, ok := s.byFile[guard.Key(it.Subject).File()]
	if !ok || s.values[i].State != guard.Present {
		return it
	}
	o := guard.Observation{Module: guard.Module{State: guard.Present}, IPv6Off: s.ipv6Off, Bare: s.waiting()}
	return guard.PlanSysctl(s.policy, &o, s.keys[i].Setting, s.values[i])
}
