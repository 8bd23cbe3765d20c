// Package cli has the commands: their flags, their output, their exit codes. Package
// run puts together what they have in common with the daemon. This package decides
// nothing about the host.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/printable"
)

// The exit codes, as for diff(1).
const (
	exitYes     = 0 // as wanted
	exitNo      = 1 // not as wanted
	exitTrouble = 2 // could not tell; also wrong usage
)

// Streams are where a command writes: the result to Out, errors and hints to Err.
type Streams struct {
	Out, Err io.Writer
}

// app is what the commands share.
type app struct {
	Streams
	ctx        context.Context
	reload     <-chan os.Signal
	configPath string
	root       string
	code       int
	reloads    atomic.Bool  // SIGHUP makes it read the configuration again
	patience   atomic.Int64 // a time.Duration: how long it can take to stop
}

// Stopped is the cause of a context that a signal has cancelled.
type Stopped syscall.Signal

func (s Stopped) Error() string { return "stopped by " + syscall.Signal(s).String() }

// How long a command can take to end after it was told to. A command that takes longer
// waits for something that does not answer, such as a disk, and is abandoned.
const (
	patience     = 200 * time.Millisecond // a command that only looks has nothing to clean up
	patienceActs = 2 * time.Second

	// A trace looks up what the packets met, and takes its tables away, also where all
	// that is slow.
	patienceTrace = 10 * time.Second
	patienceRun   = 5 * time.Second
)

// Main runs the command line args and returns the exit code. Cancel ctx to stop it,
// with a [Stopped] if a signal is the cause. A signal on hangup makes the daemon read
// its configuration again, and ends any other command. A command that does not end in
// time keeps running after Main has returned: the process has to exit then.
func Main(ctx context.Context, args []string, s Streams, hangup <-chan os.Signal) int {
	out := guarded(s.Out)
	s = Streams{out, guarded(s.Err)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reload := make(chan os.Signal, 1)
	a := &app{Streams: s, ctx: ctx, reload: reload}
	go func() {
		for {
			select {
			case sig := <-hangup:
				if !a.reloads.Load() {
					cancel(Stopped(syscall.SIGHUP))
					return
				}
				select {
				case reload <- sig:
				default: // a reload is waiting already
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	a.patience.Store(int64(patience))
	cmd := a.command()
	cmd.SetArgs(args)
	cmd.SetOut(s.Out)
	cmd.SetErr(s.Err)
	done := make(chan int, 1)
	go func() {
		if err := cmd.Execute(); err != nil {
			a.complain(err)
			done <- exitTrouble
			return
		}
		if out.err != nil { // the result was not written
			a.complain(out.err)
			done <- exitTrouble
			return
		}
		done <- a.code
	}()
	select {
	case code := <-done:
		return code
	case <-ctx.Done():
	}
	select {
	case code := <-done:
		return code
	case <-time.After(time.Duration(a.patience.Load())):
		return abandoned(ctx)
	}
}

// acts gives the command time to clean up when it is told to stop.
func (a *app) acts() { a.patience.Store(int64(patienceActs)) }

// abandoned is the exit code of a command that did not end when it was told to: the
// shell's code for a program that was ended by the signal.
func abandoned(ctx context.Context) int {
	sig := Stopped(syscall.SIGTERM)
	errors.As(context.Cause(ctx), &sig)
	return 128 + int(sig)
}

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nfguard",
		Short: "Keeps br_netfilter and the bridge sysctls set, and records who changes them",
		Long: `nfguard keeps the kernel module br_netfilter loaded and net.bridge.bridge-nf-call-*
at 1 on a Kubernetes worker, so that pods reach Services whose endpoint is on their
own node. It writes to the journal who changed them, and for how long.

Exit codes: 0 as wanted, 1 not as wanted, 2 could not tell (also wrong usage).`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			err := cobra.NoArgs(cmd, args)
			if err == nil {
				return nil
			}
			hint := "nfguard --help lists the commands"
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "nfguard " + like[0] + "? " + hint
			}
			return &hintError{err, hint}
		},
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE:          noEmptyName,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &hintError{err, "see " + cmd.CommandPath() + " --help"}
	})
	f := cmd.PersistentFlags()
	f.StringVar(&a.configPath, "config", "/etc/nfguard/nfguard.toml", "the configuration `file`; conf.d/*.toml next to it is read too")
	f.StringVar(&a.root, "root", "", "work on the files below `dir`, such as an image being built, and not on this host")
	cmd.AddCommand(a.runCommand(), a.checkCommand(), a.applyCommand(), a.statusCommand(), a.eventsCommand(), a.pauseCommand(), a.resumeCommand(),
		a.impactCommand(), a.probeCommand(), a.traceCommand(), a.configCommand(), a.versionCommand(), a.helperCommand())
	helped(cmd)
	group(cmd)
	hinted(cmd)
	return cmd
}

