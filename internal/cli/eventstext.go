package cli

import (
	"bufio"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/diag/history"
	"github.com/nfguard/nfguard/internal/printable"
)

// textEvents is the table for people, written as the records come, with the
// totals below it.
type textEvents struct {
	w      *bufio.Writer
	st     style
	hosts  bool // there can be several
	totals bool // and nothing else
	fold   *history.Folder
	lines  int
}

func newTextEvents(w *bufio.Writer, st style, o *eventsOptions) *textEvents {
	t := &textEvents{w: w, st: st, hosts: len(o.journals) > 0, totals: o.totals}
	if !o.follow && !o.totals {
		t.fold = history.NewFolder(t.line)
	}
	return t
}

func (t *textEvents) add(r *history.Record) {
	switch {
	case t.totals:
	case t.fold != nil:
		t.fold.Add(r)
	default:
		t.line(&history.Line{Record: *r})
	}
}

// line prints one line and, below it, the reason and the next step if something is wrong.
func (t *textEvents) line(l *history.Line) {
	if t.lines++; t.lines == 1 {
		t.row("WHEN", "HOST", "EVENT", "OUTCOME", columns("WHAT", "FROM → TO", "LASTED", "SOURCE", "WHO"))
	}
	r := &l.Record
	when := r.Time.Local().Format(time.DateTime)
	if l.Fight != nil {
		what := describeFight(l.Fight)
		t.row(when, r.Host, "fight", string(l.Fight.State), what)
		t.notes(r, what)
		return
	}
	what := describeRecord(r)
	t.row(when, r.Host, string(r.Event), string(r.Outcome), what)
	t.notes(r, what)
}

// notes prints what to know about the record besides what.
func (t *textEvents) notes(r *history.Record, what string) {
	for _, n := range r.Notes(what) {
		t.note(n)
	}
}

func (t *textEvents) row(when, host, event, outcome, what string) {
	fmt.Fprintf(t.w, "%-19s  ", when)
	if t.hosts {
		fmt.Fprintf(t.w, "%-12s  ", printable.Text(host))
	}
	word := fmt.Sprintf("%-9s", printable.Text(outcome))
	switch record.Outcome(outcome) { //nolint:exhaustive // other outcomes have no colour
	case record.Failed, record.Reverted:
		word = t.st.bad(word)
	case record.Corrected, record.Denied, record.Rewritten:
		word = t.st.good(word)
	case record.Held, record.Paused:
		word = t.st.warn(word)
	}
	fmt.Fprintf(t.w, "%-11s  %s  %s\n", printable.Text(event), word, printable.Text(what))
}

func (t *textEvents) note(text string) {
	fmt.Fprintf(t.w, "%21s%s\n", "", printable.Text(text))
}

// describeRecord says what changed to what, how long that lasted, what woke nfguard and
// who did it; or it returns the record's own message, if that is not about a change.
func describeRecord(r *history.Record) string {
	if r.Changes() == 0 || r.Event == record.KindContention {
		return r.Message
	}
	return columns(r.Subject, r.Change(), cmp.Or(stood(r.Duration), "-"), r.Source, cmp.Or(r.Who(), "-"))
}

func columns(subject, change, stood, source, who string) string {
	return fmt.Sprintf("%-35s  %-13s  %-7s  %-7s  %s", subject, change, stood, source, who)
}

func describeFight(f *history.Fight) string {
	s := fmt.Sprintf("%-35s  %s in %s", f.Subject, words.Count(f.Changes, "time"), words.Short(f.Ended.Sub(f.Began)))
	if f.Who != "" {
		s += ", last by " + f.Who
	}
	switch f.State {
	case history.FightOn:
		s += "; it is still going on"
	case history.FightLeft:
		s += "; nfguard stopped before its end"
	case history.FightOver:
	}
	return s
}

func (t *textEvents) end(e *ending) {
	if t.fold != nil {
		t.fold.Close()
	}
	if t.lines > 0 {
		fmt.Fprintln(t.w)
	}
	fmt.Fprintln(t.w, printable.Text(e.sentence()))
	if s := e.observed(); s != "" {
		fmt.Fprintln(t.w, printable.Text(s))
	}
	all := &e.totals
	if len(all.Hosts) > 1 {
		t.writeHosts(all.Hosts)
	}
	if all.Changes > 0 {
		t.writeSums("BY SUBJECT", all.Keys, &all.Sum, true)
		t.writeSums("BY CULPRIT", all.Culprits, &all.Sum, true)
		if len(all.Pods) > 0 {
			t.writeSums("BY POD", all.Pods, &all.Sum, true)
		}
		t.writeSums("BY DAY", all.Days, &all.Sum, false)
	}
}

// maxSums is how many lines of a list of totals are printed; -o json has all.
const maxSums = 20

