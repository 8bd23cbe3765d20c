package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/printable"
)

func (a *app) statusCommand() *cobra.Command {
	var form format
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what the daemon has seen and done, and whether it works",
		Long: `Reads what the daemon has published, finds out whether its process runs and makes
progress, and reads the guarded sysctls itself. It asks the daemon nothing.

Exit codes: 0 healthy, 1 degraded (also if the process is stopped or hangs), 2 not
running.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.status(form, watch) },
	}
	outputFlag(cmd, &form)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again whenever it changes, until interrupted")
	return cmd
}

func (a *app) status(form format, watch bool) error {
	if a.root != "" {
		return &hintError{errors.New("no daemon runs in a tree"), "leave out --root"}
	}
	var last statusView
	for first := true; ; first = false {
		s, err := readStatus()
		if err != nil {
			return err
		}
		if first || !s.Written.Equal(last.Written) || s.Sentence != last.Sentence {
			last = s
			if form == jsonForm {
				err = writeJSON(a.Out, s)
			} else {
				writeStatus(a.Out, s)
			}
			if err != nil {
				return err
			}
		}
		a.code = exitYes
		if s.State != "healthy" {
			a.code = exitNo
		}
		if !watch {
			return nil
		}
		select {
		case <-a.ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func writeStatus(w io.Writer, s statusView) {
	st, configError := newStyle(w), s.ConfigError // can have several lines; names in it are quoted
	s = printable.ForText(s)
	state := st.good(s.State)
	if s.State != "healthy" {
		state = st.bad(s.State)
	}
	fmt.Fprintf(w, "%s: %s\n", state, s.Sentence)
	look := "no look has ended yet"
	if s.Now.LookAge != nil {
		look = fmt.Sprintf("look %d ended %s ago", s.Pass, words.Short(time.Duration(*s.Now.LookAge*float64(time.Second)).Round(time.Second)))
	}
	settings := ""
	if s.Mode != "" { // the configuration was read
		settings = fmt.Sprintf(", mode %s, scope %s", s.Mode, s.Scope)
	}
	since := ""
	if !s.Started.IsZero() { // it has said so
		since = ", since " + s.Started.Local().Format(time.DateTime)
	}
	fmt.Fprintf(w, "nfguard %s, pid %d%s%s; %s\n", s.Version, s.PID, settings, since, look)
	fmt.Fprintln(w, s.Now.line())
	fmt.Fprintf(w, "%d drifts found, %d corrections, %d failed attempts, %d foreign values kept out\n",
		s.Totals.Drifts, s.Totals.Corrected, s.Totals.Failed, s.Totals.Denied)
	if s.Rights != "" && s.Rights != daemon.RightsItself {
		fmt.Fprintf(w, "the module is loaded and the drop-ins are written by %s\n", s.Rights)
	}
	if s.ConfigError != "" {
		fmt.Fprintf(w, "%s\n%s\n", st.bad("the configuration on disk is wrong; the one before is in force:"), configError)
	}
	subjects := make([]string, 0, len(s.Complaints))
	for subject := range s.Complaints {
		subjects = append(subjects, subject)
	}
	slices.Sort(subjects)
	for _, subject := range subjects {
		fmt.Fprintf(w, "%s  %s\n", st.bad("!"), s.Complaints[subject])
	}
	if len(subjects) > 0 {
		fmt.Fprintln(w, "   nfguard check says what to do")
	}
	for _, f := range s.Findings {
		fmt.Fprintf(w, "%s  %s\n   %s\n", st.warn("note"), f.Sentence, f.Next)
	}
	fmt.Fprintf(w, "kube-proxy %s\n", describe(&s.KubeProxy))
	if s.Meaning != "" {
		fmt.Fprintln(w, s.Meaning)
	}
	fmt.Fprintln(w, "\nSOURCES OF NEWS")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, h := range s.Sources {
		state, what := "up", h.How
		if !h.Up {
			state, what = "down", h.Error
		}
		news := "no news yet"
		if !h.LastNews.IsZero() {
			news = "last news " + h.LastNews.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", h.Name, state, news, what)
	}
	t.Flush()
}