// noEmptyName refuses an empty name, as of a variable that is not set: apply --root "$TREE"
// is not meant for this host.
func noEmptyName(cmd *cobra.Command, _ []string) error {
	for _, name := range []string{"root", "config"} {
		if f := cmd.Flag(name); f != nil && f.Changed && f.Value.String() == "" {
			return &hintError{fmt.Errorf("--%s: the name is empty", name), "is it that of a variable which is not set? leave out --" + name + " for this host's"}
		}
	}
	return nil
}

// helped has help refuse what is no command.
func helped(cmd *cobra.Command) {
	cmd.InitDefaultHelpCmd()
	for _, c := range cmd.Commands() {
		if c.Name() != "help" {
			continue
		}
		c.Run = nil
		c.RunE = func(_ *cobra.Command, args []string) error {
			about, rest, err := cmd.Find(args)
			if err == nil && len(rest) == 0 {
				about.InitDefaultHelpFlag()
				return about.Help()
			}
			return &hintError{fmt.Errorf("unknown command %q for %q", strings.Join(args, " "), cmd.Name()), "nfguard --help lists the commands"}
		}
	}
}

// hinted makes each command that refuses its arguments say where they are listed.
func hinted(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var known interface{ Next() string }
			if err == nil || errors.As(err, &known) {
				return err
			}
			text := strings.Replace(err.Error(), "arg(s)", "arguments", 1) // cobra's words
			return &hintError{errors.New(text), "write " + cmd.UseLine() + "; see " + cmd.CommandPath() + " --help"}
		}
	}
	for _, c := range cmd.Commands() {
		hinted(c)
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			line := "nfguard " + build.Version()
			if r := build.Revision(); r != "" {
				line += " (" + r + ")"
			}
			_, err := fmt.Fprintln(a.Out, line)
			return err
		},
	}
}

// hintError is an error with a next step.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Next() string  { return e.hint }

// complain prints an error and the next step, one line each. It prints joined errors
// one by one.
func (a *app) complain(err error) {
	var problems config.Errors
	if errors.As(err, &problems) {
		for _, p := range problems {
			fmt.Fprintf(a.Err, "nfguard: error: %s\n", printable.Text(p.Error()))
			if p.Hint != "" {
				fmt.Fprintf(a.Err, "nfguard: hint: %s\n", printable.Text(p.Hint))
			}
		}
		return
	}
	if all := each(err); len(all) > 1 {
		for _, err := range all {
			a.complain(err)
		}
		return
	}
	fmt.Fprintf(a.Err, "nfguard: error: %s\n", printable.Text(err.Error()))
	var known interface{ Next() string }
	if errors.As(err, &known) {
		fmt.Fprintf(a.Err, "nfguard: hint: %s\n", printable.Text(known.Next()))
	}
}

// complainButLast prints all but the last of joined errors, each with its own next
// step, and returns the last.
func (a *app) complainButLast(err error) error {
	errs := each(err)
	if len(errs) == 0 {
		return nil
	}
	for _, err := range errs[:len(errs)-1] {
		a.complain(err)
	}
	return errs[len(errs)-1]
}

// each returns the parts of joined errors.
func each(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}

// format is the value of -o.
type format string

const (
	text     format = "text"
	jsonForm format = "json"
	npdForm  format = "npd"  // for check only: see npd.go
	htmlForm format = "html" // for events only
	svgForm  format = "svg"  // for trace only
)

// formatFlag is a flag for one of a few formats.
type formatFlag struct {
	into *format
	of   []string
}

func (f formatFlag) String() string { return string(*f.into) }
func (f formatFlag) Type() string   { return "format" }

func (f formatFlag) Set(s string) error {
	if !slices.Contains(f.of, s) {
		return errors.New("it can be " + f.words())
	}
	*f.into = format(s)
	return nil
}

func (f formatFlag) words() string {
	last := len(f.of) - 1
	return strings.Join(f.of[:last], ", ") + " or " + f.of[last]
}

// outputFlag adds the flag -o, which can be text, json or one of more.
func outputFlag(cmd *cobra.Command, into *format, more ...format) {
	f := formatFlag{into, []string{string(text), string(jsonForm)}}
	for _, m := range more {
		f.of = append(f.of, string(m))
	}
	*into = text
	cmd.Flags().VarP(f, "output", "o", "`format` of the result: "+f.words())
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(f.of, cobra.ShellCompDirectiveNoFileComp))
}
