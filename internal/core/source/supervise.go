package source

import (
	"context"
	"time"
)

// The back-off of a source that fails.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Supervise returns what runs s until its context is cancelled, puts its hints
// into the inbox, and starts it again when it fails: after 1 s, and after twice
// that each time it fails at once, up to a minute, or when [Inbox.Retry] says so.
// From now on s is among the sources of [Inbox.Health], in the place of one of
// the same name, which is to end.
func (in *Inbox) Supervise(s Source) (run func(context.Context)) {
	m := in.join(s.Name())
	return func(ctx context.Context) {
		in.supervise(ctx, s, m)
		in.change(func() { m.Up, m.Error, m.Since = false, Starting, time.Now() })
	}
}

func (in *Inbox) supervise(ctx context.Context, s Source, m *member) {
	wait := firstRetry
	for {
		err := s.Run(ctx, func(h Hint) { in.put(h, m) })
		if ctx.Err() != nil {
			return
		}
		if lasted := in.down(m, err); lasted >= lastRetry {
			wait = firstRetry
		}
		in.wake()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			wait = min(2*wait, lastRetry)
		case <-m.retry:
			timer.Stop()
			wait = firstRetry
		}
		in.change(func() { m.Restarts++ })
	}
}

// join adds a source, or puts it in the place of the one before.
func (in *Inbox) join(name string) *member {
	m := &member{Health{Name: name, Error: Starting, Since: time.Now()}, make(chan struct{}, 1)}
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, before := range in.members {
		if before.Name == name {
			m.LastNews, m.Hints, m.Restarts = before.LastNews, before.Hints, before.Restarts
			in.members[i] = m
			return m
		}
	}
	in.members = append(in.members, m)
	return m
}

// change has how change the health of a source.
func (in *Inbox) change(how func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	how()
}

// down notes that a source has ended, and returns how long it had been up.
func (in *Inbox) down(m *member, err error) (lasted time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := time.Now()
	in.moved = true
	if m.Up {
		lasted = now.Sub(m.Since)
		m.Since = now
	}
	m.Up, m.Error = false, "ended without an error"
	if err != nil {
		m.Error = err.Error()
	}
	return lasted
}
