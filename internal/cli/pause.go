package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
	"github.com/nfguard/nfguard/internal/printable"
)

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	var form format
	cmd := &cobra.Command{
		Use:   "pause DURATION --reason TEXT",
		Short: "Have the daemon correct nothing for a while, for maintenance",
		Long: `Has the daemon correct nothing, for as long as you say (1s to 24h); it still looks
and records. In mode lock, writers are let through meanwhile. The pause ends by
itself, by nfguard resume or with a reboot, and everything is put right then. Another
pause takes the place of the first. The files for the next boot are kept all the time.

Exit codes: 0 paused, 1 refused by the daemon, 2 not running, no answer, or wrong usage.`,
		Example: `  nfguard pause 30m --reason "replacing the CNI plugin"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.pause(args[0], reason, form)
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"10m", "30m", "1h", "4h"}, cobra.ShellCompDirectiveNoFileComp),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`why`, for the record; it is needed")
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)
	outputFlag(cmd, &form)
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	var form format
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "End a pause, and have everything put right",
		Long: `Ends the pause that is in force, and has the daemon put right what was changed
meanwhile. Where there is no pause it says so, and changes nothing.

Exit codes: 0 there is no pause now, 2 no answer.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.resume(form) },
	}
	outputFlag(cmd, &form)
	return cmd
}

// pauseResult is the result of pause and resume.
type pauseResult struct {
	Schema  int           `json:"schema"` // 1
	Changed bool          `json:"changed"`
	Paused  bool          `json:"paused"`
	Pause   *daemon.Pause `json:"pause,omitempty"` // that is in force; of resume: that was
	Refused string        `json:"refused,omitempty"`
}

func (a *app) pause(length, reason string, form format) error {
	d, err := time.ParseDuration(length)
	if err == nil {
		err = pause.CheckLength(d)
	}
	if err != nil {
		return &hintError{fmt.Errorf("a pause of %q: %w", length, err), "write 30m, 1h30m or 90s; at most " + words.Brief(pause.Longest)}
	}
	if err := pause.CheckReason(reason); err != nil {
		return &hintError{fmt.Errorf("the pause: %w", err), "say why in a few words, for the record: --reason TEXT"}
	}
	dir, s, err := a.daemonToAsk()
	if err != nil {
		return err
	}
	if guard.Mode(s.Mode) == guard.Observe {
		return a.tellPause(form, &pauseResult{Refused: "in mode observe nothing is corrected anyway"})
	}
	r, err := request(pause.Pause)
	if err != nil {
		return err
	}
	r.For, r.Reason = d.Microseconds(), reason
	if last := pause.Read(dir).Request; last != nil && s.Pause != nil && s.Pause.ID == last.ID() {
		if r.Since = last.Since; r.Since == 0 {
			r.Since = last.Asked
		}
	}
	if s, err = a.askDaemon(dir, r, func(s *daemon.Status) bool { return s.Pause != nil && s.Pause.ID == r.ID() }); err != nil {
		return err
	}
	result := &pauseResult{Changed: true, Pause: s.Pause}
	if s.Refused != nil && s.Refused.ID == r.ID() {
		_ = pause.Withdraw(dir, r) // it must not come into force later
		result = &pauseResult{Refused: s.Refused.Why}
	}
	return a.tellPause(form, result)
}

// tellPause prints what has become of the request for a pause.
func (a *app) tellPause(form format, r *pauseResult) error {
	r.Schema, r.Paused = 1, r.Pause != nil
	if !r.Paused {
		a.code = exitNo
	}
	switch {
	case form == jsonForm:
		return writeJSON(a.Out, r)
	case !r.Paused:
		_, err := fmt.Fprintln(a.Out, printable.Text("not paused: "+r.Refused))
		return err
	}
	_, err := fmt.Fprintf(a.Out, "paused until %s: nothing is corrected until then; nfguard resume ends it\n", r.Pause.Until.Local().Format(time.DateTime))
	return err
}

