package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/step"
)

// startSources opens the watch, starts the sources and waits a moment until each
// has subscribed or failed, so that the look that follows misses nothing.
func (d *Daemon) startSources(ctx context.Context, opener Opener, sources []source.Source) {
	d.startWatch(opener, time.Now())
	running, cancel := context.WithCancel(context.Background())
	all := new(sync.WaitGroup)
	var names []string
	for _, s := range sources {
		names = append(names, s.Name())
	}
	d.inbox.Keep(names) // the settings no longer ask for the others
	for name := range d.lost {
		if !slices.Contains(names, name) && (name != SourceOfWrites || opener == nil) {
			delete(d.lost, name)
		}
	}
	for _, s := range sources {
		run := d.inbox.Supervise(&atOnce{s, d.rec})
		all.Go(func() { run(running) })
	}
	d.sources = func() *sync.WaitGroup { cancel(); return all }
	d.awaitSources(ctx, len(sources), 2*time.Second, func(h source.Health) bool { return h.Up || h.Error != source.Starting })
}

// stopSources ends the sources and waits for them, for two seconds, while the
// sysctls are kept, and then closes the watch.
func (d *Daemon) stopSources(ctx context.Context) {
	all := d.sources()
	_ = d.runWork(ctx, func(ctx context.Context) { // it fails when we are to stop
		step.Begin(ctx, "waiting for the sources of news to end")
		awaitShortly(all)
	})
	d.stopWatch()
}

// atOnce is a source whose bridges get their flags at once, by the goroutine that
// hears of them: to ring for the loop, and to have it ring for another
// goroutine, takes longer than to set the flags.
type atOnce struct {
	source.Source
	rec *keep.Keeper
}

func (a *atOnce) Run(ctx context.Context, hint func(source.Hint)) error {
	return a.Source.Run(ctx, func(h source.Hint) {
		if h.Device != "" && a.rec.Correct(ctx, h.Device, keep.Trigger{Source: record.Cause(h.Source), Time: h.Time}) {
			h.Device = ""
		}
		hint(h)
	})
}

// awaitSources waits until ok holds for all n sources, at most for limit, while
// the sysctls are kept.
func (d *Daemon) awaitSources(ctx context.Context, n int, limit time.Duration, ok func(source.Health) bool) {
	defer d.wait.Ring() // what else it was rung for is taken then
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		settled := 0
		for _, h := range d.inbox.Health() {
			if ok(h) {
				settled++
			}
		}
		if settled >= n || ctx.Err() != nil {
			return
		}
		if readable, rung := d.await(deadline); !rung {
			d.look(ctx, readable)
		}
	}
}

// patience is how long a source may be away before that is recorded: one
// that is back at once was not missed.
const patience = 3 * time.Second

// health is the state of every source, the watch first.
func (d *Daemon) health() []source.Health {
	if d.watch.opener == nil {
		return d.inbox.Health()
	}
	return append([]source.Health{d.watch.health}, d.inbox.Health()...)
}

// tellSources records the sources that stay away and those that are back.
func (d *Daemon) tellSources(now time.Time) {
	d.at.Clear(tellSources)
	for _, h := range d.health() {
		e := record.Event{Kind: record.KindSource, Time: now, Subject: h.Name, Source: "timer"}
		switch {
		case !h.Up && !d.lost[h.Name]:
			if due := h.Since.Add(patience); now.Before(due) {
				d.at.Sooner(tellSources, due)
				continue
			}
			d.lost[h.Name] = true
			e.Outcome, e.Have, e.Now = record.Failed, "up", "down"
			e.Message = fmt.Sprintf("no news from the source %s: %s; what it would have told is found later, by looking", h.Name, h.Error)
		case h.Up && d.lost[h.Name]:
			delete(d.lost, h.Name)
			e.Outcome, e.Have, e.Now = record.Observed, "down", "up"
			e.Message = fmt.Sprintf("news from the source %s again (%s)", h.Name, h.How)
		default:
			continue
		}
		d.record(e)
		d.show()
	}
}
