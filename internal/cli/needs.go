package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/printable"
)

// ahead says what the policy will change on this node, before it is carried out.
func (a *app) ahead(m *host.Linux, p *guard.Policy) []guard.Finding {
	o := m.Survey(a.ctx, p, guard.LookNeeds|guard.LookKubeProxy)
	return guard.Ahead(p, &o)
}

// sayAhead prints it before anything is done.
func (a *app) sayAhead(list []guard.Finding) {
	writeAhead(a.Out, newStyle(a.Out), printable.ForText(list))
}

// writeAhead prints what it will change that packets are handed over.
func (d *document) writeAhead(w io.Writer, s style) {
	if !d.saidAhead {
		writeAhead(w, s, d.Ahead)
	}
}

func writeAhead(w io.Writer, s style, list []guard.Finding) {
	for _, f := range list {
		writeLine(w, s.warn("ahead  "), f.Sentence, f.Next)
	}
}

// needWord is the state of a need as it stands before a line.
func needWord(s style, state guard.NeedState) string {
	switch state {
	case guard.NeedMet:
		return s.good("ok     ")
	case guard.NeedMissing:
		return s.bad("missing")
	case guard.NeedUnknown:
		return s.warn("unknown")
	}
	return string(state)
}

// writeNeeds prints what Services with an endpoint on the client's own node need,
// a line each; below one that is not met, why and what to do.
func (d *document) writeNeeds(w io.Writer, s style) {
	if len(d.Needs) == 0 {
		return
	}
	fmt.Fprintln(w, "\nWHAT SERVICES WITH AN ENDPOINT ON THIS NODE NEED")
	bridge, what := 0, 0
	for i := range d.Needs {
		bridge, what = max(bridge, len(d.Needs[i].Bridge)), max(what, len(d.Needs[i].What))
	}
	for i := range d.Needs {
		n := &d.Needs[i]
		below := []string{n.Reason, n.Next}
		if n.State == guard.NeedMet {
			below = nil
		}
		writeLine(w, needWord(s, n.State), fmt.Sprintf("%-*s  %s  %-*s  %s", bridge, n.Bridge, n.Family, what, n.What, n.Have), below...)
	}
}

// offer prints, as comments of a configuration, the lines that would guard what
// Services need on this host and what is off.
func (a *app) offer(p guard.Policy) error {
	if a.root != "" {
		return nil
	}
	var lines []string
	needs := guard.NeedsOf(a.survey(&p))
	for i := range needs {
		n := &needs[i]
		guarded := slices.ContainsFunc(p.Sysctls, func(s guard.Setting) bool { return strings.HasPrefix(n.Setting, fmt.Sprintf("%q", string(s.Key))) })
		if line := "# " + n.Setting + "  # " + n.Bridge + ", " + n.Family + ": " + n.Have; n.Setting != "" && !guarded && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	for i := range lines {
		lines[i] = printable.Text(lines[i])
	}
	_, err := fmt.Fprintf(a.Out, "\n# Services need on this host what is off. To have it guarded, put this into\n# /etc/nfguard/nfguard.toml:\n# [sysctl]\n%s\n", strings.Join(lines, "\n"))
	return err
}

// printed adds to needs what iptables prints of the rules that decide on them.
func printed(needs []guard.Need) {
	type rule struct {
		guard.Rule
		family string
	}
	texts := make(map[rule]string)
	for i := range needs {
		n := &needs[i]
		if n.Rule.Number == 0 {
			continue
		}
		r := rule{n.Rule, n.Family}
		text, known := texts[r]
		if !known {
			text, _ = host.RuleText(n.Rule, n.Family == guard.IPv6.String()) // the number of the rule is told anyway
			texts[r] = text
		}
		if text != "" {
			n.Have += ": " + text
		}
	}
}
