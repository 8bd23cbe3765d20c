// Package source defines what wakes the guard: a [Source] subscribes to one
// kind of news and says by a [Hint] that a look is due. A hint carries
// evidence for the record, never a decision, and nothing here knows what is
// guarded; each source is a package of its own below this one.
package source

import (
	"context"
	"time"
)

// Hint is a reason to look.
type Hint struct {
	Source string        // name of the source: "link", "uevent", …
	Reason string        // for people: "bridge cnio0 appeared"
	Time   time.Time     // when the news arrived
	Writer Writer        // who caused it, where the kernel told
	Who    func() Writer // the same with all that can still be read of it; nil: Writer is all
	Path   string        // the file that it is about, where there is one
	Change *Change       // what was written, where the kernel told before it stored it
	Device string        // the network device that it is about and that is there, where there is one
}

// Change is a foreign write of which the kernel told before it stored the
// value, at Hint.Time.
type Change struct {
	Old, New string // both "": several writes, which are only counted
	Answer   Answer
	Missed   uint64 // how many more writes to this file it did not tell of
}

// Answer is what the kernel was told to do with a foreign value.
type Answer uint8

// The answers.
const (
	Stored    Answer = iota // let it be stored
	Refused                 // the writer got EPERM
	Rewritten               // our value was stored, and the writer told that all went well
)

// Writer is the process behind a hint. A PID of zero means unknown.
type Writer struct {
	PID    int
	Comm   string
	Exe    string
	Cgroup string // cgroup v2 path, or systemd's own hierarchy's in v1
}

// Subscribed begins the reason of the hint that a source gives when it has
// subscribed; how it did so may follow.
const Subscribed = "subscribed"

// Source is one subscription to news.
type Source interface {
	// Name is the source's name in records and in status, a constant.
	Name() string

	// Run subscribes, then calls hint once with the reason [Subscribed], so
	// that what changed before the subscription is looked at, then calls it
	// for each piece of news. It blocks until ctx is cancelled and then
	// returns nil; any other return is an error and means that news may be
	// lost from here on. It can be called again. hint may be called
	// from any goroutine, and blocks only where the hint is about a Device,
	// for as long as the kernel has it wait for a lock.
	Run(ctx context.Context, hint func(Hint)) error
}
