package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/trace"
	"github.com/nfguard/nfguard/internal/trace/kernel"
)

// traceOptions are the flags of trace.
type traceOptions struct {
	form    string
	limits  kernel.Options
	compare string
}

func (a *app) traceCommand() *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace SRC DST[:PORT][/tcp|udp]",
		Short: "Follow one connection through the netfilter hooks, and say where it goes wrong",
		Long: `Waits for packets from SRC to DST, and for the replies, and shows their way
through the hooks and rules of this host: make the request meanwhile. SRC is a
pod's address, DST that of a Service or of a pod.

No rule of others is changed. Tables of its own mark the packets while it
listens; they are gone when it ends, also when it is killed.

Exit codes: 0 the reply reached the client as from whom it had asked,
1 it did not, or there was none, 2 nothing came by or could be seen.`,
		Example: "  nfguard trace 10.200.2.31 10.32.0.102:80/tcp",
		Args:    cobra.ExactArgs(2),
		RunE:    func(_ *cobra.Command, args []string) error { return a.trace(args, &o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.form, "output", "o", "text", "`format` of the result: text, json or svg")
	f.DurationVar(&o.limits.For, "for", 10*time.Second, "how long to wait and listen")
	f.IntVar(&o.limits.Packets, "packets", 20, "stop after so many packets")
	f.StringVar(&o.compare, "compare", "", "show beside it the way in `file`, the JSON of another trace")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "svg"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) trace(args []string, o *traceOptions) error {
	if a.root != "" {
		return &hintError{errors.New("a tree has no packets to follow"), "leave out --root, and run it on the node of the pods"}
	}
	q, err := trace.ParseQuery(args[0], args[1])
	if err != nil {
		return &hintError{err, "as in: nfguard trace 10.200.2.31 10.32.0.102:80/tcp"}
	}
	if o.limits.For <= 0 || o.limits.Packets <= 0 {
		return &hintError{errors.New("a trace needs time and packets"), "as in: --for 10s --packets 20"}
	}
	o.limits.Ready = func() {
		fmt.Fprintf(a.Err, "following %s for %v: make the request now\n", q, o.limits.For)
	}
	r, err := kernel.Follow(a.ctx, q, o.limits)
	if errors.Is(err, unix.EPERM) {
		return &hintError{err, "run it as root, on the host"}
	}
	if err != nil {
		return err
	}
	w := trace.New(r)
	switch w.Verdict {
	case trace.Answered:
		a.code = exitYes
	case trace.Untranslated, trace.Dropped, trace.Unanswered:
		a.code = exitNo
	case trace.Unseen:
		a.code = exitTrouble
	}
	return a.showWay(w, o)
}

func (a *app) showWay(w *trace.Way, o *traceOptions) error {
	switch o.form {
	case "json":
		return writeJSON(a.Out, w)
	default:
		w.Text(a.Out, newStyle(a.Out).ofWay)
	}
	return nil
}

// ofWay is the [trace.Paint] of a style.
func (s style) ofWay(kind, word string) string {
	switch kind {
	case "good":
		return s.good(word)
	case "bad":
		return s.bad(word)
	}
	return s.paint("2", word)
}
