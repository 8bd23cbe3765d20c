package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
	"github.com/nfguard/nfguard/internal/kernel/pods"
)

// Settings are what the configuration asks for.
type Settings struct {
	Policy     guard.Policy
	Contention keep.Contention
	Resync     time.Duration // between looks at the sysctls when nothing happens
	ResyncTold time.Duration // the same where the kernel tells of every write; 0: no other
	Audit      time.Duration // between passes when nothing happens

	// Textfile is where the metrics go; "" for nowhere. The loop passes it on.
	Textfile string
}

// Options are the parts of a daemon.
type Options struct {
	// Process is which process this is, for those who read the status.
	Process instance.Process

	// Load reads the configuration, which may take as long as a disk takes. An
	// error at start ends Run; at a reload the old settings stay.
	Load func(context.Context) (Settings, error)

	// Configures reports whether a change of the file or directory at path
	// can be one of the configuration. Nil: no file is.
	Configures func(path string) bool

	// Sources makes the sources of news for settings, and says how to open the
	// watch for writes to the guarded sysctls; nil: there is none to watch.
	Sources func(Settings) (Opener, []source.Source, error)

	// Stopped is called when the sources of former settings have stopped and
	// those of the new ones are to start. Nil: nobody wants to know.
	Stopped func()

	// Weak says what of the settings that are in force can't be kept on this
	// host. Nil: all of it can.
	Weak func(Settings) []guard.Finding

	// Rights says who makes the changes that take more rights than the others.
	// Nil: this process does.
	Rights func() string

	// Yield has the kernel let foreign values of k be stored, or no longer, where
	// it would otherwise store ours. Nil: it never does.
	Yield func(k guard.Key, yields bool)

	// Asked reads what is asked for of a pause, which may take as long as a disk
	// takes, and AskedAt is the path of the file that says so. Nil: nobody can ask.
	Asked   func() pause.Asked
	AskedAt string

	// Pause has the kernel let all foreign values be stored, or no longer, where it
	// would otherwise refuse them or store ours. It is called once before the first
	// look. Nil: it never does.
	Pause func(on bool)

	// Clock is the time by which a pause ends. Nil: the kernel's.
	Clock func() pause.Clock

	// PodName says what the pod with a uid and its container with an id are
	// called. It may take some milliseconds. Nil: nobody knows.
	PodName func(uid, container string) pods.Name

	Host keep.Host
	Log  *slog.Logger

	// Recorders are given each event, one after the other.
	Recorders []keep.Recorder

	// Publish is given the status whenever it changed, at most once a second.
	// It must not block. Nil: nobody wants it.
	Publish func(Status)

	// Notify tells the service manager; it must not block. Nil: there is none.
	Notify func(state string)

	// Watchdog is how often the service manager wants to hear from the loop;
	// 0: never.
	Watchdog time.Duration
}

// RightsItself is what [Options.Rights] says of a daemon that needs nobody.
const RightsItself = "itself"

// complete replaces the functions that are nil by some that do nothing.
func (o *Options) complete() {
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Configures == nil {
		o.Configures = func(string) bool { return false }
	}
	if o.Stopped == nil {
		o.Stopped = func() {}
	}
	if o.Pause == nil {
		o.Pause = func(bool) {}
	}
	if o.Clock == nil {
		o.Clock = func() pause.Clock {
			return pause.Clock{Boot: o.Process.Boot, Since: time.Duration(monotonic.Boot()), Wall: time.Now()}
		}
	}
	if o.Weak == nil {
		o.Weak = func(Settings) []guard.Finding { return nil }
	}
	if o.Rights == nil {
		o.Rights = func() string { return RightsItself }
	}
	if o.Publish == nil {
		o.Publish = func(Status) {}
	}
}
