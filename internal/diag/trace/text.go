package trace

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Paint colours a text where a person reads it on a terminal: "good", "bad" or
// "faint".
type Paint func(kind, text string) string

func plain(_, text string) string { return text }

// Text writes the path for people: what it means, who is where, and the path of
// each packet as a tree. A nil paint leaves it without colour.
func (w *Path) Text(out io.Writer, paint Paint) {
	if paint == nil {
		paint = plain
	}
	kind := "bad"
	if w.Verdict == Answered {
		kind = "good"
	}
	fmt.Fprintf(out, "%s: %s\n", w.title(), paint(kind, w.verdict()))
	fmt.Fprintf(out, "  %s\n", w.Meaning)
	if w.Cause != nil {
		for _, e := range w.Cause.Evidence {
			fmt.Fprintf(out, "  seen: %s\n", e)
		}
	}
	if w.Next != "" {
		fmt.Fprintf(out, "  %s\n", w.Next)
	}
	for _, n := range w.Notes {
		fmt.Fprintf(out, "  note: %s\n", n)
	}
	w.writeDevices(out)
	w.writeConnections(out)
	for _, g := range w.groups() {
		w.writePacket(out, paint, g)
	}
}

func (w *Path) title() string {
	return w.query().String()
}

// verdict is the verdict in a few words.
func (w *Path) verdict() string {
	switch w.Verdict {
	case Answered:
		return "answered"
	case Refused:
		return "refused"
	case Untranslated:
		return "the reply was never translated back"
	case Dropped:
		return "dropped"
	case Unanswered:
		return "no reply"
	case Unseen:
		return "nothing came by"
	}
	return string(w.Verdict)
}

func (w *Path) writeDevices(out io.Writer) {
	if len(w.Devices) == 0 {
		return
	}
	fmt.Fprintln(out)
	names := 0
	for _, d := range w.Devices {
		names = max(names, len(d.Name))
	}
	for _, d := range w.Devices {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-*s  %s", names, d.Name, w.behind(d)), " "))
	}
}

// mostConnections are told; the rest is a number.
const mostConnections = 3

func (w *Path) writeConnections(out io.Writer) {
	if len(w.Connections) > 0 {
		fmt.Fprintln(out)
	}
	for i, c := range w.Connections {
		if i == mostConnections {
			fmt.Fprintf(out, "  conntrack: and %d more\n", len(w.Connections)-i)
			return
		}
		due := "replies are due from " + place(c.Reply.Source)
		if c.Reply.Destination != c.Original.Source {
			due += " to " + place(c.Reply.Destination)
		}
		seen := "and it has seen none"
		if c.Replied {
			seen = "and it has seen one"
		}
		fmt.Fprintf(out, "  conntrack: %s %s → %s; %s, %s\n", c.Protocol, place(c.Original.Source), place(c.Original.Destination), due, seen)
	}
}

// behind says who a device leads to.
func (w *Path) behind(d Device) string {
	var parts []string
	if d.Kind == "bridge" {
		state := "hands no packets to netfilter"
		if w.Handing.on(d.Name) {
			state = "hands packets to netfilter"
		}
		return fmt.Sprintf("bridge (%s), %s: %s", d.MAC, state, w.Handing.describe(d.Name))
	}
	if d.Bridge != "" {
		parts = append(parts, "port of "+d.Bridge)
	}
	if d.PeerMAC != "" {
		parts = append(parts, d.PeerAddress.String()+" ("+d.PeerMAC+")")
	}
	if who := cmp.Or(d.PodName, d.Pod); who != "" {
		parts = append(parts, "pod "+who)
	}
	if d.Process != "" {
		parts = append(parts, d.Process)
	}
	if d.Namespace != "" && (d.Pod == "" || !strings.HasPrefix(d.Namespace, "net:[")) {
		parts = append(parts, "namespace "+d.Namespace)
	}
	return strings.Join(parts, ", ")
}

// describe says why a bridge hands packets over, or does not.
func (h *Handing) describe(bridge string) string {
	if h.Value == "" {
		return "br_netfilter is not loaded"
	}
	flag := "0"
	if h.Bridges[bridge] {
		flag = "1"
	}
	return fmt.Sprintf("%s is %s, its own flag %s is %s", h.Key, h.Value, h.Flag, flag)
}

// group is packets that went the same way.
type group struct {
	*Packet     // the first
	others  int // how many more
}

// groups puts packets together that went the same way, in the order of the
// first of each.
func (w *Path) groups() []group {
	var all []group
	at := make(map[string]int)
	for i := range w.Packets {
		p := &w.Packets[i]
		key := p.shape()
		if n, ok := at[key]; ok {
			all[n].others++
			continue
		}
		at[key] = len(all)
		all = append(all, group{Packet: p})
	}
	return all
}

