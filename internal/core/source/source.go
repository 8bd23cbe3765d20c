// Package source defines what wakes the daemon: a [Source] subscribes to one
// kind of news and says by a [Hint] that a look is due. A hint is a reason to
// look, never a decision, and nothing here knows what is guarded; each source is
// a package of its own below this one.
package source

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Hint is a reason to look.
type Hint struct {
	Source string         // name of the source: "link", "uevent", …
	About  Topic          // what the news is about
	Kind   Kind           // what happened
	Reason string         // the same for people: "bridge cnio0 appeared"
	Time   time.Time      // when the news arrived
	Writer record.Process // who caused it, where the kernel told
	Path   string         // the file that it is about, where there is one
	Device string         // the bridge, or its port, that it is about and that is there, where there is one
}

// Topic is what news is about.
type Topic uint8

// The topics.
const (
	Devices   Topic = iota + 1 // bridges, and other network devices
	Module                     // the kernel module
	Files                      // drop-ins, and the configuration
	Processes                  // kube-proxy's, and its units
	Rules                      // kube-proxy's
	Ports                      // of bridges: nothing but Hint.Device has to be looked at
)

// Kind is what happened.
type Kind uint8

// The kinds of news.
const (
	Subscribed Kind = iota + 1 // from here on there is news: what changed before is to be looked at
	Lost                       // some news did not arrive, and later news will
	Appeared                   // it is there now, was loaded, or has started
	Changed
	Removed // it is not there any more, was unloaded, or has ended
)

// String is k for people, and begins the reason of a hint that says no more.
func (k Kind) String() string {
	switch k {
	case Subscribed:
		return "subscribed"
	case Lost:
		return "news lost"
	case Appeared:
		return "appeared"
	case Changed:
		return "changed"
	case Removed:
		return "was removed"
	}
	return ""
}

// Source is one subscription to news.
type Source interface {
	// Name is the source's name in records and in status, a constant.
	Name() string

	// Run subscribes, then calls hint once with the kind [Subscribed] and a
	// reason that tells how, then calls it for each piece of news. It blocks
	// until ctx is cancelled and then returns nil; any other return is an error
	// and means that news may be lost from here on. It can be called again.
	// hint may be called from any goroutine, and blocks only where the hint is
	// about a Device, for as long as the kernel has it wait for a lock.
	Run(ctx context.Context, hint func(Hint)) error
}
