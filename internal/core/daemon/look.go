package daemon

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// quiet is how long there has to be no news of a write before the kernel is
// trusted to tell of the next one: in a storm it leaves some out.
const quiet = time.Minute

// resync is how often the sysctls are looked at without news.
func (d *Daemon) resync(now time.Time) time.Duration {
	if w := &d.watch; w.open != nil && w.open.Complete() && d.settings.ResyncTold > 0 && now.Sub(w.last) > quiet {
		return d.settings.ResyncTold
	}
	return d.settings.Resync
}

// look has the sysctls looked at, put right and recorded, and what was done
// to single bridges recorded.
func (d *Daemon) look(ctx context.Context, readable bool) {
	t := keep.Trigger{Source: record.CauseResync, Time: time.Now()}
	if readable {
		t.Source = SourceOfWrites
	}
	before := d.rec.Totals()
	look := d.rec.Look(ctx, t)
	d.at.Set(lookAtSysctls, sooner(look.Next, t.Time.Add(d.resync(t.Time))))
	if look.Lost {
		d.openWatch(t.Time)
		d.wantAtOnce(t)
	}
	if look.Recovered || d.rec.Totals() != before {
		d.show()
		if d.settings.Policy.Mode == guard.Observe || d.pausing.now != nil { // a pass works out what it means for the rest
			d.at.Sooner(passAnyway, d.status.report.Time.Add(betweenObserved))
		}
	}
}

// betweenObserved is the least time between two passes for drifts that are left
// so: somebody who changes a value all the time must not make us look all the
// time.
const betweenObserved = 5 * time.Second

// news takes what the kernel told of writes since the last call.
func (d *Daemon) news() (seen []record.Write) {
	w := &d.watch
	if w.open == nil {
		return nil
	}
	take := func(r record.Write) { seen = append(seen, r) }
	err := w.open.Read(take)
	if d.ending {
		w.open.Rest(take)
	}
	if len(seen) > 0 {
		w.last = time.Now()
		w.health.LastNews = w.last
		w.health.Hints += uint64(len(seen))
	}
	if err != nil {
		d.watchFailed(err, time.Now())
	}
	return seen
}

// named adds what the pod of w is called.
func (d *Daemon) named(w record.Process) record.Process {
	if d.o.PodName != nil && w.Pod != "" && w.PodName == "" {
		n := d.o.PodName(w.Pod, w.Container)
		w.PodNamespace, w.PodName, w.ContainerName = n.Namespace, n.Pod, n.Container
	}
	return w
}

// naming records what the pod of an event's process is called, where that is not
// known yet: kube-proxy's, say.
type naming struct{ d *Daemon }

func (n naming) Record(e record.Event) {
	e.Writer = n.d.named(e.Writer)
	n.d.record(e)
	if e.Kind == record.KindContention { // what goes on is recorded by the clock
		n.d.at.Set(tellFights, e.Time)
	}
}

func (d *Daemon) record(e record.Event) {
	for _, r := range d.o.Recorders {
		r.Record(e)
	}
}
