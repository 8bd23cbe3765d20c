// Package report turns a history into one HTML page that can be attached to a ticket.
// The page needs no network and no script. It works on a phone, on a desktop, on
// paper and with a screen reader.
package report

import (
	"bufio"
	"cmp"
	_ "embed"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/diag/history"
	"github.com/nfguard/nfguard/internal/printable"
)

//go:embed style.css
var style string

// maxRows limits the table; the totals and the picture include everything.
const maxRows = 1000

// Page collects what goes on the page. Its size does not grow with the history.
type Page struct {
	zone  *time.Location
	fold  *history.Folder
	rows  []history.Line // a ring, once it is full
	lines int
	line  *timeline
}

// Facts are what the page says in addition to the records.
type Facts struct {
	Made     time.Time
	Version  string // of the nfguard that makes the page
	Sentence string // the summary
	Observed string // what mode enforce would have done; "" is nothing
	Asked    string // what the user asked for; "" is everything
	Notes    []string
	Totals   history.Totals

	// The kernel and the current configuration of this host, if the history is its
	// own; otherwise "".
	Kernel string
	Config string
}

// New returns an empty page that shows times in zone.
func New(zone *time.Location) *Page {
	p := &Page{zone: zone, line: newTimeline()}
	p.fold = history.NewFolder(p.row)
	return p
}

// Add takes the next record. Records must be in order of time.
func (p *Page) Add(r *history.Record) {
	p.line.add(r)
	p.fold.Add(r)
}

func (p *Page) row(l *history.Line) {
	if len(p.rows) < maxRows {
		p.rows = append(p.rows, *l)
	} else {
		p.rows[p.lines%maxRows] = *l
	}
	p.lines++
}

// Write ends the collection and writes the page. Its error is w's.
func (p *Page) Write(w *bufio.Writer, f *Facts) {
	p.fold.Close()
	d := &doc{w: w, zone: p.zone}
	d.head(f)
	d.summary(f)
	if f.Totals.Changes > 0 || p.line.guarded() {
		d.picture(p.line, &f.Totals)
	}
	d.totals(&f.Totals)
	d.table(p, len(f.Totals.Hosts) > 1)
	d.hosts(f)
	d.configuration(f)
	d.put("</main>\n<footer><p>Made by nfguard %s on %s from the journal. Times are %s.</p></footer>\n</body>\n</html>\n",
		f.Version, d.moment(f.Made), d.zones(f))
}

// doc writes HTML.
type doc struct {
	w    *bufio.Writer
	zone *time.Location
}

// markup is text that is HTML already.
type markup string

// put writes markup. Every argument that is not markup itself is made printable and
// escaped, since it can be the name of a process, which the process chooses.
func (d *doc) put(format string, args ...any) {
	fmt.Fprint(d.w, string(d.sprint(format, args...)))
}

func (d *doc) sprint(format string, args ...any) markup {
	for i, arg := range args {
		switch v := arg.(type) {
		case markup:
			args[i] = string(v)
		case int, float64:
		default:
			args[i] = html.EscapeString(printable.Name(fmt.Sprint(v)))
		}
	}
	return markup(fmt.Sprintf(format, args...))
}

func (d *doc) moment(t time.Time) markup {
	return d.sprint(`<time datetime="%s">%s</time>`, t.UTC().Format(time.RFC3339), t.In(d.zone).Format(time.DateTime))
}

// zones names the time zones of all times on the page: with summer time there can be
// two.
func (d *doc) zones(f *Facts) string {
	var names []string
	t := f.Made
	if f.Totals.Records > 0 {
		t = earliest(f.Totals.From, f.Made)
	}
	for {
		t = t.In(d.zone)
		if name := t.Format("MST (UTC-07:00)"); !slices.Contains(names, name) {
			names = append(names, name)
		}
		_, end := t.ZoneBounds()
		if end.IsZero() || end.After(f.Made) {
			return strings.Join(names, " or ")
		}
		t = end
	}
}

func (d *doc) head(f *Facts) {
	title := "nfguard: what was changed"
	if hosts := f.Totals.Hosts; len(hosts) == 1 {
		title += " on " + hosts[0].Name
	} else if len(hosts) > 1 {
		title += fmt.Sprintf(" on %d hosts", len(hosts))
	}
	d.put(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>%s</title>
<style>
%s</style>
</head>
<body>
<header>
<h1>%s</h1>
`, title, markup(style), title)
	if t := &f.Totals; t.Records > 0 {
		d.put("<p>%s to %s</p>\n", d.moment(t.From), d.moment(t.To))
	}
	if f.Asked != "" {
		d.put("<p>Asked for: %s</p>\n", f.Asked)
	}
	d.put("</header>\n<main>\n")
}

func (d *doc) summary(f *Facts) {
	d.put("<section aria-labelledby=\"summary\">\n<h2 id=\"summary\">Summary</h2>\n<p class=\"lead\">%s</p>\n", f.Sentence)
	if f.Observed != "" {
		d.put("<p class=\"lead\">%s</p>\n", f.Observed)
	}
	for _, n := range f.Notes {
		d.put("<p class=\"note\">%s</p>\n", n)
	}
	d.put("</section>\n")
}

func (d *doc) hosts(f *Facts) {
	if len(f.Totals.Hosts) == 0 {
		return
	}
	d.put("<section aria-labelledby=\"hosts\">\n<h2 id=\"hosts\">Hosts</h2>\n")
	for i := range f.Totals.Hosts {
		h := &f.Totals.Hosts[i]
		d.put("<h3>%s</h3>\n<dl>\n<dt>Machine id</dt><dd>%s</dd>\n", h.Name, cmp.Or(h.Machine, "–"))
		if f.Kernel != "" {
			d.put("<dt>Kernel now</dt><dd>%s</dd>\n", f.Kernel)
		}
		d.put("<dt>On record</dt><dd>%s to %s: %s, %s, in %s</dd>\n",
			d.moment(h.From), d.moment(h.To), words.Count(h.Records, "event"), words.Count(h.Changes, "change"), words.Count(h.Boots, "boot"))
		if h.Start != "" {
			d.put("<dt>Last start</dt><dd>%s</dd>\n", h.Start)
		}
		last := "running"
		if !h.On {
			last = "not guarded"
		}
		d.put("<dt>At its last event</dt><dd>%s</dd>\n</dl>\n", last)
	}
	d.put("</section>\n")
}

func (d *doc) configuration(f *Facts) {
	d.put("<section aria-labelledby=\"configuration\">\n<h2 id=\"configuration\">Configuration</h2>\n")
	if f.Config == "" {
		d.put("<p>Not known: it is not in the journal. On each host: <code>nfguard config show</code></p>\n</section>\n")
		return
	}
	d.put("<p>From the files of this host, when the page was made.</p>\n<pre role=\"region\" aria-label=\"Configuration of this host\" tabindex=\"0\">")
	for line := range lines(f.Config) {
		d.put("%s\n", line)
	}
	d.put("</pre>\n</section>\n")
}
