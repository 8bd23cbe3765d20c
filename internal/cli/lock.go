package cli

import (
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/run"
)

// locked says for a check, which has no hook, whether the daemon's lock is in
// force.
func (a *app) locked(s *daemon.Settings) []guard.Finding {
	if s.Policy.Mode != guard.Lock || a.root != "" {
		return nil
	}
	status, err := readStatus()
	if err != nil {
		return []guard.Finding{{
			Subject: run.LockSubject, Sentence: run.LockSubject + " is not in force: it lasts as long as the daemon, and nfguard is not running",
			Next: "systemctl start nfguard",
		}}
	}
	var list []guard.Finding
	for _, f := range status.Findings {
		if f.Subject == run.LockSubject {
			list = append(list, f)
		}
	}
	return list
}
