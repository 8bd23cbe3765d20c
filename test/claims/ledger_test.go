package claims

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	update = flag.Bool("update", false, "look for cases, and write docs/claims.md")
	only   = flag.String("only", "", "the one package to try; of the others docs/claims.md is believed")
)

const (
	root    = "../.."
	ledger  = root + "/docs/claims.md"
	without = "without.txt"
)

// Each sentence has the cases that docs/claims.md says it has, and but for those
// of without.txt it has both.
func TestLedger(t *testing.T) {
	all := found(t, parts)
	for key := range exempt {
		if !slices.ContainsFunc(all, func(p *pkg) bool { return p.exempt[key] }) {
			t.Errorf("exempt.go: %q is not in the code any more", key)
		}
	}
	old, err := os.ReadFile(ledger)
	if err != nil && !*update {
		t.Fatal(err)
	}
	entries := measure(t, all, read(old), *update)
	text := page(entries)
	if *update {
		if err := os.WriteFile(ledger, text, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(text, old) {
		t.Errorf("docs/claims.md is not what the code says: make claims, and commit what it writes.\n%s", firstDifference(old, text))
	}
	excused := excuses(t)
	for _, e := range entries {
		for _, lack := range e.lacks() {
			if *only != "" && e.Package != *only {
				continue
			}
			line := lack + "\t" + e.Key()
			if !excused[line] {
				t.Errorf("%s:%d: it has %s:\n%s", e.file, e.line, needs[lack], line)
			}
			delete(excused, line)
		}
	}
	if t.Failed() {
		t.Log("write cases in claims_test.go of the package, which compare the whole of what is said, and make claims PART=core/guard, or whichever it is")
	}
	for line := range excused {
		if *only != "" {
			break
		}
		t.Errorf("%s: remove this line, there is a case now or no such sentence: %q", without, line)
	}
}

// TestSample: the ledger knows what the tests of a package hold, and what they only
// seem to hold. Errors and next steps are no claims.
func TestSample(t *testing.T) {
	var got []string
	for _, e := range measure(t, found(t, []string{"test/claims/sample"}), nil, true) {
		got = append(got, fmt.Sprintf("%s: true %q, false %q", e.Text, e.True, e.False))
	}
	want := []string{
		`the door is open: true "TestDoor/open", false "TestDoor/closed"`,
		`the door is locked: true "", false "TestDoor/closed"`,             // nobody compares it
		`the door could not be seen: %v: true "", false "TestDoor/closed"`, // nobody has it said
		`the door is red: true "", false ""`,
		`the door is green: true "", false "TestColour"`,
		`the door has no colour: true "", false ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPage: what is written is read again, whatever a sentence is made of.
func TestPage(t *testing.T) {
	for _, text := range []string{"a | b", "after `x --y`", " and so", "one\n", "is \"so\" | not"} {
		e := Entry{&Claim{Package: "core/x", Function: "f", Text: text, Nth: 1}, Evidence{True: "TestX/a|b", False: "TestX/`c`", Instead: true}}
		if diff := cmp.Diff(map[string]Evidence{e.row(): e.Evidence}, read(page([]Entry{e}))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// needs is what is to be said of a sentence that lacks a case.
var needs = map[string]string{
	"true":  "no case that prints it and fails when it is printed wrong",
	"false": "no case that does not print it and fails when it is",
}

func (e *Entry) lacks() (list []string) {
	if e.True == "" {
		list = append(list, "true")
	}
	if e.False == "" {
		list = append(list, "false")
	}
	return list
}

// excuses are the lines of without.txt. Its first line has their number, so that
// a change of it is seen in a review.
func excuses(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(without)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if want := fmt.Sprintf("# %d cases are missing. This list may only shrink.", len(lines)-1); lines[0] != want {
		t.Errorf("%s: its first line should be %q", without, want)
	}
	list := make(map[string]bool)
	for _, l := range lines[1:] {
		list[l] = true
	}
	return list
}

// found lists the claims of packages, built with what they pass.
func found(t *testing.T, names []string) []*pkg {
	t.Helper()
	all, err := load(root, names)
	if err != nil {
		t.Fatal(err)
	}
	var n numbers
	for _, p := range all {
		p.find(&n)
	}
	return all
}

// measure says which cases hold the claims: those that are known from before, where
// they do, and others if it is to seek them.
func measure(t *testing.T, all []*pkg, before map[string]Evidence, seek bool) []Entry {
	t.Helper()
	reachable(t, root, os.TempDir())
	dir := open(t, t.TempDir())
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, tmp)
	if err := build(root, dir, slices.DeleteFunc(slices.Clone(all), believed)); err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for _, p := range all {
		if believed(p) {
			for _, c := range p.claims {
				entries = append(entries, Entry{c, before[c.row()]})
			}
			continue
		}
		r := &runner{p: p, binary: binary(dir, p), tmp: tmp}
		list := make([]Entry, len(p.claims))
		each(len(list), func(i int) {
			c := p.claims[i]
			list[i] = Entry{c, r.kept(c, before[c.row()])}
		})
		if seek && slices.ContainsFunc(list, func(e Entry) bool { return e.lacks() != nil }) {
			cases, err := r.survey()
			if err != nil {
				t.Fatal(err)
			}
			each(len(list), func(i int) {
				if list[i].lacks() != nil {
					list[i].Evidence = r.seek(list[i].Claim, cases, list[i].Evidence)
				}
			})
		}
		entries = append(entries, list...)
	}
	return entries
}

// believed reports whether a package is not tried now.
func believed(p *pkg) bool {
	return *only != "" && p.name != *only && !strings.HasPrefix(p.name, "test/")
}

// kept is what still holds of evidence.
func (r *runner) kept(c *Claim, e Evidence) Evidence {
	if e.True != "" && !r.holds(e.True, c.garble()...) {
		e.True = ""
	}
	env := c.forceIt()
	if e.Instead {
		env = c.insteadOf()
	}
	if e.False != "" && (!r.holds(e.False, env...) || !r.without(e.False, c)) {
		e.False, e.Instead = "", false
	}
	return e
}

// open lets others than root use a directory, and those above it that are ours.
func open(t *testing.T, dir string) string {
	t.Helper()
	for d := dir; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// reachable fails where the cases are to run as somebody else, who cannot come to what
// they read.
func reachable(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		full, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		for d := full; os.Getuid() == 0; d = filepath.Dir(d) {
			if st, err := os.Stat(d); err != nil || st.Mode().Perm()&0o001 == 0 {
				t.Fatalf("the cases run as nobody, who cannot enter %s (%v): run it elsewhere, or as another user than root", d, err)
			}
			if d == "/" {
				break
			}
		}
	}
}

func firstDifference(old, text []byte) string {
	a, b := strings.Split(string(old), "\n"), strings.Split(string(text), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is\n\t%s\nand should be\n\t%s", i+1, a[i], b[i])
		}
	}
	return "it has lines more, or fewer"
}
