package source_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/source"
)

// scripted is a source that does what each element says, and then blocks.
type scripted struct {
	runs []func(ctx context.Context, hint func(source.Hint)) error
	n    int
}

func (s *scripted) Name() string { return "scripted" }

func (s *scripted) Run(ctx context.Context, hint func(source.Hint)) error {
	s.n++
	if s.n <= len(s.runs) {
		return s.runs[s.n-1](ctx, hint)
	}
	hint(source.Hint{Source: "scripted", Kind: source.Subscribed, Reason: "subscribed"})
	<-ctx.Done()
	return nil
}

var errLost = errors.New("connection lost")

func fail(context.Context, func(source.Hint)) error { return errLost }

func TestSupervise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var log []string
		in := source.NewInbox(func() {})
		ctx, cancel := context.WithCancel(t.Context())
		note := func(err error) func(context.Context, func(source.Hint)) error {
			return func(context.Context, func(source.Hint)) error {
				log = append(log, fmt.Sprintf("%v fails", time.Since(start)))
				return err
			}
		}
		s := &scripted{runs: []func(context.Context, func(source.Hint)) error{
			note(errLost), note(errLost), note(errLost),
			func(ctx context.Context, hint func(source.Hint)) error { // up for two minutes
				hint(source.Hint{Source: "scripted", Reason: "subscribed: somehow"})
				time.Sleep(2 * time.Minute)
				return note(errLost)(ctx, hint)
			},
		}}
		done := make(chan struct{})
		go func() { defer close(done); in.Supervise(s)(ctx) }()
		time.Sleep(10 * time.Second)
		h := in.Health()[0]
		if !h.Up || h.How != "subscribed: somehow" || h.Restarts != 3 || h.Hints != 1 {
			t.Errorf("health after 10 s: %+v", h)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		want := []string{"0s fails", "1s fails", "3s fails", "2m7s fails"}
		if diff := cmp.Diff(want, log); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		if h := in.Health()[0]; !h.Up || h.Since.Sub(start) != 2*time.Minute+8*time.Second {
			t.Errorf("it came back at %v: %+v", h.Since.Sub(start), h)
		}
		cancel()
		<-done
		if h := in.Health()[0]; h.Up || h.Error != source.Starting {
			t.Errorf("health of a stopped source: %+v", h)
		}
	})
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := source.NewInbox(func() {})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &scripted{runs: []func(context.Context, func(source.Hint)) error{fail, fail, fail, fail, fail}}
		go in.Supervise(s)(ctx)
		time.Sleep(20 * time.Second) // it waits for its next try
		if h := in.Health()[0]; h.Up || h.Error != "connection lost" {
			t.Fatalf("health: %+v", h)
		}
		in.Retry()
		synctest.Wait()
		if h := in.Health()[0]; !h.Up {
			t.Errorf("not started again at once: %+v", h)
		}
		in.Retry() // one that is up is left alone
		synctest.Wait()
		if s.n != 6 {
			t.Errorf("%d runs, want 6", s.n)
		}
		cancel()
		synctest.Wait()
	})
}

func TestInbox(t *testing.T) {
	rung := 0
	in := source.NewInbox(func() { rung++ })
	if got := in.Take(); got != nil {
		t.Errorf("an empty inbox holds %v", got)
	}
	at := time.Unix(1, 0)
	in.Put(source.Hint{Source: "file", Reason: "changed", Path: "/a", Time: at})
	for i := range 100 { // a flood does not push out another source's hint
		in.Put(source.Hint{Source: "link", Reason: fmt.Sprint("bridge ", i), Time: at})
		in.Put(source.Hint{Source: "link", Reason: "the same", Time: at})
	}
	in.Put(source.Hint{Source: "file", Reason: "changed", Path: "/b", Time: at})
	got := in.Take()
	if len(got) != 2+16 || got[0].Path != "/a" || got[len(got)-1].Path != "/b" {
		t.Errorf("%d hints: %v", len(got), got)
	}
	if rung != 202 {
		t.Errorf("rung %d times, want 202", rung)
	}
	if got := in.Take(); got != nil {
		t.Errorf("an inbox that was emptied holds %v", got)
	}
	for i := range 1000 { // each is to be looked at
		in.Put(source.Hint{Source: "link", Reason: fmt.Sprint("bridge ", i), Device: fmt.Sprint(i)})
	}
	if got := in.Take(); len(got) != 256 {
		t.Errorf("%d hints about devices, want 256", len(got))
	}
	in.Put(source.Hint{Source: "x"})
	if got := in.Take(); got[0].Time.IsZero() {
		t.Error("a hint without a time")
	}
}

func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := source.NewInbox(func() {})
		ctx, cancel := context.WithCancel(t.Context())
		go in.Supervise(&scripted{})(ctx)
		synctest.Wait()
		cancel()
		synctest.Wait()
		in.Keep([]string{"scripted"})
		if h := in.Health(); len(h) != 1 {
			t.Errorf("one that is kept: %+v", h)
		}
		in.Keep([]string{"another"})
		if h := in.Health(); len(h) != 0 {
			t.Errorf("one that the settings no longer ask for: %+v", h)
		}
	})
}

// stuck is a source that does not end when it is told to.
type stuck struct{ end chan struct{} }

func (*stuck) Name() string { return "scripted" }

func (s *stuck) Run(_ context.Context, hint func(source.Hint)) error {
	hint(source.Hint{Source: "scripted", Kind: source.Subscribed, Reason: "subscribed"})
	<-s.end
	hint(source.Hint{Source: "scripted", Kind: source.Changed, Reason: "late"})
	return errLost
}

// One that ends late says nothing of its successor.
func TestSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := source.NewInbox(func() {})
		ctx, cancel := context.WithCancel(t.Context())
		old := &stuck{make(chan struct{})}
		go in.Supervise(old)(ctx)
		synctest.Wait()
		cancel()
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		s := &scripted{}
		run := in.Supervise(s)
		want := source.Health{Name: "scripted", Error: source.Starting, Since: time.Now(), LastNews: time.Now(), Hints: 1}
		if diff := cmp.Diff([]source.Health{want}, in.Health()); diff != "" {
			t.Errorf("before it runs (-want +got):\n%s", diff)
		}
		go run(ctx)
		synctest.Wait()
		up := in.Health()
		if len(up) != 1 || !up[0].Up {
			t.Errorf("it runs: %+v", up)
		}
		time.Sleep(time.Second)
		close(old.end)
		synctest.Wait()
		if diff := cmp.Diff(up, in.Health()); diff != "" {
			t.Errorf("after the one before has ended (-before +after):\n%s", diff)
		}
		cancel()
		synctest.Wait()
	})
}
