// Package step shows what a long operation is doing right now, to whoever waits for
// it: "reading /etc/sysctl.d/10-x.conf". The operation names each step in its
// context before it begins it; the one who waits looks without a lock.
package step

import (
	"context"
	"sync/atomic"
	"time"
)

// Step is one step of an operation.
type Step struct {
	What  string // "reading /etc/sysctl.d/10-x.conf"
	Since time.Time
}

// Current is the current step of an operation. The zero value has no step yet. All
// methods are safe for concurrent use.
type Current struct{ at atomic.Pointer[Step] }

// Now returns the step that was begun last, or nil. A step never changes: each has a
// new pointer.
func (c *Current) Now() *Step { return c.at.Load() }

// Reset forgets the step, before the next operation.
func (c *Current) Reset() { c.at.Store(nil) }

type key struct{}

// Follow returns a context under which [Begin] sets c.
func Follow(ctx context.Context, c *Current) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// Begin says what the operation of ctx does from now on. It does nothing if nobody
// follows ctx.
func Begin(ctx context.Context, what string) {
	if c, ok := ctx.Value(key{}).(*Current); ok {
		c.at.Store(&Step{what, time.Now()})
	}
}
