package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
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
	pcap    string // the file that gets the packets; "": none
	limits  kernel.Options
	compare string
	read    string
}

func (a *app) traceCommand() *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use:   "trace SRC DST[:PORT][/tcp|udp|icmp]",
		Short: "Follow one connection, and say why it is not answered",
		Long: `Waits for packets from SRC to DST and for the replies, and shows their path through
the hooks and rules of this host. Make the request meanwhile, or have --send make it.
SRC is a pod's address, DST that of a Service or a pod; icmp is a ping. If there is no
answer, it says why: a rule, a route, a setting, a program that does not listen, or
the kernel's own reason for a dropped packet.

No rule of others is changed. Tables of its own mark the packets while it listens, and
a BPF program hears of drops. Both are gone when it ends, even if it is killed (since
Linux 5.12).

Exit codes: 0 answered by what was asked, 1 refused, dropped or not answered,
2 nothing seen.`,
		Example: `  nfguard trace --send 10.200.2.31 10.32.0.102:80/tcp
  nfguard trace --send -o ticket.pcap 10.200.2.31 10.32.0.102:80
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
	o.form = text
	f.VarP(traceOutput{o: &o}, "output", "o", "`format` of the result: "+(traceOutput{}).words())
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{string(text), string(jsonForm), string(svgForm)}, cobra.ShellCompDirectiveDefault))
	f.BoolVar(&o.limits.Send, "send", false, "make the request itself, from the network namespace that has the address SRC")
	f.DurationVar(&o.limits.For, "for", 10*time.Second, "how long to wait and listen")
	f.IntVar(&o.limits.Packets, "packets", 20, "stop after so many packets")
	f.StringVar(&o.compare, "compare", "", "show beside it the path in `file`, the JSON of an earlier trace")
	f.StringVar(&o.read, "read", "", "show the path in `file`, the JSON of an earlier trace, and look at nothing")
	return cmd
}

func (a *app) trace(args []string, o *traceOptions) error {
	if a.root != "" {
		return &hintError{errors.New("a tree has no packets to follow"), "leave out --root, and run it on the node of the pods"}
	}
	// What will be read is read first: a trace is not repeated for a wrong name.
	var before *trace.Path
	var err error
	if o.compare != "" {
		if before, err = readWay(o.compare); err != nil {
			return err
		}
	}
	var w *trace.Path
	if o.read != "" && (o.pcap != "" || o.limits.Send) {
		return &hintError{errors.New("--read looks at nothing: it sends nothing and has no packets"), "leave out --send and -o FILE.pcap, or --read"}
	}
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
	case trace.Refused, trace.Untranslated, trace.Dropped, trace.Unanswered:
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

// traceOutput is the flag -o of trace: a format, or a file for the packets.
type traceOutput struct{ o *traceOptions }

func (f traceOutput) String() string {
	switch {
	case f.o == nil:
		return ""
	case f.o.pcap != "":
		return f.o.pcap
	}
	return string(f.o.form)
}

func (traceOutput) Type() string { return "format" }

func (traceOutput) words() string {
	return "text, json, svg, or a file for the packets, whose name ends with .pcap"
}

func (f traceOutput) Set(s string) error {
	switch {
	case s == string(text), s == string(jsonForm), s == string(svgForm):
		f.o.form = format(s)
	case strings.HasSuffix(s, ".pcap"):
		f.o.pcap = s // and the text besides, or what another -o says
	case s == "pcap":
		return errors.New("packets go to a file: -o ticket.pcap")
	default:
		return errors.New("it can be " + f.words())
	}
	return nil
}

// isPCAP reports whether a file is of packets: such a one is replaced, any other
// is left.
func isPCAP(start []byte) bool {
	for _, magic := range []string{"\x4d\x3c\xb2\xa1", "\xa1\xb2\x3c\x4d", "\xd4\xc3\xb2\xa1", "\xa1\xb2\xc3\xd4"} {
		if strings.HasPrefix(string(start), magic) {
			return true
		}
	}
	return false
}

// writePackets writes what was captured.
func (a *app) writePackets(o *traceOptions, p *kernel.Packets, w *trace.Path) error {
	if p.Truncated() {
		fmt.Fprintln(a.Err, "there were more packets than are kept: the file has the first 64 MB")
	}
	return files.ReplacePrivate(o.pcap, p.PCAP(w), isPCAP) // what was said may be a secret
}

func (a *app) follow(args []string, o *traceOptions) (*trace.Path, error) {
	a.patience.Store(int64(patienceTrace))
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
	if o.limits.Send {
		if err := kernel.CheckSend(q); err != nil {
			return nil, &hintError{err, "as in: nfguard trace --send 10.200.2.31 10.32.0.102:80/tcp"}
		}
	}
	if o.pcap != "" {
		o.limits.Capture = &kernel.Packets{}
	}
	o.limits.Ready = func() {
		if o.limits.Send {
			fmt.Fprintf(a.Err, "following %s for %v at most, and sending a request\n", q, o.limits.For)
			return
		}
		fmt.Fprintf(a.Err, "following %s for %v: make the request now\n", q, o.limits.For)
	}
	r, err := kernel.Follow(a.ctx, q, o.limits)
	if errors.Is(err, unix.EPERM) {
		return nil, &hintError{err, "run it as root, on the host"}
	}
	if err != nil {
		return nil, err
	}
	w := trace.New(r)
	if o.limits.Capture != nil {
		return w, a.writePackets(o, o.limits.Capture, w)
	}
	return w, nil
}

func readWay(file string) (*trace.Path, error) {
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

// shown is a path, or two.
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
