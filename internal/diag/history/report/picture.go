package report

import (
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/diag/history"
)

// layout is the format of times in the text of the picture.
func (t *timeline) layout() string {
	if t.end().Sub(t.begin) < time.Hour {
		return time.DateTime
	}
	return "2006-01-02 15:04"
}

func (d *doc) picture(t *timeline, totals *history.Totals) {
	d.put("<section aria-labelledby=\"picture\">\n<h2 id=\"picture\">When and by whom</h2>\n" +
		"<p class=\"legend\">The higher a bar, the more changes: <span><i class=\"right\"></i> put right or kept out,</span> " +
		"<span><i class=\"left\"></i> only observed,</span> <span><i class=\"wrong\"></i> not put right.</span> " +
		"<span><i class=\"guarded\"></i> nfguard running.</span></p>\n")
	groups := t.groups()
	highest := 1
	for _, g := range groups {
		for _, l := range g.lanes {
			for i := range buckets {
				highest = max(highest, l.counts[right][i]+l.counts[left][i]+l.counts[wrong][i])
			}
		}
	}
	d.put("<div class=\"lanes\">\n")
	d.axis(t)
	for _, g := range groups {
		d.put("<h3>%s</h3>\n", g.subject)
		for _, l := range g.lanes {
			d.lane(t, l, highest)
		}
		if g.left > 0 {
			d.put("<p class=\"more\">and %d more culprits</p>\n", g.left)
		}
	}
	if more := len(totals.Keys) - len(groups); more > 0 {
		d.put("<p class=\"more\">and %d more subjects</p>\n", more)
	}
	if t.guarded() {
		d.put("<h3>On guard</h3>\n")
	}
	for i := range totals.Hosts {
		h := &totals.Hosts[i]
		if i == maxHosts {
			d.put("<p class=\"more\">and %d more hosts</p>\n", len(totals.Hosts)-maxHosts)
			break
		}
		if spans := t.spans(h); len(spans) > 0 {
			d.guard(t, spans, h)
		}
	}
	d.axis(t)
	d.put("</div>\n</section>\n")
}

// axis writes five times; a phone shows only three.
func (d *doc) axis(t *timeline) {
	d.put("<div class=\"axis\" aria-hidden=\"true\"><span></span><span class=\"ticks\">")
	quarter, layout := t.end().Sub(t.begin)/4, t.layout()
	if layout == time.DateTime {
		layout = time.TimeOnly
	}
	for i := range 5 {
		d.put("<span>%s</span> ", t.begin.Add(quarter*time.Duration(i)).In(d.zone).Format(layout))
	}
	d.put("</span><span></span></div>\n")
}

// lane writes a row: a bar for each bucket that is not empty, and a text that
// describes it.
func (d *doc) lane(t *timeline, l *lane, highest int) {
	at := func(i int) string { return t.told(l, i).In(d.zone).Format(t.layout()) }
	var b strings.Builder
	unit := buckets * float64(t.width) / float64(t.end().Sub(t.begin)) // the width of a bucket
	first, last, most := -1, 0, 0
	for i := range buckets {
		n := [...]int{l.counts[right][i], l.counts[left][i], l.counts[wrong][i]}
		all := n[right] + n[left] + n[wrong]
		if all == 0 {
			continue
		}
		if first < 0 {
			first, most = i, i
		}
		last = i
		if before := l.counts[right][most] + l.counts[left][most] + l.counts[wrong][most]; all > before {
			most = i
		}
		height := 8 + 16*math.Log2(float64(all))/max(math.Log2(float64(highest)), 1)
		x, y := min(float64(i)*unit, buckets-1.5), 24.0
		for v := wrong; v >= right; v-- { // the worst is at the bottom
			if n[v] == 0 {
				continue
			}
			h := height * float64(n[v]) / float64(all)
			y -= h
			fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s: %d %s</title></rect>`,
				v.name(), x, y, max(min(unit, buckets-x), 1.5), h, at(i), n[v], v.text())
		}
	}
	text := l.describe() + "; at " + at(first)
	if first != last {
		text = fmt.Sprintf("%s; from %s to %s, most at %s", l.describe(), at(first), at(last), at(most))
	}
	d.row(l.culprit, text, markup(b.String()), l.changes())
}

// row writes the drawing and, for readers who do not see it, the text. Each bar has
// its own text, which is shown to readers who point at it.
func (d *doc) row(who, text string, drawn markup, n int) {
	d.put("<div class=\"lane\"><span class=\"who\">%s</span>\n<svg viewBox=\"0 0 %d 24\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"%s\">"+
		"<g aria-hidden=\"true\">%s%s</g></svg>\n<span class=\"n\">%d</span></div>\n", who, buckets, text, grid, drawn, n)
}

// describe sums up a lane, without times.
func (l *lane) describe() string {
	parts := []string{l.culprit + ": " + words.Count(l.changes(), "change")}
	for v := right; v < verdicts; v++ {
		switch n := l.total[v]; n {
		case 0:
		case l.changes():
			parts = append(parts, v.text())
		default:
			parts = append(parts, fmt.Sprintf("%d of them %s", n, v.text()))
		}
	}
	return strings.Join(parts, ", ")
}

// grid marks the times of the axis.
const grid = markup(`<path class="grid" d="M50 0V24M100 0V24M150 0V24"/>`)

func (d *doc) guard(t *timeline, spans []span, h *history.Host) {
	var b strings.Builder
	for _, s := range spans {
		from, to := t.x(s.from), t.x(s.to)
		fmt.Fprintf(&b, `<rect class="guarded" x="%.1f" y="8" width="%.1f" height="8"/>`, min(from, buckets-1), max(to-from, 1))
	}
	parts := []string{h.Name + ": nfguard ran in " + words.Count(len(spans), "span")}
	for i, s := range spans {
		if i == 5 {
			parts = append(parts, "and more")
			break
		}
		parts = append(parts, s.from.In(d.zone).Format(t.layout())+" to "+s.to.In(d.zone).Format(t.layout()))
	}
	d.row(h.Name, strings.Join(parts, ", "), markup(b.String()), h.Changes)
}

func lines(text string) iter.Seq[string] { return strings.SplitSeq(strings.TrimSpace(text), "\n") }
