package trace

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/nfguard/nfguard/internal/printable"
)

// SVG writes the path as one picture that needs nothing else: the hooks of each
// layer as boxes, the request above and the reply below. It is light or dark as
// its reader likes.
func (w *Path) SVG(out io.Writer) error { return draw(out, w) }

// The measures of the picture, in pixels. All text is of one width, so that
// what fits can be reckoned.
const (
	char     = 7.3 // of a font of 12px that is 0.6em wide, and a little
	line     = 17.0
	margin   = 24.0
	gap      = 28.0 // between boxes: for the line that leads from one to the next
	padding  = 10.0
	laneName = 26.0
	atLeast  = 900.0 // of width

	// It is scaled to a narrower window down to here: the font is 9px then.
	smallest = 0.75
)

const styleSheet = `
svg { --ink: #1f2933; --soft: #66727f; --paper: #ffffff; --lane: #f3f5f7; --box: #ffffff; --edge: #b6c0ca; --way: #2563a8; --change: #9a5b00; --bad: #c02626; --good: #1d7a3e;
  font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; background: var(--paper); }
@media (prefers-color-scheme: dark) { svg { --ink: #e3e8ed; --soft: #98a4b0; --paper: #14181d; --lane: #1c2229; --box: #252d36; --edge: #465361; --way: #6fb1f2; --change: #eab34f; --bad: #ff7b72; --good: #62c97f; } }
text { fill: var(--ink); white-space: pre; }
.paper { fill: var(--paper); } .lane { fill: var(--lane); } .box { fill: var(--box); stroke: var(--edge); } .node { fill: var(--box); stroke: var(--way); stroke-width: 1.5; }
.changed { stroke: var(--change); stroke-width: 1.5; } .broken { stroke: var(--bad); stroke-width: 1.5; } .missing { fill: none; stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
.way { fill: none; stroke: var(--way); stroke-width: 2; } .head { fill: var(--way); } .lost { fill: none; stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; }
.title { font-size: 16px; font-weight: 600; } .name { font-weight: 600; } .soft { fill: var(--soft); } .change { fill: var(--change); } .bad { fill: var(--bad); } .good { fill: var(--good); }
`

// draw puts paths below each other.
func draw(out io.Writer, paths ...*Path) error {
	width := atLeast
	for _, w := range paths {
		width = max(width, w.width())
	}
	p := &picture{width: width}
	var titles, descriptions []string
	for i, w := range paths {
		if i > 0 {
			p.y += line
		}
		p.path(w)
		titles = append(titles, w.title()+": "+w.verdict())
		descriptions = append(descriptions, w.Meaning+". "+w.inWords())
	}
	_, err := fmt.Fprintf(out, `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" width="%[1]g" height="%[2]g" viewBox="0 0 %[1]g %[2]g" style="max-width:100%%;min-width:%[3]gpx;height:auto">
<title id="title">%[4]s</title>
<desc id="desc">%[5]s</desc>
<style>%[6]s</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>
<rect class="paper" width="100%%" height="100%%"/>
%[7]s</svg>
`, round(p.width), round(p.y+margin), math.Ceil(smallest*p.width), escape(strings.Join(titles, "; ")), escape(strings.Join(descriptions, " ")), styleSheet, p.body.String())
	return err
}

// maxPodName is how much of a pod's name has room.
const maxPodName = 20

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(printable.Text(s))) // a Buffer takes all
	return b.String()
}

// inWords is the path of the first packets for who does not see the picture.
func (w *Path) inWords() string {
	var s strings.Builder
	for _, d := range []Direction{Request, Reply} {
		p := w.pictured(d)
		if p == nil {
			continue
		}
		fmt.Fprintf(&s, "The %s passes", d)
		for i := range p.Steps {
			sep := ","
			if i == 0 {
				sep = ""
			}
			fmt.Fprintf(&s, "%s %s", sep, p.Steps[i].label())
			if c := p.Steps[i].change(); c != "" {
				fmt.Fprintf(&s, " (%s)", c)
			}
		}
		s.WriteString(". ")
		if f := w.fault(p); f != "" {
			fmt.Fprintf(&s, "There it is %s. ", strings.TrimPrefix(f, "dropped: "))
		}
	}
	return strings.TrimSpace(s.String())
}

// pictured is the packet of a direction that is drawn: the first that went
// wrong, or the first.
func (w *Path) pictured(d Direction) *Packet {
	for i := range w.Packets {
		if p := &w.Packets[i]; p.Direction == d && !w.Right(p) {
			return p
		}
	}
	return w.first(d)
}

// picture is what has been drawn down to y.
type picture struct {
	body  strings.Builder
	width float64
	y     float64
}

func (p *picture) text(x, y float64, class, s string) {
	fmt.Fprintf(&p.body, "<text x=\"%g\" y=\"%g\" class=\"%s\">%s</text>\n", round(x), round(y), class, escape(s))
}

func (p *picture) rect(class string, x, y, width, height float64) {
	fmt.Fprintf(&p.body, "<rect class=\"%s\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" rx=\"6\"/>\n", class, round(x), round(y), round(width), round(height))
}

// lead draws a line from one point to another, level at both ends.
func (p *picture) lead(class string, x1, y1, x2, y2 float64, head bool) {
	marker := ""
	if head {
		marker = ` marker-end="url(#head)"`
	}
	middle := (x1 + x2) / 2
	fmt.Fprintf(&p.body, "<path class=\"%s\" d=\"M%g %gC%g %g %g %g %g %g\"%s/>\n", class,
		round(x1), round(y1), round(middle), round(y1), round(middle), round(y2), round(x2), round(y2), marker)
}

