// Package source defines what wakes the guard: a [Source] subscribes to one
// kind of news and says by a [Hint] that a look is due. A hint carries
// evidence for the record, never a decision, and nothing here knows what is
// guarded; each source is a package of its own below this one.
package source

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Hint is a reason to look.
type Hint struct {
	Source string         // name of the source: "link", "uevent", …
	Reason string         // for people: "bridge cnio0 appeared"
	Time   time.Time      // when the news arrived
	Writer record.Process // who caused it, where the kernel told
	Path   string         // the file that it is about, where there is one
	Device string         // the network device that it is about and that is there, where there is one
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