// shape is the path of a packet without what tells packets of one connection
// apart. A reset is told for itself: it says what the client thinks of a reply.
func (p *Packet) shape() string {
	var s strings.Builder
	fmt.Fprintln(&s, p.Direction, p.Protocol, p.Source.Addr(), p.Destination.Addr(), strings.Contains(p.Flags, "RST"), p.Dropped)
	for _, step := range p.Steps {
		fmt.Fprintln(&s, step.label(), step.devices(), step.After.Source.Addr(), step.After.Destination.Addr())
		for _, r := range step.Rules {
			fmt.Fprintln(&s, r.Table, r.Chain, r.Handle, r.Number)
		}
	}
	return s.String()
}

// name says what a packet is: "tcp SYN", "icmp echo request".
func (p *Packet) name() string {
	return strings.TrimSpace(p.Protocol.String() + " " + p.Flags)
}

func (w *Path) writePacket(out io.Writer, paint Paint, g group) {
	p := g.Packet
	fmt.Fprintf(out, "\n%s  %s  %s → %s", strings.ToUpper(string(p.Direction)), p.name(), place(p.Source), place(p.Destination))
	switch g.others {
	case 0:
		fmt.Fprintln(out)
	case 1:
		fmt.Fprintln(out, paint("faint", "  (and 1 more packet this way)"))
	default:
		fmt.Fprintln(out, paint("faint", fmt.Sprintf("  (and %d more packets this way)", g.others)))
	}
	labels, devices := 0, 0
	for _, s := range p.Steps {
		labels, devices = max(labels, len(s.label())), max(devices, utf8.RuneCountInString(s.devices()))
	}
	end := w.fault(p)
	for i := range p.Steps {
		s := &p.Steps[i]
		branch, stem := "├─", "│ "
		if i == len(p.Steps)-1 && end == "" {
			branch, stem = "└─", "  "
		}
		line := fmt.Sprintf("%s %-*s  %s%s", branch, labels, s.label(), s.devices(), strings.Repeat(" ", devices-utf8.RuneCountInString(s.devices())))
		if change := s.change(); change != "" {
			line += "  " + paint("good", change)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
		writeRules(out, stem, s.Rules)
	}
	if end != "" {
		fmt.Fprintf(out, "└✗ %s\n", paint("bad", end))
	}
}

// fault says what is wrong with how a packet ended, or "".
func (w *Path) fault(p *Packet) string {
	switch {
	case p.Dropped != "":
		return "dropped: " + p.Dropped
	case w.Right(p):
		return ""
	case w.bridged(p) != "":
		return fmt.Sprintf("never in netfilter, never translated: it arrives as from %s, the client expects %s", place(p.Last().After.Source), place(w.asked(p).Source))
	}
	return fmt.Sprintf("never translated: it arrives as from %s, the client expects %s", place(p.Last().After.Source), place(w.asked(p).Source))
}

func (s *Step) label() string { return string(s.Layer) + " " + s.Hook }

func (s *Step) devices() string {
	switch {
	case s.In != "" && s.Out != "":
		return s.In + " → " + s.Out
	case s.In != "":
		return "from " + s.In
	case s.Out != "":
		return "to " + s.Out
	}
	return ""
}

// change says which address the hook changed, or "".
func (s *Step) change() string {
	var parts []string
	if s.Before.Destination != s.After.Destination {
		parts = append(parts, fmt.Sprintf("destination %s is now %s", place(s.Before.Destination), place(s.After.Destination)))
	}
	if s.Before.Source != s.After.Source {
		parts = append(parts, fmt.Sprintf("source %s is now %s", place(s.Before.Source), place(s.After.Source)))
	}
	return strings.Join(parts, ", ")
}

func writeRules(out io.Writer, stem string, rules []Match) {
	chains, actions := 0, 0
	for _, m := range rules {
		chains, actions = max(chains, len(m.Table+" "+m.Chain)), max(actions, len(m.does()))
	}
	for _, m := range rules {
		comment := ""
		if m.Comment != "" {
			comment = `"` + m.Comment + `"`
		}
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%s   %-*s  %-*s  %s", stem, chains, m.Table+" "+m.Chain, actions, m.does(), comment), " "))
	}
}

// does says what a rule did with the packet.
func (m *Match) does() string {
	switch {
	case m.Action == "" && m.Handle != 0:
		return fmt.Sprintf("%s (handle %d)", m.Verdict, m.Handle)
	case m.Action == "" && m.Number != 0:
		return fmt.Sprintf("%s (rule %d)", m.Verdict, m.Number)
	case m.Action == "" || strings.HasPrefix(m.Action, "look up @"):
		return strings.TrimPrefix(m.Action+": ", ": ") + m.Verdict // what the map had for it
	case strings.HasPrefix(m.Verdict, "drop") && m.Action != "drop":
		return m.Action + ": drop"
	}
	return m.Action
}
