package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/printable"
)

// style colours words on a terminal.
type style struct{ on bool }

func newStyle(w io.Writer) style {
	s, ok := w.(*output)
	return style{ok && s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s style) paint(code, word string) string {
	if !s.on {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

func (s style) good(word string) string { return s.paint("32", word) }
func (s style) bad(word string) string  { return s.paint("31;1", word) }
func (s style) warn(word string) string { return s.paint("33", word) }

// word is the verdict for a table; all words have the same width.
func (s style) word(v guard.Verdict) string {
	switch v {
	case guard.Right:
		return s.good("ok     ")
	case guard.Excused:
		return s.warn("left   ")
	case guard.Wrong:
		return s.bad("drift  ")
	case guard.Blocked:
		return s.bad("blocked")
	case guard.Uncertain:
		return s.warn("unknown")
	}
	return string(v)
}

// result is what a command found.
type result interface {
	write(io.Writer, style)
}

// show prints a result for people, or all of it as JSON.
func (a *app) show(form format, r result) error {
	if form == jsonForm {
		return writeJSON(a.Out, r)
	}
	printable.ForText(r).write(a.Out, newStyle(a.Out))
	return nil
}

// onHost names a host and its kernel.
func onHost(host, kernel string) string { return host + " (Linux " + kernel + ")" }

// writeLine prints a word and its line and, below them, further lines: the reason and
// the next step.
func writeLine(w io.Writer, word, line string, below ...string) {
	fmt.Fprintf(w, "%s  %s\n", word, strings.TrimRight(line, " "))
	for _, b := range below {
		if b != "" {
			fmt.Fprintf(w, "         %s\n", b)
		}
	}
}

// write prints the document for people: the live state, what keeps it over a reboot,
// what others do about it, the bridges, kube-proxy, and what all of that means. Below
// each line that is not right are the reason and the next step.
func (d *document) write(w io.Writer, s style) {
	if d.Elsewhere != "" {
		fmt.Fprintln(w, d.Elsewhere)
		if d.elsewhereNext != "" {
			fmt.Fprintln(w, d.elsewhereNext)
		}
		fmt.Fprintln(w)
	}
	where := onHost(d.Host, d.Kernel)
	if d.Root != "" {
		where = d.Root
	}
	fmt.Fprintf(w, "%s: %s\n", where, d.Summary)
	d.section(w, s, "LIVE", func(r row) bool { return r.Kind != "dropin" })
	d.writeLeft(w, s)
	d.writeAhead(w, s)
	d.section(w, s, "NEXT BOOT", func(r row) bool { return r.Kind == "dropin" })
	d.writeFlagsAtBoot(w, s)
	d.writeFindings(w, s, false)
	d.writeBridges(w, s)
	d.writeFindings(w, s, true)
	d.writeNeeds(w, s)
	if k := d.KubeProxy; k != nil {
		fmt.Fprintf(w, "\nKUBE-PROXY\n%s\n", describe(k))
		fmt.Fprintf(w, "%s\n", d.Meaning)
		if u := d.Unreplied; u != nil && u.Connections > 0 {
			writeLine(w, s.bad("now    "), u.sentence+": unreplied while bypassing netfilter", "nfguard impact tells which")
		}
	}
	if len(d.Abilities) > 0 {
		fmt.Fprintln(w, "\nTHIS HOST")
		for _, a := range d.Abilities {
			writeLine(w, fmt.Sprintf("%-7s", a.What), a.Sentence)
		}
	}
	if d.Probe != nil {
		fmt.Fprintln(w, "\nPROBE")
		d.Probe.write(w, s)
	}
}

// describe says in which state kube-proxy is, with its processes and rules.
func describe(k *daemon.KubeProxy) string {
	seen := guard.KubeProxy{Processes: k.Processes, Rules: k.Rules}
	text := string(k.State)
	if len(k.Processes)+len(k.Rules) > 0 {
		text += ": " + seen.Describe()
	}
	if k.Error != "" {
		text += "; could not look: " + k.Error
	}
	return text
}

func (d *document) section(w io.Writer, s style, title string, in func(row) bool) {
	have := func(r row) string {
		if r.Verdict != guard.Right && r.Want != r.Have && !r.note() {
			return r.Have + ", wanted " + r.Want
		}
		return r.Have
	}
	subjects, values := 0, 0
	for _, r := range d.Items {
		if in(r) {
			subjects, values = max(subjects, len(r.Subject)), max(values, len(have(r)))
		}
	}
	if subjects == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, r := range d.Items {
		if !in(r) {
			continue
		}
		line := fmt.Sprintf("%-*s  %-*s", subjects, r.Subject, values, have(r))
		if next := d.atNextBoot(r.Subject); next != "" {
			line += "  next boot: " + next
		}
		word := s.word(r.Verdict)
		if r.note() {
			word = s.warn("note   ")
		}
		writeLine(w, word, line, r.Reason, r.Next)
	}
}

// note reports whether a row only tells something: a drop-in is absent, and
// others do what it would do.
func (r *row) note() bool { return r.Kind == "dropin" && r.Verdict == guard.Excused }

// atNextBoot says what the state of a module or a key will be after the next boot, and
// which file sets it, by systemd's rules; or "".
func (d *document) atNextBoot(subject string) string {
	if d.NextBoot == nil {
		return ""
	}
	by := func(what string, p boot.Place) string {
		if p.File == "" {
			return what
		}
		return what + ", by " + p.String()
	}
	if m := d.NextBoot.Module; m.Name == subject {
		switch {
		case m.LoadedBy.File != "":
			return by("loaded", m.LoadedBy)
		case m.State == boot.BuiltIn:
			return "built in"
		case m.State == boot.Container:
			return "as the host has it"
		}
		return "not loaded"
	}
	for _, k := range d.NextBoot.Keys {
		if string(k.Key) != subject {
			continue
		}
		if o := k.NextBoot(); o.File != "" {
			return by(o.Effect, o.Place)
		}
		return "as the kernel has it"
	}
	return ""
}
