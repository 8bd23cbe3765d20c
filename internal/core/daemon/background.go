package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/step"
)

// errHung ends the wait for work that hangs in the kernel when we are to stop.
var errHung = errors.New("stopped while a look or an action was hanging")

// runWork runs work in a goroutine of its own, and keeps the sysctls right and
// looks at single bridges of which there is news while it lasts. When ctx is
// cancelled, work gets two seconds to end; what hangs in the kernel longer ends
// with the process.
func (d *Daemon) runWork(ctx context.Context, work func(context.Context)) error {
	done := make(chan struct{})
	followed := step.Follow(ctx, &d.work.at) // not ctx: the loop's own looks at bridges are no steps of this work
	go func() {
		defer d.wait.Ring()
		defer close(done)
		work(followed)
	}()
	var deadline time.Time // to give it up
	for {
		now := time.Now()
		select {
		case <-done:
			return nil
		default:
		}
		if ctx.Err() != nil && deadline.IsZero() {
			deadline = now.Add(2 * time.Second)
		}
		if !deadline.IsZero() && now.After(deadline) {
			return errHung
		}
		d.tellWork(now)
		d.upkeep(now)
		next := d.at.NextOfUpkeep()
		if !deadline.IsZero() {
			next = sooner(next, deadline.Add(time.Millisecond))
		}
		readable, rung := d.await(next)
		d.hear(ctx, readable, rung)
	}
}

// startWork runs work in a goroutine of its own, and rings when it has ended.
func (d *Daemon) startWork(work func()) {
	d.started.Go(func() {
		defer d.wait.Ring()
		work()
	})
}

// awaitShortly waits for what runs in other goroutines, for two seconds: what hangs
// in the kernel longer ends with the process.
func awaitShortly(running *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		running.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
	}
}
