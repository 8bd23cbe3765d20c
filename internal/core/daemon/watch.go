package daemon

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

// Watch is an open subscription to the writes to the guarded sysctls. The loop
// itself waits on its descriptor, so that a look can begin before anything is
// queued or handed from one goroutine to another. It is used by the loop only.
type Watch interface {
	// FD is the descriptor; it is readable when there is news.
	FD() int

	// Read takes all the news there is, without blocking, and hands it to
	// tell. An error means that no more will come.
	Read(tell func(record.Write)) error

	// Rest hands to tell what Read keeps back for a while: how many writes it was
	// not told of one by one. It is for when nobody will read any more.
	Rest(tell func(record.Write))

	// Stale reports whether what is watched is not what is there now.
	Stale() bool

	// Complete reports whether it tells of every write, through whatever
	// mount of procfs.
	Complete() bool

	Close()
}

// Opener opens a watch and says how it watches, for the status. It must not
// block.
type Opener func() (w Watch, how string, err error)

// SourceOfWrites is the name of the watch among the sources of news.
const SourceOfWrites = "sysctl"

// watch is the watch that the loop has, and how it gets on.
type watch struct {
	opener Opener // nil: there is nothing to watch
	open   Watch  // nil: it failed
	health source.Health
	wait   time.Duration // before the next try
	last   time.Time     // when there was news
}

// The waits before the next try to open the watch, as of any source.
const (
	firstTry = time.Second
	lastTry  = time.Minute
)

// startWatch opens the watch for new settings.
func (d *Daemon) startWatch(o Opener, now time.Time) {
	d.watch = watch{opener: o, last: d.watch.last}
	d.watch.health = source.Health{Name: SourceOfWrites, Error: source.Starting, Since: now}
	d.openWatch(now)
}

func (d *Daemon) stopWatch() {
	if d.watch.open != nil {
		d.watch.open.Close()
		d.watch.open = nil
	}
	d.at.Clear(openWatch)
}

// openWatch opens the watch, in the place of one that is open.
func (d *Daemon) openWatch(now time.Time) {
	w := &d.watch
	d.stopWatch()
	if w.opener == nil {
		return
	}
	opened, how, err := w.opener()
	if err != nil {
		d.watchFailed(err, now)
		return
	}
	h := &w.health
	w.open, h.How, h.Error, h.LastNews = opened, how, "", now
	h.Hints++
	if !h.Up {
		h.Up, h.Since = true, now
		d.at.Set(tellSources, now)
	}
	d.o.Log.Debug("hint", "source", h.Name, "reason", how)
}

// watchFailed closes the watch, and has it opened again after a while.
func (d *Daemon) watchFailed(err error, now time.Time) {
	w := &d.watch
	d.stopWatch()
	h := &w.health
	if h.Up {
		if now.Sub(h.Since) >= lastTry {
			w.wait = 0
		}
		h.Since = now
	}
	h.Up, h.Error = false, err.Error()
	w.wait = min(max(2*w.wait, firstTry), lastTry)
	d.at.Set(openWatch, now.Add(w.wait))
	d.at.Set(tellSources, now)
}

// retryWatch opens a watch that has failed. What was changed meanwhile is looked
// for.
func (d *Daemon) retryWatch(now time.Time) {
	d.watch.health.Restarts++
	d.openWatch(now)
	if d.watch.open != nil {
		d.want(keep.Trigger{Source: SourceOfWrites, Time: now})
	}
}

// renewWatch opens the watch anew where what it watches is not there any more.
func (d *Daemon) renewWatch(now time.Time) {
	if d.watch.open != nil && d.watch.open.Stale() {
		d.openWatch(now)
	}
}
