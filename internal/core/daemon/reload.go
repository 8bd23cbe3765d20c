package daemon

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

// reconfigure reads the configuration and, when it is good, swaps it in.
func (d *Daemon) reconfigure(ctx context.Context, now time.Time) {
	asked := d.asked
	d.asked = false
	d.at.Clear(readConfiguration)
	var settings Settings
	var err error
	d.beginWork("reload")
	defer d.endWork()
	if d.runWork(ctx, func(ctx context.Context) { settings, err = d.o.Load(ctx) }) != nil {
		return // we are to stop
	}
	var opener Opener
	var sources []source.Source
	if err == nil {
		opener, sources, err = d.o.Sources(settings)
	}
	same := err == nil && reflect.DeepEqual(settings, d.settings)
	if same && !asked && d.status.badConf == nil {
		return // a file was touched
	}
	if err != nil && !asked && d.status.badConf != nil && err.Error() == d.status.badConf.Error() {
		return // said already
	}
	e := record.Event{Kind: record.KindConfig, Outcome: record.Observed, Time: now, Subject: "configuration", Source: "reload"}
	d.o.Notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic.Nano()/1000)) // systemd wants both
	switch {
	case err != nil:
		e.Outcome, e.Err = record.Failed, err
		e.Message = fmt.Sprintf("the configuration was not reloaded, the old one stays in force: %v", err)
		e.Next = "fix it, check it with nfguard config check, and reload again"
	case same:
		e.Message = "the configuration was read again: nothing has changed"
	default:
		e.Message = "the configuration was reloaded"
		d.rec.Prepare(ctx, settings.Policy, keep.Trigger{Source: "reload", Time: now})
		d.stopSources(ctx)
		d.o.Stopped()
		d.settings = settings
		d.rec.SetPolicy(settings.Policy, settings.Contention)
		d.startSources(ctx, opener, sources)
		d.recordWeak(settings)
	}
	if err == nil {
		t := keep.Trigger{Source: record.CauseAudit, Time: now, Look: guard.LookAll}
		if !same { // what the pass changes, it changes for that, whatever other news there is
			d.wanted, t.Source = nil, record.CauseReload
		}
		d.wantAtOnce(t)
	}
	d.status.badConf = err
	d.publish(now) // first: whoever reads the record finds the new status
	d.record(e)
	d.o.Notify("READY=1")
}

// recordWeak records what of the settings can't be kept here.
func (d *Daemon) recordWeak(s Settings) {
	d.status.weak = d.o.Weak(s)
	for _, f := range d.status.weak {
		d.record(record.Event{
			Kind: record.KindConfig, Outcome: record.Failed, Time: time.Now(), Subject: f.Subject,
			Source: "start", Message: f.Sentence, Next: f.Next,
		})
	}
}
