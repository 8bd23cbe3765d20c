package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/diag/history"
)

func (d *doc) totals(t *history.Totals) {
	if t.Changes == 0 {
		return
	}
	d.put("<section aria-labelledby=\"totals\">\n<h2 id=\"totals\">Totals</h2>\n")
	d.sums("by subject", "Subject", t.Keys, &t.Sum)
	d.sums("by culprit", "Culprit", t.Culprits, &t.Sum)
	if len(t.Pods) > 0 {
		d.sums("by pod", "Pod", t.Pods, &t.Sum)
	}
	d.sums("by day", "Day", t.Days, &t.Sum)
	d.put("</section>\n")
}

// maxSums is how many lines a table of totals has.
const maxSums = 100

func (d *doc) sums(caption, first string, sums []history.Sum, all *history.Sum) {
	left := max(len(sums)-maxSums, 0)
	if first == "Day" {
		sums = sums[left:] // keeps the last ones
	} else {
		sums = sums[:len(sums)-left]
	}
	columns := history.Columns(all)
	d.put("<div class=\"scroll\" role=\"region\" aria-label=\"Changes %s\" tabindex=\"0\">\n<table class=\"sums\">\n<caption>Changes %s</caption>\n<thead><tr><th scope=\"col\">%s</th><th scope=\"col\">Changes</th>",
		caption, caption, first)
	for _, c := range columns {
		d.put("<th scope=\"col\">%s</th>", c.Title)
	}
	d.put("<th scope=\"col\">Longest</th></tr></thead>\n<tbody>\n")
	for i := range sums {
		s := &sums[i]
		d.put("<tr><th scope=\"row\">%s</th><td>%d</td>", s.Name, s.Changes)
		for _, c := range columns {
			d.put("<td>%d</td>", c.Of(s))
		}
		d.put("<td>%s</td></tr>\n", stood(s.Longest))
	}
	d.put("</tbody>\n</table>\n</div>\n")
	if left > 0 {
		d.put("<p>%d more are left out.</p>\n", left)
	}
}

func stood(d time.Duration) string {
	if d < 0 {
		return "–"
	}
	return words.Short(d)
}

func (d *doc) table(p *Page, hosts bool) {
	if p.lines == 0 {
		return
	}
	d.put("<section aria-labelledby=\"events\">\n<h2 id=\"events\">Events</h2>\n")
	if left := p.lines - len(p.rows); left > 0 {
		d.put("<p class=\"note\">The last %d lines; %d before them are left out here, and counted above.</p>\n", len(p.rows), left)
	}
	d.put("<table class=\"events\" role=\"table\">\n<caption>Each event, and each fight as one line</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">")
	columns := []string{"When", "Event", "What", "From → to", "Lasted", "Source", "Who"}
	if hosts {
		columns = append([]string{"When", "Host"}, columns[1:]...)
	}
	for _, c := range columns {
		d.put("<th scope=\"col\" role=\"columnheader\">%s</th>", c)
	}
	d.put("</tr></thead>\n<tbody role=\"rowgroup\">\n")
	// Records of several hosts can have come host by host.
	slices.SortStableFunc(p.rows, func(a, b history.Line) int { return a.Record.Time.Compare(b.Record.Time) })
	for i := range p.rows {
		d.line(&p.rows[i], hosts)
	}
	d.put("</tbody>\n</table>\n</section>\n")
}

func (d *doc) line(l *history.Line, hosts bool) {
	r := &l.Record
	class, event := class(r), d.sprint("%s <b>%s</b>", r.Event, r.Outcome)
	if l.Fight != nil {
		event = d.sprint("fight <b>%s</b>", l.Fight.State)
	}
	d.put("<tr role=\"row\" class=\"%s\"><td role=\"cell\">%s</td>", class.name(), d.moment(r.Time))
	if hosts {
		d.put("<td role=\"cell\" class=\"host\">%s</td>", r.Host)
	}
	d.put("<td role=\"cell\">%s</td>", event)
	rest := 5
	switch {
	case l.Fight != nil:
		f := l.Fight
		d.put("<td role=\"cell\" class=\"subject\">%s%s</td><td role=\"cell\" colspan=\"3\">%s in %s</td><td role=\"cell\">%s</td>",
			f.Subject, d.notes(r, ""), words.Count(f.Changes, "time"), words.Short(f.Ended.Sub(f.Began)), cmp.Or(f.Who, "–"))
	case r.Changes() == 0 || r.Event == record.KindContention:
		d.put("<td role=\"cell\" colspan=\"%d\">%s%s</td>", rest, r.Message, d.notes(r, r.Message))
	default:
		d.put("<td role=\"cell\" class=\"subject\">%s%s</td><td role=\"cell\">%s</td><td role=\"cell\" class=\"n\">%s</td><td role=\"cell\">%s</td><td role=\"cell\">%s</td>",
			r.Subject, d.notes(r, ""), r.Change(), stood(r.Duration), cmp.Or(r.Source, "–"), cmp.Or(r.Who(), "–"))
	}
	d.put("</tr>\n")
}

// notes are what to know besides what the line says.
func (d *doc) notes(r *history.Record, said string) markup {
	var m markup
	for _, n := range r.Notes(said) {
		m += d.sprint("<br><small>%s</small>", n)
	}
	return m
}
