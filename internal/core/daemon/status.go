package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/reconcile"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/printable"
)

// Status is what a running daemon has seen and done, as `nfguard status`
// shows it.
type Status struct {
	Schema  int       `json:"schema"` // 1
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Written time.Time `json:"written"`

	// Process tells the daemon that wrote this from others, with its PID or not.
	Process instance.Process `json:"process"`

	State    string `json:"state"`    // "healthy" or "degraded"
	Sentence string `json:"sentence"` // the same for people

	Rights      string            `json:"rights"` // who loads the module and writes the drop-ins: "itself", "nfguard-helper" or "nobody"
	Mode        string            `json:"mode"`
	Scope       string            `json:"scope"`     // "host" or "bridges"
	Verdict     guard.Verdict     `json:"verdict"`   // of the last pass, and of the sysctls since
	Pass        uint64            `json:"pass"`      // its number
	LastPass    time.Time         `json:"last_pass"` // when it ended
	Totals      reconcile.Totals  `json:"totals"`
	Complaints  map[string]string `json:"complaints"` // what could not be put right, by subject
	Fights      []string          `json:"fights"`     // subjects that somebody changes again and again
	ConfigError string            `json:"config_error,omitempty"`
	Sources     []source.Health   `json:"sources"`
	Bridges     []guard.Bridge    `json:"bridges"`
	KubeProxy   KubeProxy         `json:"kube_proxy"`
	Findings    []guard.Finding   `json:"findings"` // what others do that a person should know
	Meaning     string            `json:"meaning"`  // what all this means for Services
	Look        Look              `json:"look"`     // how the looks at everything get on
	Sysctls     []Sysctl          `json:"sysctls"`  // as the daemon saw them last

	// For whoever shares the process: what is in force, and the last pass.
	Settings Settings         `json:"-"`
	Report   reconcile.Report `json:"-"` // its items as the sysctls are since
}

// Sysctl is how a guarded sysctl stands.
type Sysctl struct {
	Key     guard.Key     `json:"key"`
	Want    string        `json:"want"`
	Have    string        `json:"have"` // "" where it could not be read
	Verdict guard.Verdict `json:"verdict"`
}

// Starting is the status of a daemon that has looked at nothing yet.
func Starting(p instance.Process) Status {
	now := time.Now()
	return Status{
		Schema: 1, Version: build.Version(), PID: p.PID, Started: now, Written: now, Process: p,
		State: "degraded", Sentence: "starting: reading the configuration", Verdict: guard.Uncertain,
		Complaints: map[string]string{}, Sources: []source.Health{}, Findings: []guard.Finding{}, Sysctls: []Sysctl{},
		Fights: []string{}, Bridges: []guard.Bridge{}, KubeProxy: NewKubeProxy(guard.ProxyUnknown, nil),
	}
}

// KubeProxy is what is known of kube-proxy.
type KubeProxy struct {
	State     guard.ProxyState `json:"state"`
	Processes []guard.Process  `json:"processes"`
	Rules     []guard.Rules    `json:"rules"`
	Error     string           `json:"error,omitempty"` // what could not be looked at
}

