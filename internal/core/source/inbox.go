package source

import (
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

	mu      sync.Mutex
	hints   []Hint
	members []*member
	moved   bool // the health of one has changed since Moved was last called
}

// member is a source that is supervised, from one start of the sources to the
// next. One of an earlier start may still run for a while, and says nothing of
// its successor.
type member struct {
	Health
	retry chan struct{} // one slot: it is to be started again at once
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
func NewInbox(wake func()) *Inbox { return &Inbox{wake: wake} }

// Put adds a hint, unless the same one waits already.
func (in *Inbox) Put(h Hint) { in.put(h, nil) }

// put is Put for a hint of m; nil: of whoever has its name.
func (in *Inbox) put(h Hint, m *member) {
	if h.Time.IsZero() {
		h.Time = time.Now()
	}
	in.mu.Lock()
	if in.news(h) {
		in.hints = append(in.hints, h)
	}
	if m == nil {
		m = in.find(h.Source)
	}
	if m != nil {
		m.LastNews = h.Time
		m.Hints++
		if !m.Up {
			m.Up, m.How, m.Error, m.Since = true, h.Reason, "", h.Time
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
	var list []Health
	for _, m := range in.members {
		list = append(list, m.Health)
	}
	return list
}

// Moved reports whether a source has come up or gone down since the last call.
func (in *Inbox) Moved() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	moved := in.moved
	in.moved = false
	return moved
}

// Keep forgets all sources but names. They are not to be supervised any more.
func (in *Inbox) Keep(names []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.members = slices.DeleteFunc(in.members, func(m *member) bool { return !slices.Contains(names, m.Name) })
}

// Retry has each source that is down try again at once.
func (in *Inbox) Retry() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range in.members {
		if !m.Up {
			select {
			case m.retry <- struct{}{}:
			default:
			}
		}
	}
}

func (in *Inbox) find(name string) *member {
	for _, m := range in.members {
		if m.Name == name {
			return m
		}
	}
	return nil
}
