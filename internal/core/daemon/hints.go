package daemon

import (
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

// The waits before something is looked at again that changes in bursts. The
// first hint is served at once.
const (
	settle       = 200 * time.Millisecond // between two passes for hints
	settleConfig = 500 * time.Millisecond // after the last change of a configuration file
)

// afterStart is when everything is looked at again after kube-proxy has
// started: it touches sysctls, and writes its rules, later than it is
// executed.
var afterStart = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}

// want asks for a pass. The first trigger of several is kept: it came first.
// What each wants to be looked at adds up.
func (d *Daemon) want(t keep.Trigger) {
	if d.wanted == nil {
		d.wanted = &t
		d.at.Set(passForHints, d.lastForHints.Add(settle))
		return
	}
	d.wanted.Look |= t.Look
}

// wantAtOnce asks for a pass that waits for the end of no burst.
func (d *Daemon) wantAtOnce(t keep.Trigger) {
	d.want(t)
	d.at.Set(passForHints, t.Time)
}

// lookFor says what news is a reason to look at, besides what every pass
// looks at.
func lookFor(about source.Topic) guard.Look {
	switch about {
	case source.Processes:
		return guard.LookKubeProxy | guard.LookNeeds
	case source.Rules: // which can come by the second
		return guard.LookKubeProxy
	case source.Files:
		return guard.LookNextBoot
	case source.Devices, source.Module, source.Ports:
	}
	return 0
}

// takeHints turns the hints that have come into what is to be done.
func (d *Daemon) takeHints() {
	for _, h := range d.inbox.Take() {
		d.o.Log.Debug("hint", "source", h.Source, "reason", h.Reason, "path", h.Path, "pid", h.Writer.PID)
		d.consider(h)
	}
	if d.inbox.Moved() {
		d.at.Set(tellSources, time.Now())
	}
	select {
	case <-d.reloads:
		d.asked = true
		d.at.Set(readConfiguration, time.Now())
	default:
	}
}

func (d *Daemon) consider(h source.Hint) {
	t := keep.Trigger{Source: record.Cause(h.Source), Time: h.Time, Look: lookFor(h.About)}
	if h.About != source.Ports {
		d.want(t)
	}
	if h.Device != "" {
		d.rec.Ask(h.Device, keep.Trigger{Source: record.Cause(h.Source), Time: h.Time})
	}
	if h.Kind == source.Subscribed {
		return
	}
	switch h.About {
	case source.Processes:
		d.settling = d.settling[:0]
		for _, wait := range afterStart {
			d.settling = append(d.settling, h.Time.Add(wait))
		}
		d.at.Set(lookAtKubeProxy, d.settling[0])
	case source.Files:
		if h.Path == "" || h.Path == d.o.AskedAt || strings.HasPrefix(d.o.AskedAt, h.Path+"/") {
			d.at.Set(readPause, time.Now())
		}
		if d.o.Configures(h.Path) {
			d.at.Set(readConfiguration, time.Now().Add(settleConfig))
		}
	case source.Devices, source.Module, source.Rules, source.Ports:
	}
}

// lookAfterStart asks for the look at kube-proxy that is due.
func (d *Daemon) lookAfterStart(now time.Time) {
	for len(d.settling) > 0 && !now.Before(d.settling[0]) {
		d.settling = d.settling[1:]
	}
	d.at.Clear(lookAtKubeProxy)
	if len(d.settling) > 0 {
		d.at.Set(lookAtKubeProxy, d.settling[0])
	}
	d.want(keep.Trigger{Source: "exec", Time: now, Look: guard.LookKubeProxy})
}
