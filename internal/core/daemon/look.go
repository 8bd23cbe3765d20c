package daemon

import (
	"context"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/reconcile"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

// await waits for news of a write, a ring, the time next, or until the sysctls
// are to be looked at.
func (d *Daemon) await(next time.Time) (readable bool) {
	now := time.Now()
	if now.Before(d.deaf) {
		d.wait.Wait(-1, earliest(next, d.deaf).Sub(now))
		now = time.Now()
		if now.Before(d.deaf) || !now.Before(next) {
			return false
		}
	}
	fd := -1
	if w := d.lending.lent(); w != nil {
		fd = w.FD()
	}
	readable = d.wait.Wait(fd, earliest(next, d.nextLook).Sub(now))
	if readable {
		d.deaf = d.pace.take(time.Now())
	}
	return readable
}

// calm is how long there has to be no news of a write before the kernel is
// trusted to tell of the next one: in a storm it leaves some out.
const calm = time.Minute

// resync is how often the sysctls are looked at without news.
func (d *Daemon) resync(now time.Time) time.Duration {
	if w := d.lending.lent(); w != nil && w.Complete() && d.settings.ResyncTold > 0 && now.Sub(d.lastNews) > calm {
		return d.settings.ResyncTold
	}
	return d.settings.Resync
}

// look has the sysctls looked at, put right and recorded, and what was done
// to single bridges recorded.
func (d *Daemon) look(ctx context.Context, readable bool) {
	t := reconcile.Trigger{Source: "resync", Time: time.Now()}
	if readable {
		t.Source = "sysctl"
	}
	before := d.rec.Totals()
	look := d.rec.Live(ctx, t)
	d.nextTend = d.rec.Tend(ctx, t.Time)
	d.nextLook = t.Time.Add(d.resync(t.Time))
	if !look.Next.IsZero() {
		d.nextLook = earliest(d.nextLook, look.Next)
	}
	if look.Lost {
		d.lending.giveBack(source.ErrStale)
		d.want(reconcile.Trigger{Source: t.Source, Time: t.Time})
		d.lastHint = time.Time{} // at once
	}
	if look.Turn || d.rec.Totals() != before {
		d.status.changed = true
		if d.settings.Policy.Mode == guard.Observe { // what it means for the rest is the pass's to tell
			d.nextPass = earliest(d.nextPass, d.status.report.Time.Add(betweenObserved))
		}
	}
}

// betweenObserved is the least time between two passes for drifts that are left
// so: who changes a value all the time must not have us look all the time.
const betweenObserved = 5 * time.Second

// news takes what the kernel told of writes since the last call.
func (d *Daemon) news() (seen []record.Write) {
	w := d.lending.lent()
	if w == nil {
		return nil
	}
	take := func(r record.Write) { seen = append(seen, r) }
	err := w.Read(take)
	if d.ending {
		w.Rest(take)
	}
	if err != nil {
		d.lending.giveBack(err)
	}
	if len(seen) > 0 {
		d.lastNews = time.Now()
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
	n.d.o.Recorder.Record(e)
}
