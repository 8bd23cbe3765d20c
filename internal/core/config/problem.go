package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with one file.
type Problem struct {
	File string
	Line int    // counted from 1; 0 when it is not about one line
	Key  string // as the file spells it, with its table; "" when it is not about one key
	Msg  string // what is wrong
	Hint string // what to do about it
}

// Error returns "file:line: key: what is wrong", without the hint and without
// the parts that are unknown.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(Origin{p.File, p.Line}.String())
	if p.Key != "" {
		fmt.Fprintf(&b, ": %s", p.Key)
	}
	fmt.Fprintf(&b, ": %s", p.Msg)
	return b.String()
}

// Errors is all that is wrong with the files, in the order in which they are
// read and from their first line to their last.
type Errors []Problem

// Error returns one line a problem, each with its hint in parentheses.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = fmt.Sprintf("%v (hint: %s)", p, p.Hint)
	}
	return strings.Join(lines, "\n")
}

// wrong is a problem whose place the caller fills in.
func wrong(msg, hint string) *Problem { return &Problem{Msg: msg, Hint: hint} }
