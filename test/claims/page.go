package claims

import (
	"bytes"
	"fmt"
	"strings"
)

const none = "**none yet**"

const head = `# The ledger of claims

Made by ` + "`make claims`" + `; a test fails when it is not what the code says.

A claim is a sentence by which nfguard states a fact about the node: a constant
string of two words or more in the packages below. The generator lists them all;
errors, next steps, log lines and names are left out by where they stand in the code
(` + "`test/claims/role.go`" + ` has the rules, ` + "`test/claims/exempt.go`" + ` the few exceptions with
their reasons). A part that is not known when it is compiled is shown as ` + "`…`" + ` or as a
verb of fmt.

Nobody has written the two cases beside a sentence down: they were measured.

* **printed and true**: this case fails when the sentence is garbled. So it prints the
  sentence, and compares it.
* **false and not printed**: this case does not print it, and fails when it does, since
  its condition is taken away: the branch that it stands in is taken, and what leaves
  before it is not. Where that prints nothing or crashes, the sentence was put in the
  place of those that the same function, or elsewhere in the package the same field
  or the method of the same name, has in that case; this is marked ⇄.

The cases are of the tests of the sentence's own package, and none of them needs root.
A new sentence without both cases fails ` + "`go test ./test/claims`" + `, which says what to do.

`

// Entry is a row of the page.
type Entry struct {
	*Claim
	Evidence
}

// page is docs/claims.md.
func page(all []Entry) []byte {
	var b bytes.Buffer
	b.WriteString(head)
	lack, instead := 0, 0
	for _, e := range all {
		if e.True == "" || e.False == "" {
			lack++
		}
		if e.Instead {
			instead++
		}
	}
	fmt.Fprintf(&b, "%d sentences: %d have both cases, %d of them by ⇄; %d lack one.\n", len(all), len(all)-lack, instead, lack)
	if lack > 0 {
		b.WriteString("Those are listed in `test/claims/without.txt`, which may only shrink.\n")
	}
	part := ""
	for _, e := range all {
		if e.Package != part {
			part = e.Package
			fmt.Fprintf(&b, "\n## %s\n\n| in | sentence | printed and true | false and not printed |\n|---|---|---|---|\n", part)
		}
		in := e.Function
		if e.Nth > 0 {
			in += fmt.Sprintf(" (%d)", e.Nth+1)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", in, code(e.shown()), caseCell(e.True, false), caseCell(e.False, e.Instead))
	}
	return b.Bytes()
}

// shown is the text in one line.
func (c *Claim) shown() string { return strings.ReplaceAll(c.Text, "\n", `\n`) }

func caseCell(name string, instead bool) string {
	switch {
	case name == "":
		return none
	case instead:
		return code(name) + " ⇄"
	}
	return code(name)
}

// code is a code span that a cell of a table can hold.
func code(s string) string {
	fence := "`"
	if strings.Contains(s, "`") {
		fence = "``"
	}
	if t := strings.TrimSpace(s); t != s && fence == "`" { // or the blanks are lost
		s = " " + s + " "
	} else if fence == "``" {
		s = " " + s + " "
	}
	return fence + strings.ReplaceAll(s, "|", `\|`) + fence
}

// read finds the evidence on a page, by the keys of claims.
func read(text []byte) map[string]Evidence {
	found := make(map[string]Evidence)
	part := ""
	for _, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			part = name
		}
		row, ok := strings.CutPrefix(line, "| ")
		cells := strings.Split(strings.TrimSuffix(row, " |"), " | ")
		if !ok || part == "" || len(cells) != 4 || cells[0] == "in" {
			continue
		}
		e := Evidence{True: uncode(cells[2]), False: uncode(strings.TrimSuffix(cells[3], " ⇄")), Instead: strings.HasSuffix(cells[3], " ⇄")}
		found[part+" "+cells[0]+" "+cells[1]] = e
	}
	return found
}

// row is what read knows a claim by.
func (c *Claim) row() string {
	in := c.Function
	if c.Nth > 0 {
		in += fmt.Sprintf(" (%d)", c.Nth+1)
	}
	return c.Package + " " + in + " " + code(c.shown())
}

func uncode(s string) string {
	if s == none {
		return ""
	}
	fence := "`"
	if strings.HasPrefix(s, "``") {
		fence = "``"
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, fence), fence)
	return strings.ReplaceAll(strings.TrimSpace(s), `\|`, "|")
}
