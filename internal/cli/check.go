package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/printable"
)

func (a *app) checkCommand() *cobra.Command {
	var form format
	var prove, merge bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is not as wanted, why, and what to do",
		Long: `Looks once at the module, the sysctls, the next boot, bridges, kube-proxy and what
else Services need, and changes nothing. It needs no root.

--probe sends packets as well: see nfguard probe --help. -o npd prints one line about
the live state for node-problem-detector; the next boot does not count there. --merge
looks at nothing. It makes one table of what "nfguard check -o json" printed on many
hosts: FILE is such an output, what ansible printed of it, or the directory of its
--tree.

Exit codes: 0 as wanted, 1 not, or something else that Services need is missing,
2 could not tell.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if merge {
				return nil
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case prove && (merge || form == npdForm):
				return &hintError{errors.New("--probe is about this host, and has no place in one line"), "nfguard check --probe -o json"}
			case merge:
				return a.merge(form, args)
			case form == npdForm:
				return a.condition()
			}
			return a.check(form, prove)
		},
	}
	outputFlag(cmd, &form, npdForm)
	cmd.Flags().BoolVar(&prove, "probe", false, "send packets through a throw-away node with this host's settings, and judge by them, too")
	cmd.Flags().BoolVar(&merge, "merge", false, "make one table of the results of many hosts, in `FILE...`")
	return cmd
}

func (a *app) check(form format, prove bool) error {
	if prove && a.root != "" {
		return errTree
	}
	s, c, err := a.settings()
	if err != nil {
		return err
	}
	if a.root != "" {
		return a.checkTree(form, &s.Policy)
	}
	m := run.NewMachine(a.ctx)
	defer m.Close()
	r := keep.Audit(a.ctx, m, &s.Policy)
	a.code = auditCode(&r)
	paused, findings := a.paused()
	r.Findings = slices.Concat(findings, a.locked(&s), r.Findings)
	printed(r.Needs)
	d := a.audit(&r, &s.Policy)
	d.pausedBy(paused)
	if where, meant := elsewhere(&c); where != "" {
		d.Elsewhere = where
		if !meant {
			d.elsewhereNext = a.nextElsewhere()
		}
	}
	next := m.Forecast()
	d.NextBoot = &next
	if found, err := host.Impact(a.ctx, r.Bypassing); err == nil && len(r.Bypassing) > 0 {
		d.Unreplied = &unrepliedRow{found.Connections, found.Pods, found.Describe()}
	}
	d.Abilities = m.Abilities(&s)
	if prove {
		d.Probe = a.proofOrWhy()
		a.code = withProbe(a.code, probeCode(d.Probe.Verdict))
	}
	if d.elsewhereNext != "" {
		a.code = exitTrouble // whatever is right here, it says nothing of the host
	}
	return a.show(form, d)
}

// pausedBy has the rows say what puts them right while the daemon is paused: it runs
// already, and would start with the same pause.
func (d *document) pausedBy(p *daemon.Pause) {
	d.Pause = p
	for i := range d.Items {
		if it := &d.Items[i]; p != nil && it.Next == nextApply {
			it.Next = "nfguard resume ends the pause, and puts it right; nfguard apply puts it right once"
		}
	}
}

func (a *app) applyCommand() *cobra.Command {
	var form format
	var dry bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Put right, once, what is not as wanted",
		Long: `Does once what the daemon does all the time, whatever the mode says. What is right
is not written to. With --root it writes the files for the next boot into a tree: it
looks at and changes no kernel, runs no program, and reads and writes nothing outside.

Exit codes: 0 as wanted now, 1 not, 2 could not tell.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.apply(form, dry) },
	}
	outputFlag(cmd, &form)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func writeJSON(w io.Writer, v any) error {
	text, err := printable.Marshal(v, "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// auditCode is exitCode, with what will undo the state at the next boot, and with
// what Services fail for although the keys are right. What is not known of that
// leaves the code to the keys.
func auditCode(r *keep.Report) int {
	code := exitCode(r)
	for _, f := range r.Findings {
		if f.Breaks {
			return exitNo
		}
	}
	for i := range r.Needs {
		if r.Needs[i].Counts(r.Needs) {
			return exitNo
		}
	}
	return code
}

func exitCode(r *keep.Report) int {
	switch r.Verdict() { //nolint:exhaustive // a report is one of three
	case guard.Right:
		return exitYes
	case guard.Uncertain:
		return exitTrouble
	default:
		return exitNo
	}
}

// unrepliedRow is what nfguard impact would tell, in short.
type unrepliedRow struct {
	Connections int `json:"connections"`
	Pods        int `json:"pods"`

	sentence string
}

// document is the result of check and apply: complete, and stable as JSON.
type document struct {
	Schema int       `json:"schema"` // 1
	Host   string    `json:"host"`
	Kernel string    `json:"kernel,omitempty"` // of a tree there is none
	Root   string    `json:"root,omitempty"`   // the tree that was looked at
	Time   time.Time `json:"time"`

	// Elsewhere says that this is not the host, but a container. Where the
	// configuration does not mean it, check exits 2.
	Elsewhere     string `json:"elsewhere,omitempty"`
	elsewhereNext string

	Mode    guard.Mode    `json:"mode"`
	Scope   string        `json:"scope"` // "host" or "bridges"
	Verdict guard.Verdict `json:"verdict"`
	Summary string        `json:"summary"`
	Items   []row         `json:"items"`

	// Which sysctls are on, guarded or not; and with scope "bridges" what
	// carries the flags over a reboot. Of a tree there is neither.
	Sysctls     *sysctlRow `json:"sysctls,omitempty"`
	FlagsAtBoot string     `json:"flags_at_boot,omitempty"`

	Bridges      []bridgeRow `json:"bridges"`
	BridgesError string      `json:"bridges_error,omitempty"`

	// Of a tree there is no kube-proxy. Meaning says in a sentence what all
	// this means for the Services of this node.
	KubeProxy *daemon.KubeProxy `json:"kube_proxy,omitempty"`
	Meaning   string            `json:"meaning,omitempty"`

	// Needs are the things that Services with an endpoint on the client's own node
	// need, of each bridge with pods. One that is missing counts for check's exit
	// code, not for Verdict. Ahead is what it will change on this node that packets
	// are handed over which are not yet; of apply, what it was going to change.
	Needs []guard.Need    `json:"needs,omitempty"`
	Ahead []guard.Finding `json:"ahead,omitempty"`

	// Of check only: how many connections through Services are unreplied while they
	// bypass netfilter. It is not there where no bridge with pods bypasses it, or it
	// could not be told.
	Unreplied *unrepliedRow `json:"unreplied,omitempty"`

	saidAhead bool // before the rest of the text

	// Of check only: what will set the guarded things at the next boot.
	NextBoot *boot.Report `json:"next_boot,omitempty"`

	// Of check only: what each promise rests on here, as the probes found it.
	Abilities []run.Ability `json:"abilities,omitempty"`

	// Of check --probe only; it counts for check's exit code, not for Verdict.
	Probe *proof `json:"probe,omitempty"`

	// Findings are things that are not nfguard's to change. One that breaks
	// will undo what is guarded, and check exits 1 for it.
	Findings []guard.Finding `json:"findings"`

	// Pause is that of the daemon; nil: it is not paused, or does not run. Of check only.
	Pause *daemon.Pause `json:"pause,omitempty"`

	// Of apply only.
	Changed *bool         `json:"changed,omitempty"`
	Changes []keep.Change `json:"changes,omitempty"`
}

// row is the judgement on one guarded thing.
type row struct {
	Kind    string        `json:"kind"` // "module", "sysctl", "bridge" or "dropin"
	Subject string        `json:"subject"`
	Verdict guard.Verdict `json:"verdict"`
	Want    string        `json:"want"`
	Have    string        `json:"have"`
	Reason  string        `json:"reason,omitempty"`
	Next    string        `json:"next,omitempty"`
	Action  string        `json:"action,omitempty"` // what apply does: "load", "set", "write", "flag", "unflag"
}

func (a *app) audit(r *keep.Report, p *guard.Policy) *document {
	d := &document{
		Schema: 1, Time: r.Time.UTC(), Mode: p.Mode, Scope: p.Scope(), Verdict: r.Verdict(), Summary: keep.Readiness(r.Items),
		Items: []row{}, Bridges: []bridgeRow{}, Meaning: r.Meaning, Findings: append([]guard.Finding{}, r.Findings...),
		Needs: r.Needs, Ahead: r.Ahead,
	}
	if a.root == "" {
		k := daemon.NewKubeProxy(r.ProxyState, r.KubeProxy)
		d.KubeProxy = &k
	}
	d.Host, _ = os.Hostname()
	if a.root != "" {
		d.Root, d.Summary = a.root, "the drop-ins of a tree"
	} else {
		d.Kernel = release()
	}
	for _, it := range r.Items {
		d.Items = append(d.Items, a.row(it))
	}
	d.addBridges(r, p)
	if r.Bridging != nil {
		d.BridgesError = r.Bridging.Error()
	}
	return d
}

// release is that of the running kernel, or "" where it does not say.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// nextApply is the next step against what nfguard itself puts right.
const nextApply = "nfguard apply puts it right once, systemctl start nfguard keeps it right"

func (a *app) row(it guard.Item) row {
	r := row{Subject: it.Subject, Verdict: it.Verdict, Want: it.Want, Have: it.Have, Reason: it.Reason, Next: it.Next}
	switch it.Kind { //nolint:exhaustive // the kinds that are guarded
	case record.KindModule:
		r.Kind = "module"
	case record.KindDrift:
		r.Kind = "sysctl"
	case record.KindFlag:
		r.Kind = "bridge"
	case record.KindDropin:
		r.Kind = "dropin"
	}
	if it.Action != nil {
		r.Action = it.Action.Op.String()
		switch {
		case r.Next != "":
		case it.Verdict == guard.Excused && a.root != "":
			r.Next = "nothing has to be done; " + a.treeApply() + " writes it, too"
		case it.Verdict == guard.Excused:
			r.Next = "nothing has to be done; nfguard apply writes it, too"
		case a.root != "":
			r.Next = a.treeApply() + " writes it"
		default:
			r.Next = nextApply
		}
	}
	if it.Verdict == guard.Uncertain && r.Next == "" {
		r.Next = fmt.Sprintf("run it as root, on the host; uid is %d", os.Geteuid())
		if errors.Is(it.Err, unix.ENOTDIR) {
			r.Next = "a file stands where a directory has to be: move it away"
		}
	}
	return r
}
