package run

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/metrics"
)

// measured is what the metrics want of a status.
func measured(s *daemon.Status) metrics.State {
	var till time.Time
	if s.Pause != nil {
		till = s.Pause.Until
	}
	return metrics.State{
		PausedTill: till,
		Textfile:   s.Settings.Textfile,
		Started:    s.Started, LastPass: s.LastPass, Passes: s.Pass, Looking: s.Look.Began, Late: s.Look.Late, Audit: s.Settings.Audit,
		Mode: s.Settings.Policy.Mode, Scope: s.Scope, BadConfig: s.ConfigError != "",
		Verdict: s.Verdict, Items: s.Report.Items, Complaints: s.Complaints, Fights: s.Fights,
		Failed: s.Totals.Failed, Findings: s.Findings,
		Bridges: s.Bridges, Bridging: s.Report.Bridging, On: s.Report.On,
		KubeProxy: s.KubeProxy.State, Sources: s.Sources,
	}
}
