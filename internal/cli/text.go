package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/boot"
	"github.com/nfguard/nfguard/internal/daemon"
	"github.com/nfguard/nfguard/internal/guard"
)

// style colours words where a person reads them on a terminal.
type style struct{ on bool }

func newStyle(w io.Writer) style {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return style{}
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return style{err == nil}
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

// word is the judgement as it stands in a table, all of one width.
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

// write prints the document for people: what is live, what carries it over a
// reboot, what others do about it, the bridges, kube-proxy, and what it all
// means. Below each line that is not right stand the reason and the next step.
func (d *document) write(w io.Writer, s style) {
	where := d.Host + " (Linux " + d.Kernel + ")"
	if d.Root != "" {
		where = d.Root
	}
	fmt.Fprintf(w, "%s: %s\n", where, d.Summary)
	d.section(w, s, "LIVE", func(r row) bool { return r.Kind != "dropin" })
	d.section(w, s, "NEXT BOOT", func(r row) bool { return r.Kind == "dropin" })
	for _, f := range d.Findings {
		word := s.warn("note   ")
		if f.Breaks {
			word = s.bad("breaks ")
		}
		fmt.Fprintf(w, "%s  %s\n         %s\n", word, f.Sentence, f.Next)
	}
	d.writeBridges(w, s)
	if k := d.KubeProxy; k != nil {
		fmt.Fprintf(w, "\nKUBE-PROXY\n%s\n", describe(k))
		fmt.Fprintf(w, "%s\n", d.Meaning)
	}
}

func (d *document) writeBridges(w io.Writer, s style) {
	if d.BridgesError == "" && len(d.Bridges) == 0 {
		return
	}
	fmt.Fprintln(w, "\nBRIDGES")
	if d.BridgesError != "" {
		fmt.Fprintf(w, "%s  %s\n", s.word(guard.Uncertain), d.BridgesError)
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "name\tstate\tports\tto iptables\tto ip6tables\tto arptables")
	for _, b := range d.Bridges {
		state := "down"
		if b.Up {
			state = "up"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", b.Name, state, ports(b.Ports),
			through(b.IPTables, b.CallIPTables), through(b.IP6Tables, b.CallIP6Tables), through(b.ARPTables, b.CallARPTables))
	}
	t.Flush()
}

// ports says what is behind the ports of a bridge: "2 pods, 1 uplink".
func ports(p guard.Ports) string {
	var parts []string
	for _, c := range []struct {
		n         int
		one, many string
	}{{p.Pods, "pod", "pods"}, {p.VMs, "VM", "VMs"}, {p.Uplinks, "uplink", "uplinks"}, {p.Others, "other", "others"}} {
		switch {
		case c.n == 1:
			parts = append(parts, "1 "+c.one)
		case c.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.many))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// describe says how far kube-proxy has come, and what there is of it.
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

// through says whether bridged packets are handed over, and by what.
func through(effective, flag bool) string {
	switch {
	case flag:
		return "yes (bridge)"
	case effective:
		return "yes (sysctl)"
	}
	return "no"
}

func (d *document) section(w io.Writer, s style, title string, in func(row) bool) {
	width := 0
	for _, r := range d.Items {
		if in(r) {
			width = max(width, len(r.Subject))
		}
	}
	if width == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, r := range d.Items {
		if !in(r) {
			continue
		}
		have := r.Have
		if r.Verdict != guard.Right && r.Want != r.Have {
			have += ", wanted " + r.Want
		}
		line := fmt.Sprintf("%s  %-*s  %s", s.word(r.Verdict), width, r.Subject, have)
		if next := d.atNextBoot(r.Subject); next != "" {
			line = fmt.Sprintf("%s  %-*s  %-9s  next boot: %s", s.word(r.Verdict), width, r.Subject, have, next)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
		for _, note := range []string{r.Reason, r.Next} {
			if note != "" {
				fmt.Fprintf(w, "         %s\n", note)
			}
		}
	}
}

// atNextBoot says what a module or a key will be at the next boot and by what,
// as systemd has it, or "".
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
		}
		return "not loaded"
	}
	for _, k := range d.NextBoot.Keys {
		if string(k.Key) != subject {
			continue
		}
		for _, o := range k.By {
			if o.Reader == boot.SystemdSysctl && o.File != "" {
				return by(o.Effect, o.Place)
			}
		}
		return "as the kernel has it"
	}
	return ""
}