func (t *textEvents) writeSums(title string, sums []history.Sum, all *history.Sum, last bool) {
	more := 0
	if len(sums) > maxSums {
		more = len(sums) - maxSums
		if last {
			sums = sums[:maxSums] // keeps the most frequent
		} else {
			sums = sums[more:] // keeps the last days
		}
	}
	fmt.Fprintln(t.w)
	tw := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "%s\tCHANGES", title)
	counts := history.Columns(all)
	for _, c := range counts {
		fmt.Fprintf(tw, "\t%s", strings.ToUpper(c.Title))
	}
	fmt.Fprint(tw, "\tLONGEST")
	if last {
		fmt.Fprint(tw, "\tLAST")
	}
	fmt.Fprintln(tw)
	for i := range sums {
		s := &sums[i]
		fmt.Fprintf(tw, "%s\t%d", printable.Text(s.Name), s.Changes)
		for _, c := range counts {
			fmt.Fprintf(tw, "\t%d", c.Of(s))
		}
		fmt.Fprintf(tw, "\t%s", cmp.Or(stood(s.Longest), "-"))
		if last {
			fmt.Fprintf(tw, "\t%s", s.Last.Local().Format(time.DateTime))
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
	if more > 0 {
		fmt.Fprintf(t.w, "… and %d more; -o json has all\n", more)
	}
}

// stood prints how long something lasted; "" if that is unknown.
func stood(d time.Duration) string {
	if d < 0 {
		return ""
	}
	return words.Short(d)
}

func (t *textEvents) writeHosts(hosts []history.Host) {
	fmt.Fprintln(t.w)
	tw := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "BY HOST\tCHANGES\tEVENTS\tBOOTS\tLAST EVENT\tMACHINE ID")
	for _, h := range hosts {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%s\t%s\n", printable.Text(h.Name), h.Changes, h.Records, h.Boots, h.To.Local().Format(time.DateTime), printable.Text(h.Machine))
	}
	tw.Flush()
}

// sentence sums up the events.
func (e *ending) sentence() string {
	t := &e.totals
	if t.Records == 0 && e.err != nil {
		return "nothing could be read"
	}
	if asked := e.asked(); t.Records == 0 && asked != "" {
		return "nothing is on record; asked for: " + asked
	}
	if t.Records == 0 {
		return "nothing is on record"
	}
	where := ""
	if len(t.Hosts) > 1 {
		where = fmt.Sprintf(" on %d hosts", len(t.Hosts))
	}
	s := fmt.Sprintf("%s, %s%s%s", words.Count(t.Records, "event"), words.Count(t.Changes, "change"), e.span(), where)
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{t.Corrected, "put right"}, {t.Kept, "kept out"}, {t.Failed, "not put right"}, {t.Observed, "only observed"}} {
		if p.n > 0 {
			parts = append(parts, strconv.Itoa(p.n)+" "+p.what)
		}
	}
	if len(parts) > 0 {
		s += ": " + strings.Join(parts, ", ")
	}
	return s
}

// observed says what mode enforce would have done; "" is nothing.
func (e *ending) observed() string {
	t := &e.totals
	if t.Observed == 0 || len(t.Left) == 0 {
		return ""
	}
	var by []string
	for _, name := range t.Left {
		switch name {
		case history.Unseen, history.AtStart, history.Asked, history.NewBridge, history.Others:
		default:
			by = append(by, name)
		}
	}
	s := fmt.Sprintf("mode observe:%s enforce would have corrected %s", e.span(), words.Count(t.LeftAlone, "drift"))
	switch {
	case len(by) > 5:
		s += ", by " + strings.Join(by[:5], ", ") + " and " + words.Count(len(by)-5, "other")
	case len(by) > 0:
		s += ", by " + strings.Join(by, ", ")
	}
	return s
}

// span is the time that the records cover: " in 7 days". "" is a single moment.
func (e *ending) span() string {
	from, to := e.totals.From, e.totals.To
	if !e.filter.Since.IsZero() {
		from = e.filter.Since
	}
	switch {
	case !e.filter.Until.IsZero():
		to = e.filter.Until
	case e.live:
		to = e.now
	}
	switch d := to.Sub(from); {
	case d >= 48*time.Hour:
		return fmt.Sprintf(" in %d days", int(d.Hours()/24+0.5))
	case d >= 2*time.Hour:
		return fmt.Sprintf(" in %d hours", int(d.Hours()+0.5))
	case d >= 2*time.Minute:
		return fmt.Sprintf(" in %d minutes", int(d.Minutes()+0.5))
	case d > 0:
		return " in " + words.Short(d)
	}
	return ""
}

// asked says what the user asked for; "" is everything.
func (e *ending) asked() string {
	f := e.filter
	var parts []string
	if !f.Since.IsZero() {
		parts = append(parts, "since "+f.Since.Local().Format(time.DateTime))
	}
	if !f.Until.IsZero() {
		parts = append(parts, "until "+f.Until.Local().Format(time.DateTime))
	}
	for _, p := range []struct {
		what string
		of   []string
	}{{"event", texts(f.Events)}, {"outcome", texts(f.Outcomes)}, {"subject", f.Subjects}} {
		if len(p.of) > 0 {
			parts = append(parts, p.what+" "+strings.Join(p.of, " or "))
		}
	}
	return strings.Join(parts, ", ")
}
