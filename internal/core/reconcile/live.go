package reconcile

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// key is what is known of one guarded sysctl.
type key struct {
	guard.Setting
	file    string    // of the sysctl
	there   bool      // it was there at the last look
	asked   bool      // the value is wanted since a reload, and has not been there since
	since   time.Time // when it was first seen wrong; zero: it is right
	noted   string    // the value that is on record as left alone
	retry   time.Time // not written to before, after a failure
	backoff time.Duration
	stuck   int // writes in a row that succeeded and changed nothing
	unheld  int // corrections that did not hold, of which nothing is recorded yet
	fight   fight
}

// correction is one reversal that waits to be recorded.
type correction struct {
	key     int
	have    string
	since   time.Time // when it was seen to stand there
	found   time.Time // after it was read, and before it was written over
	at      time.Time // after it was written over
	former  time.Time // the latest time at which it cannot have stood there
	asked   bool      // it was the configuration that changed
	outcome record.Outcome
	err     error
}

// Look is what a look at the sysctls tells the loop.
type Look struct {
	Lost bool      // a sysctl went away: the module was unloaded
	Turn bool      // one that was wrong is right
	Next time.Time // when a correction that was put off is due; zero: none was
}

// maxRounds bounds the looks of one call: a writer in a tight loop must not
// hold the loop. In a fight there is one look a call, for more would win
// nothing; after the last news there is one more, restless later.
const (
	maxRounds = 4
	restless  = 20 * time.Millisecond
)

// stormy reports whether somebody fights about a sysctl.
func (r *Reconciler) stormy() bool {
	for i := range r.keys {
		if r.keys[i].fight.on {
			return true
		}
	}
	return false
}

// maxStuck is how many writes in a row may succeed without effect, and without
// news of a writer, before the kernel is believed not to keep the value. A writer
// whom we cannot see can overtake a few in a row.
const maxStuck = 20

// Live looks at the sysctls and puts right what is wrong, then asks who did
// it, then records it. As news of a write can come before the write is
// stored, the last look is always after the last news. It does nothing before
// the first survey: what a host excuses is not known yet.
func (r *Reconciler) Live(ctx context.Context, t Trigger) Look {
	var look Look
	if !r.known { // a key may be excused: see guard.Policy.Excused
		return look
	}
	former := r.last
	rounds := maxRounds
	if r.stormy() {
		rounds = 1
	}
	for round := range rounds {
		r.correct(ctx, t, former, &look)
		if r.o.News == nil {
			break
		}
		news := r.o.News()
		if len(news) == 0 {
			break
		}
		for _, e := range news {
			if !counts(&e) || e.Outcome != "" { // what was stored is found by looking
				r.seen = append(r.seen, e)
			}
		}
		r.heed(news)
		if round == rounds-1 { // the last look is after the last news, if not at once
			look.Next = earlier(look.Next, time.Now().Add(restless))
		}
	}
	r.recordCorrections(t)
	r.keepEvidence(time.Now(), &look)
	return look
}

// correct makes one look and the writes that it asks for, each right after
// the value that asks for it was read.
func (r *Reconciler) correct(ctx context.Context, t Trigger, former time.Time, look *Look) {
	now := time.Now()
	r.last = now
	first := len(r.pending)
	for i := range r.keys {
		k := &r.keys[i]
		v, lost := r.o.Host.Value(k.Key)
		r.values[i] = v
		look.Lost = look.Lost || lost
		if v.State != guard.Present {
			look.Lost = look.Lost || k.there && v.State == guard.Absent
			k.there, k.since, k.asked = false, time.Time{}, false
			continue
		}
		k.there = true
		if guard.SameValue(v.Have, k.Value) {
			look.Turn = look.Turn || !k.since.IsZero()
			k.since, k.noted, k.stuck, k.asked = time.Time{}, "", 0, false
			continue
		}
		if r.excused(k) {
			continue
		}
		if k.since.IsZero() {
			k.since = now
			if !t.Time.IsZero() && t.Time.Before(now) {
				k.since = t.Time
			}
		}
		c := correction{key: i, asked: k.asked, have: v.Have, since: k.since, found: time.Now(), at: now, former: former}
		if r.policy.Mode == guard.Observe {
			if k.noted != v.Have {
				k.noted, c.outcome = v.Have, record.Observed
				r.pending = append(r.pending, c)
			}
			continue
		}
		if wait := k.blocked(now, r.limits); !wait.IsZero() {
			look.Next = earlier(look.Next, wait)
			continue
		}
		c.err = r.o.Host.Do(ctx, guard.Action{Op: guard.SetSysctl, Subject: string(k.Key), Value: k.Value})
		c.at = time.Now()
		c.outcome = record.Corrected
		if c.err != nil {
			c.outcome = record.Failed
		}
		r.pending = append(r.pending, c)
	}
	if len(r.pending) > first && r.policy.Mode != guard.Observe {
		r.confirm(r.pending[first:], look)
	}
}

// excused reports whether k is left alone on this host, right or wrong.
func (r *Reconciler) excused(k *key) bool {
	return r.policy.Excused(k.Setting, &guard.Observation{IPv6Off: r.ipv6Off}) != ""
}

// blocked returns when k may be written to again, or zero when it may now.
func (k *key) blocked(now time.Time, c Contention) time.Time {
	if now.Before(k.retry) {
		return k.retry
	}
	if k.fight.on && c.Yield {
		return k.fight.last.Add(c.Window)
	}
	return time.Time{}
}

// confirm looks whether the writes took effect. One that a foreign write has
// overtaken already is corrected again by the next round; one that the kernel
// accepts and does not keep is a failure, or it would be repeated for ever.
func (r *Reconciler) confirm(done []correction, look *Look) {
	for i := range done {
		c := &done[i]
		k := &r.keys[c.key]
		v, lost := r.o.Host.Value(k.Key)
		r.values[c.key] = v
		look.Lost = look.Lost || lost
		right := v.State == guard.Present && guard.SameValue(v.Have, k.Value)
		if right {
			k.since, k.backoff, k.stuck, k.asked = time.Time{}, 0, 0, false
			continue
		}
		if c.err == nil {
			if v.State != guard.Present {
				c.outcome, c.err = record.Failed, errVanished
				look.Lost = true
				continue
			}
			c.outcome = record.Reverted
			if k.stuck++; k.stuck < maxStuck {
				look.Next = earlier(look.Next, c.at.Add(10*time.Millisecond))
				continue
			}
			c.outcome, c.err = record.Failed, &notKeptError{wrote: k.Value, shows: v.Have}
		}
		k.backoff = min(max(2*k.backoff, time.Second), time.Minute)
		k.retry = c.at.Add(k.backoff)
		look.Next = earlier(look.Next, k.retry)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
