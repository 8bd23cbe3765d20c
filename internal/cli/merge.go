package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nfguard/nfguard/internal/fleet"
	"github.com/nfguard/nfguard/internal/guard"
	"github.com/nfguard/nfguard/internal/words"
)

// merge makes one table of what many hosts said.
func (a *app) merge(form format, paths []string) error {
	switch {
	case form == npdForm:
		return &hintError{errors.New("many hosts are no condition of one"), "use -o json"}
	case a.root != "":
		return &hintError{errors.New("--merge looks at no tree"), "leave out --root"}
	case len(paths) == 0:
		return &hintError{errors.New("there is nothing to merge"), "name files with what nfguard check -o json said, or the directory of ansible's --tree"}
	}
	var hosts []fleet.Host
	for _, path := range paths {
		of, err := fleet.Read(path)
		if err != nil {
			return err
		}
		hosts = append(hosts, of...)
	}
	r := fleet.Merge(hosts)
	if len(r.Twice) > 0 {
		fmt.Fprintf(a.Err, "nfguard: more than one result, of which the last counts: %s\n", few(r.Twice))
	}
	switch r.Verdict { //nolint:exhaustive // a fleet is one of three
	case guard.Right:
		a.code = exitYes
	case guard.Wrong:
		a.code = exitNo
	default:
		a.code = exitTrouble
	}
	if form == jsonForm {
		return writeJSON(a.Out, r)
	}
	writeFleet(a.Out, &r, newStyle(a.Out))
	return nil
}

func writeFleet(w io.Writer, r *fleet.Report, s style) {
	fmt.Fprintf(w, "%s: %d as wanted, %d not, %d could not tell\n", words.Count(len(r.Hosts), "host"), r.Right, r.Wrong, r.Unknown)
	if len(r.Causes) > 0 {
		fmt.Fprintln(w, "\nCAUSES")
	}
	for _, c := range r.Causes {
		fmt.Fprintf(w, "%s  %s  %s\n", s.word(c.Verdict), words.Count(len(c.Hosts), "host"), c.What)
		fmt.Fprintf(w, "         on %s\n", few(c.Hosts))
		if c.Next != "" {
			fmt.Fprintf(w, "         %s\n", c.Next)
		}
	}
	if r.Right == len(r.Hosts) {
		return
	}
	width := 0
	for _, h := range r.Hosts {
		if h.Verdict != guard.Right {
			width = max(width, len(h.Name))
		}
	}
	fmt.Fprintln(w, "\nHOSTS")
	for _, h := range r.Hosts {
		if h.Verdict != guard.Right {
			fmt.Fprintf(w, "%s  %-*s  %s\n", s.word(h.Verdict), width, h.Name, h.Summary)
		}
	}
}

// few are names, the first of many.
func few(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
