package daemon

import (
	"errors"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/source"
)

// Status is what a running daemon has seen and done, as `nfguard status`
// shows it.
type Status struct {
	Schema  int       `json:"schema"` // 1
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started,omitzero"` // missing where the daemon has not told
	Written time.Time `json:"written"`

	// Process identifies the daemon that wrote this: its PID may be another's later.
	Process instance.Process `json:"process"`

	State    string `json:"state"`    // "healthy" or "degraded"
	Sentence string `json:"sentence"` // the same for people

	Rights      string            `json:"rights"` // who loads the module and writes the drop-ins: "itself", "nfguard-helper" or "nobody"
	Mode        string            `json:"mode"`
	Scope       string            `json:"scope"`     // "host" or "bridges"
	Verdict     guard.Verdict     `json:"verdict"`   // of the last pass, and of the sysctls since
	Pass        uint64            `json:"pass"`      // its number
	LastPass    time.Time         `json:"last_pass"` // when it ended
	Totals      keep.Totals       `json:"totals"`
	Complaints  map[string]string `json:"complaints"` // what could not be put right, by subject
	Fights      []string          `json:"fights"`     // subjects that somebody changes again and again
	Pause       *Pause            `json:"pause,omitempty"`
	Refused     *Refusal          `json:"pause_refused,omitempty"` // why what was asked for last is no pause
	ConfigError string            `json:"config_error,omitempty"`
	Sources     []source.Health   `json:"sources"`
	Bridges     []guard.Bridge    `json:"bridges"`
	KubeProxy   KubeProxy         `json:"kube_proxy"`
	Findings    []guard.Finding   `json:"findings"` // what others do that a person should know
	Meaning     string            `json:"meaning"`  // what all this means for Services
	Look        Look              `json:"look"`     // progress of the looks at everything
	Sysctls     []Sysctl          `json:"sysctls"`  // as the daemon saw them last

	// For the parts of the same process: what is in force, and the last pass.
	Settings Settings    `json:"-"`
	Report   keep.Report `json:"-"` // its items as the sysctls are since
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