// paragraph wraps a text.
func (p *picture) paragraph(class, s string) {
	limit := int((p.width - 2*margin) / char)
	row := ""
	flush := func() {
		p.y += line
		p.text(margin, p.y, class, row)
		row = ""
	}
	for word := range strings.FieldsSeq(s) {
		if row != "" && utf8.RuneCountInString(row)+1+utf8.RuneCountInString(word) > limit {
			flush()
		}
		row = strings.TrimPrefix(row+" "+word, " ")
	}
	if row != "" {
		flush()
	}
}

func (p *picture) path(w *Path) {
	p.y += margin + line/2
	p.text(margin, p.y, "title", w.title())
	class := "name bad"
	if w.Verdict == Answered {
		class = "name good"
	}
	p.y += 6
	p.paragraph(class, w.verdict())
	p.paragraph("", w.Meaning)
	p.paragraph("soft", w.Next)
	for _, d := range []Direction{Request, Reply} {
		packet := w.pictured(d)
		if packet == nil {
			continue
		}
		p.y += line * 2
		what := strings.ToUpper(string(d))
		p.text(margin, p.y, "name", what)
		p.text(margin+float64(len(what)+2)*char, p.y, "soft", packet.name())
		p.y += 8
		p.packet(w, packet)
		p.rules(packet)
	}
	p.y += line
	p.paragraph("soft", fmt.Sprintf("%s (Linux %s), %s. %s", w.Host, w.Kernel, w.Time.Format("2006-01-02 15:04:05 MST"), w.handingLine()))
}

// handingLine says how the bridges on the way are set.
func (w *Path) handingLine() string {
	for _, d := range w.Devices {
		if d.Kind == "bridge" {
			return d.Name + ": " + w.Handing.describe(d.Name)
		}
	}
	return ""
}

// box is one that is to be drawn: a step, or what a node has to say.
type box struct {
	class string
	lines []string // the first is its name
	marks []string // what changed there
}

func (b *box) width() float64 {
	n := 0
	for _, l := range append(append([]string{}, b.lines...), b.marks...) {
		n = max(n, utf8.RuneCountInString(l))
	}
	return float64(n)*char + 2*padding
}

func (b *box) height() float64 { return float64(len(b.lines)+len(b.marks))*line + padding }

func (p *picture) box(b *box, x, y, width, height float64) {
	p.rect(b.class, x, y, width, height)
	at := y + line
	for i, l := range b.lines {
		class := "soft"
		if i == 0 {
			class = "name"
		}
		if strings.Contains(b.class, "missing") {
			class += " bad"
		}
		p.text(x+padding, at, class, l)
		at += line
	}
	class := "change"
	if strings.Contains(b.class, "missing") || strings.Contains(b.class, "broken") {
		class = "bad"
	}
	for _, m := range b.marks {
		p.text(x+padding, at, class, m)
		at += line
	}
}

// boxes are those of a packet's steps.
func (w *Path) boxes(p *Packet) []box {
	all := make([]box, len(p.Steps))
	for i := range p.Steps {
		s := &p.Steps[i]
		b := box{class: "box", lines: []string{s.Hook}}
		if d := s.devices(); d != "" {
			b.lines = append(b.lines, d)
		}
		if s.Before.Destination != s.After.Destination {
			b.marks = append(b.marks, "to "+place(s.Before.Destination), " → "+place(s.After.Destination))
		}
		if s.Before.Source != s.After.Source {
			b.marks = append(b.marks, "from "+place(s.Before.Source), " → "+place(s.After.Source))
		}
		if len(b.marks) > 0 {
			b.class = "box changed"
		}
		if p.Dropped != "" && i == len(p.Steps)-1 {
			b.class, b.marks = "box broken", append(b.marks, "dropped")
		}
		all[i] = b
	}
	return all
}

// ends are the client's side and the other's.
func (w *Path) ends(p *Packet) (client, server box) {
	client = box{class: "node", lines: []string{"client", w.Client.String()}}
	server = box{class: "node", lines: []string{"endpoint"}}
	if p.Direction == Request {
		server.lines = append(server.lines, place(p.Last().After.Destination))
		client.lines = append(client.lines, "asks", place(p.Destination))
	} else {
		server.lines = append(server.lines, place(p.Source))
		have := place(p.Last().After.Source)
		client.lines = append(client.lines, "hears", have)
		if !w.Right(p) {
			client.class = "node broken"
			client.lines = client.lines[:2]
			client.marks = []string{"expects", place(w.asked(p).Source), "hears", have}
		}
	}
	for _, d := range w.Devices {
		who := d.Pod
		if len(who) > 13 {
			who = who[:13] + "…"
		}
		if _, name, ok := strings.Cut(d.PodName, "/"); ok {
			if who = name; len(who) > maxPodName { // its end tells it from its like
				who = "…" + who[len(who)-maxPodName:]
			}
		}
		switch {
		case who != "":
			who = "pod " + who
		case d.Process != "":
			who = d.Process
		default:
			continue
		}
		switch d.PeerAddress {
		case w.Client:
			client.lines = append(client.lines, who)
		case p.endpoint():
			server.lines = append(server.lines, who)
		}
	}
	return client, server
}
