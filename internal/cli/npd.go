package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/printable"
)

// maxCondition is the longest message that node-problem-detector accepts, in bytes; it
// cuts longer ones (custom-plugin-monitor, max_output_length).
const maxCondition = 80

// condition prints one line for a custom plugin of node-problem-detector, and has the
// exit code that it expects: 0 OK, 1 not OK, 2 unknown. Only the live state counts: a
// problem of the next boot is no reason to take a node out of service.
func (a *app) condition() error {
	if a.root != "" {
		return &hintError{errors.New("a tree is not a node"), "use nfguard check --root " + a.root}
	}
	s, c, err := a.settings()
	if err == nil {
		err = a.onTheHost(&c)
	}
	if err != nil {
		a.say("nfguard: " + err.Error())
		return err
	}
	m := run.NewMachine(a.ctx)
	defer m.Close()
	r := keep.Audit(a.ctx, m, &s.Policy)
	live := keep.Report{Items: r.Items[:0:0]}
	for _, it := range r.Items {
		if it.Kind != record.KindDropin {
			live.Items = append(live.Items, it)
		}
	}
	a.code = exitCode(&live)
	a.say(conditionOf(&live))
	return nil
}

// conditionOf is the live state in one line, with what is wrong first.
func conditionOf(live *keep.Report) string {
	var wrong, unknown []string
	for _, it := range live.Items {
		switch it.Verdict {
		case guard.Wrong, guard.Blocked:
			wrong = append(wrong, fmt.Sprintf("%s is %s, wanted %s", strings.TrimPrefix(it.Subject, "net.bridge."), it.Have, it.Want))
		case guard.Uncertain:
			unknown = append(unknown, "could not read "+it.Subject)
		case guard.Right, guard.Excused:
		}
	}
	switch list := append(wrong, unknown...); len(list) {
	case 0:
		return keep.Readiness(live.Items)
	case 1:
		return list[0]
	default:
		return fmt.Sprintf("%s; %d more", list[0], len(list)-1)
	}
}

// say prints s as one line that fits. The API server accepts only UTF-8 in a condition.
func (a *app) say(s string) {
	s, _, _ = strings.Cut(s, "\n")
	if s = printable.Text(s); len(s) > maxCondition {
		s = strings.ToValidUTF8(s[:maxCondition-3], "") + "..."
	}
	fmt.Fprintln(a.Out, s)
}
