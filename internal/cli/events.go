package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/diag/history"
	"github.com/nfguard/nfguard/internal/printable"
)

// eventsOptions are the flags of nfguard events.
type eventsOptions struct {
	since, until              string
	events, outcomes, subject []string
	journals                  []string
	form                      format
	follow, totals, verify    bool
}

func (a *app) eventsCommand() *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show from the journal what was changed, for how long and by whom",
		Long: `Reads what nfguard recorded in the journal of this host or, with --journal, of
others. A fight, in which somebody changes a key again and again, is one line. The
totals come last.

Times are given as 90m, 36h, 7d (ago), today, yesterday, 2026-11-23,
"2026-11-23 03:52", @SECONDS or RFC 3339.

With --verify it tells whether the record is complete: whether one is missing, was
changed, is there twice or is out of order, between the first and the last that
were kept of each boot.

Exit codes: 0 everything was read, even if there were no events; 1 with --verify, the
record is not complete; 2 not everything was read.`,
		Example: `  nfguard events --since 7d
  nfguard events --event drift,denied --subject '*ip6tables' -o json
  nfguard events --journal /var/log/journal/remote -o html >report.html
  nfguard events --verify
  journalctl -o export SYSLOG_IDENTIFIER=nfguard | nfguard events --journal -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.verify {
				return a.verify(cmd, &o)
			}
			return a.events(&o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "", "leave out events before this `time`")
	f.StringVar(&o.until, "until", "", "leave out events after this `time`")
	f.StringSliceVar(&o.events, "event", nil, "only this `kind`: drift, denied, contention, …; for several, use commas or repeat the flag")
	f.StringSliceVar(&o.outcomes, "outcome", nil, "only with this `outcome`: corrected, observed, failed, …")
	f.StringSliceVar(&o.subject, "subject", nil, "only about this `name`; * stands for anything")
	f.StringArrayVar(&o.journals, "journal", nil, "read this `place` and not the host's journal: a directory, a journal file, an export, or - for an export on standard input; repeat the flag for several")
	f.BoolVarP(&o.follow, "follow", "f", false, "also print new events as they are recorded, until interrupted")
	f.BoolVar(&o.totals, "totals", false, "only the totals")
	f.BoolVar(&o.verify, "verify", false, "tell whether the record is complete")
	outputFlag(cmd, &o.form, htmlForm)
	complete := func(name string, words []string) {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	complete("event", texts(history.Kinds()))
	complete("outcome", texts(history.Outcomes()))
	return cmd
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// sink is a format of the result: it takes the records, and ends with the totals. Its
// writer keeps its error.
type sink interface {
	add(r *history.Record)
	end(e *ending)
}

// ending is what is known after all records were read.
type ending struct {
	totals  history.Totals
	ignored history.Ignored
	filter  *history.Filter
	now     time.Time
	live    bool  // the journal of this host, up to now
	err     error // what could not be read; nil: everything was
}

func (a *app) events(o *eventsOptions) error {
	a.acts()
	switch {
	case a.root != "":
		return &hintError{errors.New("a tree that is being built has no history"), "use --journal " + a.root + "/var/log/journal for the journal of another system"}
	case o.follow && o.form == htmlForm:
		return &hintError{errors.New("an HTML page has to end, but --follow does not"), "use -o json, which is one object per line then"}
	case o.totals && o.form == htmlForm:
		return &hintError{errors.New("an HTML page always has everything, not only totals"), "leave out one of -o html and --totals"}
	case o.follow && o.until != "":
		return &hintError{errors.New("--follow does not end, but --until does"), "leave out one of --follow and --until"}
	case o.follow && o.totals:
		return &hintError{errors.New("--totals come at the end, but --follow does not end"), "leave out one of --follow and --totals"}
	case o.follow && len(o.journals) > 1:
		return &hintError{errors.New("only one journal can be followed"), "give one --journal, or none for that of this host"}
	}
	now := time.Now()
	filter, err := o.filter(now)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	var f *os.File
	if s, ok := a.Out.(*output); ok {
		f, _ = s.Writer.(*os.File)
	}
	if f != nil && o.follow {
		done := make(chan struct{})
		go func() {
			defer close(done)
			awaitHangup(ctx, f)
			cancel()
		}()
		defer func() { cancel(); <-done }()
	}
	sources, err := a.openJournals(ctx, o, filter)
	defer func() {
		for _, s := range sources {
			s.Close()
		}
	}()
	if err != nil {
		return err
	}
	journals := make([]history.Journal, len(sources))
	for i, s := range sources {
		journals[i] = history.Journal{Name: s.name, Reader: history.NewReader(s)}
	}
	out := bufio.NewWriterSize(a.Out, 64<<10)
	merged := history.Merge(journals...)
	err = a.tell(ctx, out, o, filter, merged, now)
	if ignored := merged.Ignored(); ignored.Count > 0 {
		fmt.Fprintln(a.Err, "nfguard: note: "+printable.Text(ignored.Sentence()))
	}
	return a.complainButLast(errors.Join(err, out.Flush()))
}

// tell reads all records until ctx ends, and writes the result; out keeps its write
// error. If something could not be read, tell writes everything else before it returns
// the error.
func (a *app) tell(ctx context.Context, out *bufio.Writer, o *eventsOptions, filter *history.Filter, merged *history.Merged, now time.Time) error {
	s := a.sink(out, o)
	tally := history.NewTally(time.Local)
	var rec history.Record
	for {
		err := merged.Next(&rec)
		if err != nil {
			err = endless(err)
			if ctx.Err() != nil {
				err = o.interrupted()
			}
			if o.follow {
				return err
			}
			s.end(&ending{tally.Totals(), merged.Ignored(), filter, now, len(o.journals) == 0, err})
			return err
		}
		if !filter.Wants(&rec) {
			continue
		}
		tally.Add(&rec)
		s.add(&rec)
		if o.follow && out.Flush() != nil {
			return nil //nolint:nilerr // out keeps the error, which is reported once
		}
	}
}

// interrupted is the error if a person ends the command: none if it would not have
// ended by itself.
func (o *eventsOptions) interrupted() error {
	if o.follow {
		return nil
	}
	return &hintError{errors.New("interrupted: not everything was read"), "ask for less: --since, --event, --subject"}
}

// endless returns err, or nil if it is just the end of the input.
func endless(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (a *app) sink(out *bufio.Writer, o *eventsOptions) sink {
	switch {
	case o.form == jsonForm && o.follow:
		return &jsonLines{out}
	case o.form == jsonForm:
		return newJSONEvents(out, o.totals)
	case o.form == htmlForm:
		return newHTMLEvents(a, out)
	}
	return newTextEvents(out, newStyle(a.Out), o)
}

func (o *eventsOptions) filter(now time.Time) (*history.Filter, error) {
	f := &history.Filter{Subjects: o.subject}
	for _, w := range []struct {
		flag, given string
		t           *time.Time
	}{{"--since", o.since, &f.Since}, {"--until", o.until, &f.Until}} {
		if w.given == "" {
			continue
		}
		var err error
		if *w.t, err = history.ParseWhen(w.given, now); err != nil {
			return nil, &hintError{fmt.Errorf("%s %q: %w", w.flag, w.given, err), `write 90m, 36h, 7d, today, yesterday, 2026-11-23 or "2026-11-23 03:52"`}
		}
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		return nil, &hintError{fmt.Errorf("--until %s is before --since %s", o.until, o.since), "swap them"}
	}
	var err error
	if f.Events, err = known("--event", o.events, history.Kinds()); err != nil {
		return nil, err
	}
	if f.Outcomes, err = known("--outcome", o.outcomes, history.Outcomes()); err != nil {
		return nil, err
	}
	if err := f.Check(); err != nil {
		return nil, &hintError{fmt.Errorf("--subject: %w", err), `in a pattern write \[ for [`}
	}
	return f, nil
}

func known[T ~string](flag string, given []string, all []T) ([]T, error) {
	var list []T
	for _, v := range given {
		if !slices.Contains(all, T(v)) {
			return nil, &hintError{fmt.Errorf("%s: there is no %q", flag, v), "it can be " + strings.Join(texts(all), ", ")}
		}
		list = append(list, T(v))
	}
	return list, nil
}
