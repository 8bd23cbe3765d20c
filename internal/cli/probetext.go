package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nfguard/nfguard/internal/diag/probe"
)

// write prints the proof for people, and of which host it is.
func (d *proofDocument) write(w io.Writer, s style) {
	fmt.Fprintf(w, "%s: ", onHost(d.Host, d.Kernel))
	d.proof.write(w, s)
}

// write prints the proof for people: the verdict, what was tried, who replied.
func (d *proof) write(w io.Writer, s style) {
	if len(d.Cells) > 0 {
		fmt.Fprintf(w, "%s\n\n", d.settings())
		writeCells(w, d.Cells)
		fmt.Fprintln(w)
	}
	writeJudgement(w, s, &d.Judgement, d.Next)
}

func writeJudgement(w io.Writer, s style, j *probe.Judgement, next string) {
	writeLine(w, verdictWord(s, j.Verdict), j.Meaning, next)
	if j.Hairpin != "" {
		writeLine(w, s.warn("note   "), j.Hairpin, j.HairpinNext)
	}
}

// verdictWord is the verdict as it stands before a sentence, all of one width.
func verdictWord(s style, v probe.Verdict) string {
	switch v {
	case probe.Works:
		return s.good("works  ")
	case probe.Broken:
		return s.bad("broken ")
	case probe.Unknown:
		return s.warn("unknown")
	}
	return string(v)
}

// where says a path as people do.
func where(p probe.Path) string {
	switch p {
	case probe.Bridged:
		return "same node"
	case probe.Routed:
		return "other node"
	case probe.Hairpin:
		return "itself"
	}
	return string(p)
}

// writeCells prints a line for each family, path and Service, with what came
// from the pod IP and from the cluster IP.
func writeCells(w io.Writer, cells []probe.Cell) {
	type line struct {
		family  probe.Family
		path    probe.Path
		service string
		port    string
	}
	var lines []line
	answers := map[line]map[probe.Target][]*probe.Cell{}
	services := false
	for i := range cells {
		c := &cells[i]
		l := line{c.Family, c.Path, c.Service, c.Port}
		if answers[l] == nil {
			answers[l] = map[probe.Target][]*probe.Cell{}
			lines = append(lines, l)
		}
		answers[l][c.To] = append(answers[l][c.To], c)
		services = services || c.Service != ""
	}
	if services { // in which the same paths come again and again
		slices.SortStableFunc(lines, func(a, b line) int {
			return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.path, b.path))
		})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "family\tendpoint\tpod IP\tcluster IP"
	if services {
		head += "\tservice"
	}
	fmt.Fprintln(t, head)
	for _, l := range lines {
		endpoint := where(l.path)
		if l.port != "" {
			endpoint += ", " + l.port
		}
		fields := []string{string(l.family), endpoint, together(answers[l][probe.PodIP]), together(answers[l][probe.ClusterIP])}
		if services {
			fields = append(fields, l.service)
		}
		fmt.Fprintln(t, strings.Join(fields, "\t"))
	}
	t.Flush()
}

// together says what came of the same question by TCP and UDP, or of that to
// each of several pods: once, where all say the same.
func together(cells []*probe.Cell) string {
	if len(cells) == 0 {
		return "-"
	}
	first, same, onePod := cells[0], true, true
	for _, c := range cells {
		same = same && c.Outcome == first.Outcome && (c.Outcome != probe.WrongSource || c.Source == first.Source)
		onePod = onePod && c.Asked == first.Asked
	}
	if same {
		return first.What()
	}
	var each []string
	answered := 0
	for _, c := range cells {
		switch {
		case onePod:
			each = append(each, string(c.Protocol)+" "+c.What())
		case c.Outcome == probe.Answered:
			answered++
		default:
			each = append(each, c.Asked.String()+" "+c.What())
		}
	}
	if answered > 0 {
		each = append([]string{fmt.Sprintf("%d answered", answered)}, each...)
	}
	return strings.Join(each, ", ")
}
