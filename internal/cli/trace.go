package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/diag/trace/kernel"
	"github.com/nfguard/nfguard/internal/files"
)

// traceOptions are the flags of trace.
type traceOptions struct {
	form    format
	limits  kernel.Options
	compare string
	read    string
}

func (a *app) traceCommand() *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace SRC DST[:PORT][/tcp|udp|icmp]",
		Short: "Follow one connection through the netfilter hooks, and say where it goes wrong",
		Long: `Waits for packets from SRC to DST, and for the replies, and shows their way
through the hooks and rules of this host: make the request meanwhile. SRC is a
pod's address, DST that of a Service or of a pod; icmp is a ping.

No rule of others is changed. Tables of its own mark the packets while it
listens; they are gone when it ends, also when it is killed (Linux 5.12).

Exit codes: 0 the reply reached the client as from whom it had asked,
1 it did not, or there was none, 2 nothing came by or could be seen.`,
		Example: `  nfguard trace 10.200.2.31 10.32.0.102:80/tcp
  nfguard trace -o json 10.200.2.31 10.32.0.102:80 > before.json
  nfguard trace --compare before.json 10.200.2.31 10.32.0.102:80
  nfguard trace --read before.json -o svg > before.svg`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.read != "" {
				return cobra.ExactArgs(0)(cmd, args)
			}
			return cobra.ExactArgs(2)(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.trace(args, &o) },
	}
	f := cmd.Flags()
	outputFlag(cmd, &o.form, svgForm)
	f.DurationVar(&o.limits.For, "for", 10*time.Second, "how long to wait and listen")
	f.IntVar(&o.limits.Packets, "packets", 20, "stop after so many packets")
	f.StringVar(&o.compare, "compare", "", "show beside it the way in `file`, the JSON of an earlier trace")
	f.StringVar(&o.read, "read", "", "show the way in `file`, the JSON of an earlier trace, and look at nothing")
	return cmd
}

func (a *app) trace(args []string, o *traceOptions) error {
	if a.root != "" {
		return &hintError{errors.New("a tree has no packets to follow"), "leave out --root, and run it on the node of the pods"}
	}
	// What will be read is read first: a trace is not repeated for a wrong name.
	var before *trace.Way
	var err error
	if o.compare != "" {
		if before, err = readWay(o.compare); err != nil {
			return err
		}
	}
	var w *trace.Way
	if o.read != "" {
		w, err = readWay(o.read)
	} else {
		w, err = a.follow(args, o)
	}
	if err != nil {
		return err
	}
	switch w.Verdict {
	case trace.Answered:
		a.code = exitYes
	case trace.Untranslated, trace.Dropped, trace.Unanswered:
		a.code = exitNo
	case trace.Unseen:
		a.code = exitTrouble
	}
	if before != nil {
		c := trace.Compare(before, w)
		return a.showWay(o.form, c)
	}
	return a.showWay(o.form, w)
}

func (a *app) follow(args []string, o *traceOptions) (*trace.Way, error) {
	a.acts()
	q, err := trace.ParseQuery(args[0], args[1])
	if err != nil {
		return nil, &hintError{err, "as in: nfguard trace 10.200.2.31 10.32.0.102:80/tcp"}
	}
	if o.limits.For <= 0 || o.limits.Packets <= 0 {
		return nil, &hintError{errors.New("a trace needs time and packets"), "as in: --for 10s --packets 20"}
	}
	if o.limits.Packets > kernel.MostPackets {
		return nil, &hintError{fmt.Errorf("a trace follows %d packets at the most", kernel.MostPackets), "as in: --packets 100"}
	}
	o.limits.Ready = func() {
		fmt.Fprintf(a.Err, "following %s for %v: make the request now\n", q, o.limits.For)
	}
	r, err := kernel.Follow(a.ctx, q, o.limits)
	if errors.Is(err, unix.EPERM) {
		return nil, &hintError{err, "run it as root, on the host"}
	}
	if err != nil {
		return nil, err
	}
	return trace.New(r), nil
}

func readWay(file string) (*trace.Way, error) {
	text, err := files.Read(file, trace.MaxText)
	if err != nil {
		return nil, err
	}
	w, err := trace.Read(text)
	if err != nil {
		return nil, &hintError{fmt.Errorf("%s: %w", file, err), "it has to be what nfguard trace -o json wrote"}
	}
	return w, nil
}

// shown is a way, or two.
type shown interface {
	Text(out io.Writer, paint trace.Paint)
	SVG(out io.Writer) error
}

func (a *app) showWay(form format, s shown) error {
	switch form { //nolint:exhaustive // the others are not among its flag's
	case svgForm:
		return s.SVG(a.Out)
	case jsonForm:
		return writeJSON(a.Out, s)
	}
	s.Text(a.Out, newStyle(a.Out).ofWay)
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
