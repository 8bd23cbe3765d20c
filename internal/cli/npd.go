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

// maxCondition is how long a message node-problem-detector takes, in bytes; of
// a longer one it drops the rest (custom-plugin-monitor, max_output_length).
const maxCondition = 80

// condition prints one line for a custom plugin of node-problem-detector and
// exits as it wants to hear: 0 OK, 1 not, 2 unknown. Only what is live counts:
// a node is not taken out of service for what its next boot will be.
func (a *app) condition() error {
	if a.root != "" {
		return &hintError{errors.New("a tree is no node"), "use nfguard check --root " + a.root}
	}
	s, _, err := a.settings()
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

// conditionOf is the live state in a line: what is wrong first.
func conditionOf(live *keep.Report) string {
	var wrong, unknown []string
	for _, it := range live.Items {
		switch it.Verdict {
		case guard.Wrong, guard.Blocked:
			wrong = append(wrong, fmt.Sprintf("%s is %s, wanted %s", strings.TrimPrefix(it.Subject, "net.bridge."), it.Have, it.Want))
		case guard.Uncertain:
			unknown = append(unknown, "could not look at "+it.Subject)
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

// say prints s as the one line that fits. The API server takes no condition that
// is no UTF-8.
func (a *app) say(s string) {
	s, _, _ = strings.Cut(s, "\n")
	if s = printable.Text(s); len(s) > maxCondition {
		s = strings.ToValidUTF8(s[:maxCondition-3], "") + "..."
	}
	fmt.Fprintln(a.Out, s)
}
