// Package step tells what work that can take long is doing just now, to whoever
// waits for it: "reading /etc/sysctl.d/10-x.conf". The work names each step
// before it begins it, in its context; the one who waits looks without a lock.
package step

import (
	"context"
	"sync/atomic"
	"time"
)

// Step is one thing that work does.
type Step struct {
	What  string // "reading /etc/sysctl.d/10-x.conf"
	Since time.Time
}

// Current is the step that some work is at. The zero value is of work that has
// named none. All methods are safe together.
type Current struct{ at atomic.Pointer[Step] }

// Now returns the step that was begun last, or nil. It is never changed: another
// pointer is another step.
func (c *Current) Now() *Step { return c.at.Load() }

// Reset forgets the step, for the next work.
func (c *Current) Reset() { c.at.Store(nil) }

type key struct{}

// Follow returns a context under which [Begin] sets c.
func Follow(ctx context.Context, c *Current) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// Begin says what the work of ctx does from now on. Nobody need follow it.
func Begin(ctx context.Context, what string) {
	if c, ok := ctx.Value(key{}).(*Current); ok {
		c.at.Store(&Step{what, time.Now()})
	}
}
