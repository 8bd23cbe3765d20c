package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A wait for a machine is limited by the processor time that the machine could use, not
// by the clock: time in which its threads wait for a processor of the host does not
// count. So a machine on a busy host gets all the time it needs, and one that hangs, idle
// or spinning, is still given up. The limits are for a processor several times slower
// than the slowest seen.
const (
	bootLimit = 4 * time.Minute
	stopLimit = 2 * time.Minute
	runLimit  = 4 * time.Minute
)

// impatience says why a wait was given up.
type impatience struct {
	limit, clock time.Duration
}

func (e *impatience) Error() string {
	return fmt.Sprintf("no result after %v in which the machine had a processor (%v by the clock)", e.limit, e.clock.Round(time.Second))
}

// bounded returns a context that is cancelled when p has had a processor, or
// wanted none, for as long as limit.
func (p *process) bounded(parent context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	const tick = time.Second
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		began, last := time.Now(), time.Now()
		spent, starved := time.Duration(0), p.starved()
		ticks := time.NewTicker(tick)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-p.done: // it has ended
				cancel(errors.Join(fmt.Errorf("%s has ended", p.cmd.Path), p.err))
				return
			case <-ticks.C:
			}
			// If a tick took longer than it should, we had no processor either.
			now, waited := time.Now(), p.starved()
			spent += max(0, min(now.Sub(last), tick)-longestWait(starved, waited))
			last, starved = now, waited
			if spent >= limit {
				cancel(&impatience{limit, time.Since(began)})
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// starved is for how long each thread of p has waited for a processor since it
// began: the second number in /proc/PID/task/TID/schedstat
// (Documentation/scheduler/sched-stats.rst). Without that file nothing is known
// and the clock counts.
func (p *process) starved() map[string]time.Duration {
	dir := fmt.Sprintf("/proc/%d/task/", p.cmd.Process.Pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	waited := make(map[string]time.Duration, len(threads))
	for _, t := range threads {
		text, err := os.ReadFile(dir + t.Name() + "/schedstat")
		if f := strings.Fields(string(text)); err == nil && len(f) == 3 {
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				waited[t.Name()] = time.Duration(n)
			}
		}
	}
	return waited
}

// longestWait is the largest growth of a thread's waiting time.
func longestWait(before, after map[string]time.Duration) time.Duration {
	var longest time.Duration
	for thread, waited := range after {
		longest = max(longest, waited-before[thread])
	}
	return longest
}

// untilSilent returns a context that is cancelled when the file at path has
// not grown for as long as limit.
func untilSilent(parent context.Context, path string, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		var size int64
		for grown := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			if info, err := os.Stat(path); err == nil && info.Size() != size {
				size, grown = info.Size(), time.Now()
			}
			if time.Since(grown) > limit {
				cancel(fmt.Errorf("%s has not grown for %v", path, limit))
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
