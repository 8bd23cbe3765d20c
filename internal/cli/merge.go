package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/diag/fleet"
	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/internal/printable"
)

// merge combines the results of many hosts into one table. If a file could not be read,
// it returns the error after the table of the others.
func (a *app) merge(form format, paths []string) error {
	switch {
	case form == npdForm:
		return &hintError{errors.New("a condition is about one host, not many"), "use -o json"}
	case a.root != "":
		return &hintError{errors.New("--merge does not read a tree"), "leave out --root"}
	case len(paths) == 0:
		return &hintError{errors.New("there is nothing to merge"), "name files with the output of nfguard check -o json, or the directory of ansible's --tree"}
	}
	var hosts []fleet.Host
	var errs []error
	for _, path := range paths {
		of, err := fleet.Read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = &hintError{err, "is the name right? it takes files with the output of nfguard check -o json"}
		case errors.As(err, new(*files.NotRegular)):
			err = &hintError{err, "write it to a file first: nfguard check -o json >HOST.json, and name that"}
		}
		errs = append(errs, err)
		hosts = append(hosts, of...)
	}
	unread := errors.Join(errs...)
	if len(hosts) == 0 {
		return a.complainButLast(unread)
	}
	r := fleet.Merge(hosts)
	if len(r.Twice) > 0 {
		fmt.Fprintf(a.Err, "nfguard: more than one result; the last one counts: %s\n", few(r.Twice))
	}
	switch r.Verdict { //nolint:exhaustive // a fleet has one of three verdicts
	case guard.Right:
		a.code = exitYes
	case guard.Wrong:
		a.code = exitNo
	default:
		a.code = exitTrouble
	}
	if form == jsonForm {
		unread = errors.Join(unread, writeJSON(a.Out, r))
	} else {
		writeFleet(a.Out, &r, newStyle(a.Out))
	}
	return a.complainButLast(unread)
}

// writeFleet prints the table. What hosts say can be anything.
func writeFleet(w io.Writer, r *fleet.Report, s style) {
	fmt.Fprintf(w, "%s: %d as wanted, %d not, %d could not tell\n", words.Count(len(r.Hosts), "host"), r.Right, r.Wrong, r.Unknown)
	var paused []string
	for _, h := range r.Hosts {
		if h.Paused != "" {
			paused = append(paused, h.Name)
		}
	}
	if len(paused) > 0 {
		fmt.Fprintf(w, "nfguard is paused, and corrects nothing, on %s: %s\n", words.Count(len(paused), "host"), few(paused))
	}
	if len(r.Causes) > 0 {
		fmt.Fprintln(w, "\nCAUSES")
	}
	for _, c := range r.Causes {
		fmt.Fprintf(w, "%s  %s  %s\n", s.word(c.Verdict), words.Count(len(c.Hosts), "host"), printable.Text(c.What))
		fmt.Fprintf(w, "         on %s\n", few(c.Hosts))
		if c.Next != "" {
			fmt.Fprintf(w, "         %s\n", printable.Text(c.Next))
		}
	}
	if r.Right == len(r.Hosts) {
		return
	}
	width := 0
	for _, h := range r.Hosts {
		if h.Verdict != guard.Right {
			width = max(width, utf8.RuneCountInString(printable.Text(h.Name)))
		}
	}
	fmt.Fprintln(w, "\nHOSTS")
	for _, h := range r.Hosts {
		if h.Verdict != guard.Right {
			fmt.Fprintf(w, "%s  %-*s  %s\n", s.word(h.Verdict), width, printable.Text(h.Name), printable.Text(h.Summary))
		}
	}
}

// few lists names, but only the first of many.
func few(names []string) string {
	const most = 8
	if len(names) <= most {
		return printable.Text(strings.Join(names, ", "))
	}
	return fmt.Sprintf("%s and %d more", printable.Text(strings.Join(names[:most], ", ")), len(names)-most)
}
