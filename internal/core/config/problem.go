package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with one file.
type Problem struct {
	File string
	Line int    // counted from 1; 0 if it is not about one line
	Key  string // as in the file, with its table; "" if it is not about one key
	Msg  string // what is wrong
	Hint string // what to do about it
}

// Error returns "file:line: key: what is wrong", without the hint and without unknown
// parts.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(Origin{p.File, p.Line}.String())
	if p.Key != "" {
		fmt.Fprintf(&b, ": %s", p.Key)
	}
	fmt.Fprintf(&b, ": %s", p.Msg)
	return b.String()
}

// Errors are all problems of the files, in the order in which these are read, from
// the first line to the last.
type Errors []Problem

// Error returns one line for each problem, with its hint in parentheses.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = fmt.Sprintf("%v (hint: %s)", p, p.Hint)
	}
	return strings.Join(lines, "\n")
}

// wrong returns a problem; the caller fills in its place.
func wrong(msg, hint string) *Problem { return &Problem{Msg: msg, Hint: hint} }