func (a *app) resume(form format) error {
	dir, s, err := a.daemonToAsk()
	if err != nil {
		if errors.Is(err, errNoDaemon) { // what was asked for must not outlive it
			if err := pause.Remove(dir); err != nil {
				return err
			}
			return a.tellResume(form, &pauseResult{})
		}
		return err
	}
	if s.Pause == nil {
		if err := pause.Remove(dir); err != nil { // what was refused, or is over
			return err
		}
		return a.tellResume(form, &pauseResult{})
	}
	was := s.Pause
	r, err := request(pause.Resume)
	if err != nil {
		return err
	}
	if _, err = a.askDaemon(dir, r, func(s *daemon.Status) bool { return s.Pause == nil }); err != nil {
		return err
	}
	_ = pause.Withdraw(dir, r)
	return a.tellResume(form, &pauseResult{Changed: true, Pause: was})
}

func (a *app) tellResume(form format, r *pauseResult) error {
	r.Schema = 1
	if form == jsonForm {
		return writeJSON(a.Out, r)
	}
	text := "nfguard is not paused"
	if r.Changed {
		text = fmt.Sprintf("the pause has ended after %s; nfguard puts everything right now: see nfguard status",
			words.Short(max(time.Since(r.Pause.Since), 0).Round(time.Second))) // it began at a whole second, rounded
	}
	_, err := fmt.Fprintln(a.Out, text)
	return err
}

// daemonToAsk returns the runtime directory, and what the daemon that runs has
// published.
func (a *app) daemonToAsk() (dir string, s *daemon.Status, err error) {
	if a.root != "" {
		return "", nil, &hintError{errors.New("no daemon runs in a tree"), "leave out --root"}
	}
	if uid := os.Geteuid(); uid != 0 {
		return "", nil, &hintError{fmt.Errorf("only root can pause nfguard, and this is uid %d", uid), "run it with sudo"}
	}
	dir = run.Dir()
	if err := run.CheckDir(dir); errors.Is(err, fs.ErrNotExist) {
		return dir, nil, errNotRunning()
	} else if err != nil {
		return dir, nil, err
	}
	v, _, err := readPublished(dir)
	return dir, &v.Status, err
}

// request returns a request of this process.
func request(verb string) (*pause.Request, error) {
	self, err := instance.Self()
	if err != nil {
		return nil, err
	}
	return &pause.Request{
		Schema: 1, Verb: verb, Boot: self.Boot, Asked: monotonic.Boot() / 1000, Process: self, By: run.Asker(),
	}, nil
}

// How long the daemon is waited for: it answers within milliseconds.
const (
	answers  = 10 * time.Second
	askAgain = 20 * time.Millisecond
)

// askDaemon has the daemon find r, and waits until it has done that, or refused it.
func (a *app) askDaemon(dir string, r *pause.Request, done func(*daemon.Status) bool) (*daemon.Status, error) {
	a.acts()
	if err := pause.Write(dir, r); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(answers); ; {
		v, _, err := readPublished(dir)
		if err != nil {
			return nil, errors.Join(err, pause.Withdraw(dir, r))
		}
		if s := &v.Status; done(s) || s.Refused != nil && s.Refused.ID == r.ID() {
			return s, nil
		}
		select {
		case <-a.ctx.Done():
			return nil, errors.Join(errors.New("interrupted: what was asked for is withdrawn"), pause.Withdraw(dir, r))
		case <-time.After(askAgain):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(&hintError{
				fmt.Errorf("nfguard[%d] has not answered for %s; what was asked for is withdrawn", v.PID, words.Brief(answers)),
				"nfguard status says whether it hangs; one of an earlier version has to be restarted: systemctl restart nfguard",
			}, pause.Withdraw(dir, r))
		}
	}
}

// paused is the pause of the daemon on this host, as it has published it, and a finding
// about it; nil: there is none, or no daemon.
func (a *app) paused() (*daemon.Pause, []guard.Finding) {
	dir := run.Dir()
	if a.root != "" || run.CheckDir(dir) != nil {
		return nil, nil
	}
	v, silent, err := readPublished(dir)
	if err != nil || silent || v.Pause == nil || !v.Process.SameNetwork() {
		return nil, nil
	}
	p := v.Pause
	return p, []guard.Finding{{
		Subject: "nfguard", Next: "nfguard resume ends it",
		Sentence: fmt.Sprintf("nfguard is paused until %s, and corrects nothing; asked for by %s: %s",
			p.Until.Local().Format(time.DateTime), p.By.String(), p.Reason),
	}}
}
