package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/printable"
)

// board is what the loop keeps for the next Status.
type board struct {
	started   time.Time
	published time.Time
	sentence  string // the last that the service manager was told
	report    keep.Report
	badConf   error
	weak      []guard.Finding
}

func (b *board) took(r keep.Report) { b.report = r }

// publishEvery bounds how often the status is written: it is for people, and a
// fight must not have it written all the time.
const publishEvery = time.Second

func (d *Daemon) publish(now time.Time) {
	s := d.snapshot(now)
	d.status.published = now
	d.at.Clear(publish)
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
		Totals: d.rec.Totals(), Complaints: d.rec.Complaints(), Fights: append([]string{}, d.rec.Fights()...), // a list in JSON, also when empty
		Sources: d.health(), Bridges: append([]guard.Bridge{}, report.Bridges...),
		KubeProxy: NewKubeProxy(d.rec.ProxyState(), report.KubeProxy),
		Findings:  append(append([]guard.Finding{}, d.status.weak...), report.Findings...), Meaning: report.Meaning,
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
	s.Look, s.Sentence = look, keep.Readiness(report.Items)
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
	var paused string
	if s.Pause, paused = d.pauseNow(); paused != "" {
		s.Sentence = paused + "; " + s.Sentence
	}
	if d.pausing.refused != (Refusal{}) {
		refused := d.pausing.refused
		s.Refused = &refused
	}
	if s.ConfigError != "" {
		s.Sentence += "; the configuration file is wrong and not in force"
	}
	if len(bad)+len(s.Fights)+len(lost) > 0 || s.ConfigError != "" || report.Pass == 0 || look.Late || look.ReloadWaits || s.Pause != nil {
		s.State = "degraded"
	}
	return s
}

// begin records the start, publishes the status, and tells the service manager
// that nfguard is ready.
func (d *Daemon) begin(r keep.Report) {
	s := d.snapshot(time.Now())
	var how []string
	for _, h := range s.Sources {
		if h.Up {
			how = append(how, h.Name+seenBy(&h))
		}
	}
	who := ""
	if s.Rights != RightsItself {
		who = "; module and drop-ins by " + s.Rights
	}
	d.record(record.Event{
		Kind: record.KindStart, Outcome: record.Observed, Time: time.Now(), Subject: "nfguard", Source: "start",
		Duration: time.Since(d.status.started), Pass: r.Pass, Now: string(r.Verdict()),
		Message: fmt.Sprintf("started (%s, mode %s): %s; news from %s", build.Version(), s.Mode, s.Sentence, strings.Join(how, ", ")) + who,
	})
	d.publish(time.Now())
	d.o.Notify("READY=1")
}

// seenBy says in brackets how the writes to sysctls are seen, and so what of names, lock and
// rewriting there is not, and why: it can't be seen from anything else in the record.
func seenBy(h *source.Health) string {
	how, told := strings.CutPrefix(h.How, "subscribed: ")
	if h.Name != SourceOfWrites || !told {
		return ""
	}
	return " (" + how + ")"
}

// end records that the daemon has stopped. The host stays as it is.
func (d *Daemon) end() {
	d.o.Notify("STOPPING=1")
	awaitShortly(&d.started)
	d.ending = true
	d.rec.Leave(time.Now())
	d.tellPauseEndNow()
	totals := d.rec.Totals()
	d.record(record.Event{
		Kind: record.KindStop, Outcome: record.Observed, Time: time.Now(), Subject: "nfguard", Source: "signal",
		Duration: time.Since(d.status.started),
		Message:  fmt.Sprintf("stopped, the host stays as it is; %d corrected, %d attempts failed", totals.Corrected, totals.Failed),
	})
}
