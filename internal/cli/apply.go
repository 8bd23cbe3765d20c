package cli

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/printable"
)

func (a *app) apply(form format, dry bool) error {
	a.acts()
	s, c, err := a.settings()
	if err != nil {
		return err
	}
	if a.root != "" {
		return a.applyTree(form, dry, &s.Policy)
	}
	if err := a.onTheHost(&c); err != nil {
		return err
	}
	m := run.NewMachine(a.ctx)
	defer m.Close()
	if dry {
		r := keep.Audit(a.ctx, m, &s.Policy)
		r.Changes = keep.Planned(r.Items)
		a.code = exitCode(&r)
		return a.applied(form, &r, &s.Policy, "would ")
	}
	a.forewarn(m, &s.Policy)
	if p, _ := a.paused(); p != nil {
		fmt.Fprintln(a.Err, printable.Text("nfguard: note: nfguard is paused by "+p.By.String()+" ("+p.Reason+"); this puts right all the same, once"))
	}
	s.Policy.Mode = guard.Enforce // it is asked for by name
	ahead := a.ahead(m.Linux, &s.Policy)
	if form == text {
		a.sayAhead(ahead)
	}
	var r keep.Report
	a.recording(c.Journal.Sync, func(rec keep.Recorder) {
		pass := keep.New(s.Policy, s.Contention, keep.Options{Host: m, Recorder: rec})
		r = pass.Pass(a.ctx, keep.Trigger{Source: "apply"})
	})
	if r.Aborted != nil {
		return r.Aborted
	}
	a.code = exitCode(&r)
	if form == jsonForm {
		r.Ahead = ahead
	}
	return a.applied(form, &r, &s.Policy, "")
}

// recording runs work with a recorder to the journal, where there is one.
func (a *app) recording(durable bool, work func(keep.Recorder)) {
	records := journal.Open(journal.Options{Sync: durable, Fallback: io.Discard})
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { _ = records.Run(ctx) }) // what apply did is on stdout, too
	work(records)
	cancel()
	writing.Wait()
}

func (a *app) applied(form format, r *keep.Report, p *guard.Policy, would string) error {
	d := a.audit(r, p)
	changed := false
	for _, c := range r.Changes {
		changed = changed || c.Error == ""
		for i := range d.Items {
			if c.Error != "" && d.Items[i].Subject == c.Subject {
				d.Items[i].Reason, d.Items[i].Next = c.Error, c.Next
			}
		}
	}
	d.Changed, d.Changes = &changed, r.Changes
	if form == text {
		a.sayAhead(d.Ahead)
		d.saidAhead = true
		for _, c := range d.Changes {
			if c.Error == "" { // the others are explained below
				fmt.Fprintf(a.Out, "%s%s %s: %s → %s\n", would, c.Op, c.Subject, c.From, c.To)
			}
		}
		if len(d.Changes) == 0 && a.code == exitYes {
			fmt.Fprintln(a.Out, "nothing to do: "+d.Summary)
			return nil
		}
	}
	return a.show(form, d)
}
