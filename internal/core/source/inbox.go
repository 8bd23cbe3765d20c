package source

import (
	"context"
	"slices"
	"sync"
	"time"
)

// keep is how many different hints of one source an inbox remembers: they are
// evidence for a record, and nobody reads a longer list.
const keep = 16

// keepDevices is the same for hints about a device: each is a reason to look
// at that one, and those beyond are found when everything is looked at.
const keepDevices = 256

// Inbox is where hints wait for the one goroutine that looks. Putting one in
// never blocks. It also knows the health of each source that is supervised.
type Inbox struct {
	wake func()

	mu     sync.Mutex
	hints  []Hint
	health []Health
	retry  map[string]chan struct{} // one slot each: to be started again at once
	moved  bool                     // the health of one has changed since Moved was last called
}

// Health is the state of one source.
type Health struct {
	Name     string    `json:"name"`
	Up       bool      `json:"up"`
	How      string    `json:"how,omitempty"`      // what the source said when it came up
	Error    string    `json:"error,omitempty"`    // why it is down
	Since    time.Time `json:"since"`              // when it came up or went down
	LastNews time.Time `json:"last_news,omitzero"` // when it last hinted; zero: never
	Hints    uint64    `json:"hints"`              // how often it hinted
	Restarts uint64    `json:"restarts"`           // how often it was started again
}

// Starting is the Error of a source that has not subscribed yet.
const Starting = "starting"

// NewInbox returns an empty inbox that calls wake after each hint and each
// change of a source's health. wake may be called from any goroutine and must
// not block.
func NewInbox(wake func()) *Inbox {
	return &Inbox{wake: wake, retry: make(map[string]chan struct{})}
}

// Put adds a hint, unless the same one waits already.
func (in *Inbox) Put(h Hint) {
	if h.Time.IsZero() {
		h.Time = time.Now()
	}
	in.mu.Lock()
	if in.news(h) {
		in.hints = append(in.hints, h)
	}
	if s := in.find(h.Source); s != nil {
		s.LastNews = h.Time
		s.Hints++
		if !s.Up {
			s.Up, s.How, s.Error, s.Since = true, h.Reason, "", h.Time
			in.moved = true
		}
	}
	in.mu.Unlock()
	in.wake()
}

// news reports whether h is worth keeping with what waits already. One
// source that floods does not push out another's.
func (in *Inbox) news(h Hint) bool {
	n := 0
	for _, w := range in.hints {
		if w.Source != h.Source {
			continue
		}
		if w.Reason == h.Reason && w.Path == h.Path {
			return false
		}
		n++
	}
	if h.Device != "" {
		return n < keepDevices
	}
	return n < keep
}

// Take returns what was put in since the last call and empties the inbox. It
// is to be called right before a look, never after one: a hint that comes
// during the look is for the next.
func (in *Inbox) Take() []Hint {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.hints) == 0 {
		return nil
	}
	hints := in.hints
	in.hints = nil
	return hints
}

// Health returns the state of every supervised source, in the order in which
// they were started.
func (in *Inbox) Health() []Health {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]Health(nil), in.health...)
}

// Moved reports whether a source has come up or gone down since the last call.
func (in *Inbox) Moved() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	moved := in.moved
	in.moved = false
	return moved
}

// Keep forgets the health of all sources but names. None of the others may run.
func (in *Inbox) Keep(names []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.health = slices.DeleteFunc(in.health, func(h Health) bool { return !slices.Contains(names, h.Name) })
}

// Retry has each source that is down try again at once.
func (in *Inbox) Retry() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.health {
		if !in.health[i].Up {
			select {
			case in.retry[in.health[i].Name] <- struct{}{}:
			default:
			}
		}
	}
}

func (in *Inbox) find(name string) *Health {
	for i := range in.health {
		if in.health[i].Name == name {
			return &in.health[i]
		}
	}
	return nil
}

// The back-off of a source that fails.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Supervise runs s until ctx is cancelled, puts its hints into in, and starts
// it again when it fails: after 1 s, and after twice that each time it fails
// at once, up to a minute, or when [Inbox.Retry] says so.
func Supervise(ctx context.Context, s Source, in *Inbox) {
	again := in.register(s.Name())
	wait := firstRetry
	for {
		err := s.Run(ctx, in.Put)
		if ctx.Err() != nil {
			in.stopped(s.Name())
			return
		}
		if lasted := in.down(s.Name(), err); lasted >= lastRetry {
			wait = firstRetry
		}
		in.wake()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			in.stopped(s.Name())
			return
		case <-timer.C:
			wait = min(2*wait, lastRetry)
		case <-again:
			timer.Stop()
			wait = firstRetry
		}
		in.restarted(s.Name())
	}
}

func (in *Inbox) register(name string) <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.find(name) == nil {
		in.health = append(in.health, Health{Name: name, Error: Starting, Since: time.Now()})
		in.retry[name] = make(chan struct{}, 1)
	}
	return in.retry[name]
}

// down notes that a source ended, and returns how long it had been up.
func (in *Inbox) down(name string, err error) (lasted time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.find(name)
	now := time.Now()
	in.moved = true
	if s.Up {
		lasted = now.Sub(s.Since)
		s.Since = now
	}
	s.Up = false
	s.Error = "ended without an error"
	if err != nil {
		s.Error = err.Error()
	}
	return lasted
}

func (in *Inbox) restarted(name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.find(name).Restarts++
}

// stopped notes that a source ended because it was told to.
func (in *Inbox) stopped(name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.find(name)
	s.Up, s.Error, s.Since = false, Starting, time.Now()
}