// NewKubeProxy tells k, which may be nil, as the commands show it.
func NewKubeProxy(state guard.ProxyState, k *guard.KubeProxy) KubeProxy {
	out := KubeProxy{State: state, Processes: []guard.Process{}, Rules: []guard.Rules{}}
	if k == nil {
		return out
	}
	out.Processes = append(out.Processes, k.Processes...)
	out.Rules = append(out.Rules, k.Rules...)
	if err := errors.Join(k.ProcessesErr, k.RulesErr); err != nil {
		out.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return out
}

// board is what the loop keeps for the next Status.
type board struct {
	started   time.Time
	changed   bool
	published time.Time
	sentence  string // the last that the service manager was told
	report    reconcile.Report
	badConf   error
	weak      []guard.Finding
}

func (b *board) took(r reconcile.Report) { b.report, b.changed = r, true }

// publishEvery bounds how often the status is written: it is for people, and
// a fight must not become a series of files.
const publishEvery = time.Second

// housekeep does what is due by the clock, and returns when to wake next.
func (d *Daemon) housekeep(now time.Time) (next time.Time) {
	next = earliest(d.nextPass, d.upkeep(now))
	if d.due != nil {
		next = earliest(next, d.lastHint.Add(settle))
	}
	if !d.reload.IsZero() {
		next = earliest(next, d.reload)
	}
	if len(d.settling) > 0 {
		next = earliest(next, d.settling[0])
	}
	return next
}

// upkeep is the part of it that is done also while a look lasts.
func (d *Daemon) upkeep(now time.Time) (next time.Time) {
	next = d.alive(now)
	if t := d.rec.Tick(now); !t.IsZero() {
		next = earliest(next, t)
	}
	if !d.nextTend.IsZero() {
		next = earliest(next, d.nextTend)
	}
	if t := d.checkSources(now); !t.IsZero() {
		next = earliest(next, t)
	}
	if d.status.changed {
		if due := d.status.published.Add(publishEvery); now.Before(due) {
			next = earliest(next, due)
		} else {
			d.publish(now)
		}
	}
	return next
}

// alive tells the service manager that the loop turns, and returns when to
// tell it again.
func (d *Daemon) alive(now time.Time) time.Time {
	if d.o.Watchdog <= 0 {
		return now.Add(time.Hour)
	}
	if !now.Before(d.nextAlive) {
		d.o.Notify("WATCHDOG=1")
		d.nextAlive = now.Add(d.o.Watchdog / 2)
	}
	return d.nextAlive
}

func (d *Daemon) publish(now time.Time) {
	s := d.snapshot(now)
	d.status.changed, d.status.published = false, now
	if s.Sentence != d.status.sentence {
		d.status.sentence = s.Sentence
		d.o.Notify("STATUS=" + printable.Text(s.Sentence)) // on a line of its own, each would be another assignment
	}
	d.o.Publish(s)
}

func (d *Daemon) snapshot(now time.Time) Status {
	report := d.status.report
	report.Items = d.rec.Current(report.Items)
	s := Status{
		Schema: 1, Version: build.Version(), PID: os.Getpid(), Started: d.status.started, Written: now, Process: d.o.Process,
		State: "healthy", Rights: d.o.Rights(), Mode: string(d.settings.Policy.Mode), Scope: d.settings.Policy.Scope(),
		Verdict: report.Verdict(), Pass: report.Pass, LastPass: report.Time,
		Totals: d.rec.Totals(), Complaints: d.rec.Complaints(), Fights: d.rec.Fights(),
		Sources: d.inbox.Health(), Bridges: report.Bridges,
		KubeProxy: NewKubeProxy(d.rec.ProxyState(), report.KubeProxy),
		Findings:  slices.Concat(d.status.weak, report.Findings), Meaning: report.Meaning,
		Settings: d.settings, Report: report, Sysctls: []Sysctl{},
	}
	if d.status.badConf != nil {
		s.ConfigError = d.status.badConf.Error()
	}
	var bad []string
	for _, it := range report.Items {
		if it.Kind == record.KindDrift {
			s.Sysctls = append(s.Sysctls, Sysctl{guard.Key(it.Subject), it.Want, it.Have, it.Verdict})
		}
		if it.Verdict == guard.Wrong || it.Verdict == guard.Blocked || it.Verdict == guard.Uncertain {
			bad = append(bad, it.Subject)
		}
	}
	for subject := range s.Complaints { // of a look since the last pass
		if !slices.Contains(bad, subject) {
			bad = append(bad, subject)
		}
	}
	slices.Sort(bad)
	look, doing := d.lookNow(now)
	s.Look, s.Sentence = look, reconcile.Readiness(report.Items)
	if report.Pass == 0 {
		s.Sentence, doing = "starting: "+doing, ""
	}
	if n := s.Totals.Corrected; n > 0 {
		s.Sentence += fmt.Sprintf("; %d corrected so far", n)
	}
	if len(bad) > 0 {
		s.Sentence += "; not as wanted: " + strings.Join(bad, ", ")
	}
	if len(s.Fights) > 0 {
		s.Sentence += "; fought over: " + strings.Join(s.Fights, ", ")
	}
	var lost []string
	for _, h := range s.Sources {
		if !h.Up {
			lost = append(lost, h.Name)
		}
	}
	if len(lost) > 0 {
		s.Sentence += "; no news from " + strings.Join(lost, ", ")
	}
	if doing != "" {
		s.Sentence += "; " + doing
	}
	if s.ConfigError != "" {
		s.Sentence += "; the configuration file is wrong and not in force"
	}
	if len(bad)+len(s.Fights)+len(lost) > 0 || s.ConfigError != "" || report.Pass == 0 || look.Late || look.ReloadWaits {
		s.State = "degraded"
	}
	return s
}

// begin records that the guard is on duty, and says so to whoever waits.
func (d *Daemon) begin(r reconcile.Report) {
	s := d.snapshot(time.Now())
	var how []string
	for _, h := range s.Sources {
		if h.Up {
			how = append(how, h.Name)
		}
	}
	who := ""
	if s.Rights != RightsItself {
		who = "; module and drop-ins by " + s.Rights
	}
	d.o.Recorder.Record(record.Event{
		Kind: record.KindStart, Outcome: record.Observed, Time: time.Now(), Subject: "nfguard", Source: "start",
		Duration: time.Since(d.status.started), Pass: r.Pass, Now: string(r.Verdict()),
		Message: fmt.Sprintf("on guard (%s, mode %s): %s; news from %s", build.Version(), s.Mode, s.Sentence, strings.Join(how, ", ")) + who,
	})
	d.publish(time.Now())
	d.o.Notify("READY=1")
}

// end takes leave. The host stays as it is.
func (d *Daemon) end(ctx context.Context) {
	d.o.Notify("STOPPING=1")
	awaitShortly(&d.asides)
	d.rec.Tend(ctx, time.Now()) // it begins nothing any more
	d.ending = true
	d.rec.Leave(time.Now())
	totals := d.rec.Totals()
	d.o.Recorder.Record(record.Event{
		Kind: record.KindStop, Outcome: record.Observed, Time: time.Now(), Subject: "nfguard", Source: "signal",
		Duration: time.Since(d.status.started),
		Message:  fmt.Sprintf("off guard, the host stays as it is; %d corrected, %d attempts failed", totals.Corrected, totals.Failed),
	})
}

// earliest is the first of two times that are both set.
func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// earlier is the first of two times of which a may not be set.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return earliest(a, b)
}
