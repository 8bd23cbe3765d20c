package trace

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Comparison is two paths of the same connection, as with a setting at 0 and at
// 1, beside each other.
type Comparison struct {
	Schema      int          `json:"schema"` // 1
	Before      *Path        `json:"before"`
	After       *Path        `json:"after"`
	Differences []Difference `json:"differences"`
}

// Difference is a hook that the packets of a direction pass in only one of the
// paths, or at which something else becomes of them.
type Difference struct {
	Direction Direction `json:"direction"`
	Layer     Layer     `json:"layer"`
	Hook      string    `json:"hook"`
	Before    string    `json:"before"` // "absent", or what happens there
	After     string    `json:"after"`
}

// absent says that the path does not lead there.
const absent = "absent"

// Compare compares the first packets of both paths, or where one went wrong
// that one.
func Compare(before, after *Path) *Comparison {
	c := &Comparison{Schema: 1, Before: before, After: after, Differences: []Difference{}}
	for _, d := range []Direction{Request, Reply} {
		for _, r := range c.rows(d) {
			if r.before != r.after {
				c.Differences = append(c.Differences, Difference{d, r.layer, r.hook, r.before, r.after})
			}
		}
	}
	return c
}

// row is a hook in both paths.
type row struct {
	layer         Layer
	hook          string
	before, after string
}

// does says what happens to a packet at a hook, but for what is of no other
// connection: the client's port.
func (s *Step) does() string {
	parts := []string{s.devices()}
	if s.Before.Destination.Addr() != s.After.Destination.Addr() {
		parts = append(parts, "to "+s.After.Destination.Addr().String())
	}
	if s.Before.Source.Addr() != s.After.Source.Addr() {
		parts = append(parts, "from "+s.After.Source.Addr().String())
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", ")
}

func steps(w *Path, d Direction) []Step {
	if p := w.pictured(d); p != nil {
		return p.Steps
	}
	return nil
}

// rows puts the steps of both paths side by side: those that are in both in the
// same order, by the longest common subsequence.
func (c *Comparison) rows(d Direction) (rows []row) {
	a, b := steps(c.Before, d), steps(c.After, d)
	same := func(i, j int) bool { return a[i].label() == b[j].label() }
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			if same(i, j) {
				longest[i][j] = longest[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && same(i, j):
			rows = append(rows, row{a[i].Layer, a[i].Hook, a[i].does(), b[j].does()})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			rows = append(rows, row{a[i].Layer, a[i].Hook, a[i].does(), absent})
			i++
		default:
			rows = append(rows, row{b[j].Layer, b[j].Hook, absent, b[j].does()})
			j++
		}
	}
	return rows
}

// Text writes both paths for people, side by side.
func (c *Comparison) Text(out io.Writer, paint Paint) {
	if paint == nil {
		paint = plain
	}
	head := func(w *Path) string {
		return w.Time.Format("15:04:05") + ", " + w.Handing.Key[strings.LastIndexByte(w.Handing.Key, '.')+1:] + " " + w.Handing.Value
	}
	fmt.Fprintln(out, c.After.title())
	fmt.Fprintf(out, "  before (%s): %s\n", head(c.Before), c.Before.Meaning)
	fmt.Fprintf(out, "  after  (%s): %s\n", head(c.After), c.After.Meaning)
	for _, d := range []Direction{Request, Reply} {
		rows := c.rows(d)
		if len(rows) == 0 {
			continue
		}
		hooks, befores := 0, len("before")
		for _, r := range rows {
			hooks = max(hooks, len(string(r.layer)+" "+r.hook))
			befores = max(befores, utf8.RuneCountInString(r.before))
		}
		fmt.Fprintf(out, "\n%-*s  %-*s  after\n", hooks+2, strings.ToUpper(string(d)), befores, "before")
		for _, r := range rows {
			sign, kind := " ", ""
			switch {
			case r.before == absent:
				sign, kind = "+", "good"
			case r.after == absent:
				sign, kind = "-", "bad"
			case r.before != r.after:
				sign, kind = "~", "good"
			}
			text := fmt.Sprintf("%s %-*s  %s%s  %s", sign, hooks, string(r.layer)+" "+r.hook,
				r.before, strings.Repeat(" ", befores-utf8.RuneCountInString(r.before)), r.after)
			if kind != "" {
				text = paint(kind, text)
			}
			fmt.Fprintln(out, text)
		}
		c.writeEnds(out, paint, d)
	}
}

func (c *Comparison) writeEnds(out io.Writer, paint Paint, d Direction) {
	for _, w := range []struct {
		name string
		*Path
	}{{"before", c.Before}, {"after", c.After}} {
		p := w.pictured(d)
		switch {
		case p == nil:
			fmt.Fprintf(out, "✗ %s: %s\n", w.name, paint("bad", "none came by"))
		case w.fault(p) != "":
			fmt.Fprintf(out, "✗ %s: %s\n", w.name, paint("bad", w.fault(p)))
		}
	}
}

// SVG writes the pictures of both paths, one below the other.
func (c *Comparison) SVG(out io.Writer) error { return draw(out, c.Before, c.After) }
