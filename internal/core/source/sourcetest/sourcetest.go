// Package sourcetest runs sources for their tests, as the daemon does.
package sourcetest

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/source"
)

// Patience is how long a test waits for what must come.
const Patience = time.Minute

// Subscription is a source that runs.
type Subscription struct {
	Hints <-chan source.Hint // to be received, or the source waits
	Done  <-chan error       // what Run returned, and then closed
	End   context.CancelFunc // has Run return
}

// Run runs s until the test ends, or the subscription's End is called, and
// holds it to end without an error. begin starts a goroutine: in a namespace,
// say; nil is the go statement.
func Run(t testing.TB, s source.Source, begin func(func())) Subscription {
	t.Helper()
	if begin == nil {
		begin = func(f func()) { go f() }
	}
	ctx, cancel := context.WithCancel(context.Background())
	hints, done := make(chan source.Hint), make(chan error, 1)
	begin(func() {
		defer close(done)
		done <- s.Run(ctx, func(h source.Hint) {
			if h.Source != s.Name() || h.Time.IsZero() {
				t.Errorf("incomplete hint %+v", h)
			}
			select {
			case hints <- h:
			case <-ctx.Done():
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(Patience):
			t.Error("cancelled: Run goes on")
		}
	})
	return Subscription{hints, done, cancel}
}

// Next receives a hint.
func (s Subscription) Next(t testing.TB) source.Hint {
	t.Helper()
	select {
	case h := <-s.Hints:
		return h
	case err := <-s.Done:
		t.Fatalf("Run: %v", err)
	case <-time.After(Patience):
		t.Fatal("no hint")
	}
	return source.Hint{}
}

// First receives the first hint, and holds its reason to want.
func (s Subscription) First(t testing.TB, want string) {
	t.Helper()
	if h := s.Next(t); h.Reason != want {
		t.Fatalf("first hint %+v, want %q", h, want)
	}
}

// LeavesNothing runs once again and again, and counts descriptors and
// goroutines.
func LeavesNothing(t testing.TB, once func()) {
	t.Helper()
	once() // the runtime's poller opens its own descriptors once
	fds, goroutines := Descriptors(t), runtime.NumGoroutine()
	for range 20 {
		once()
	}
	if after := Descriptors(t); after != fds {
		t.Errorf("%d descriptors before, %d after", fds, after)
	}
	for deadline := time.Now().Add(Patience); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", goroutines, runtime.NumGoroutine())
		}
	}
}

// Descriptors is how many this process has open.
func Descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
