package netns_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/markdown"
)

var doc = flag.String("doc", "", "a page whose table of connections that fail is written anew")

// deathPage is the page, from this directory.
const deathPage = "../../docs/trace.md"

// documentDeaths writes the table of a run in which every case was named as it
// should be, if it is asked for. Otherwise it holds the page to the run: what was
// said, and the exit code. From what the kernel was it concluded is another
// kernel's to say.
func documentDeaths(t *testing.T, seen, without []followed) {
	t.Helper()
	if t.Failed() {
		return
	}
	var named, settings int
	var b strings.Builder
	b.WriteString("\n| what is wrong | made by | nfguard trace says | exit code | seen | without the kernel's reasons |\n|---|---|---|---|---|---|\n")
	page, err := os.ReadFile(deathPage)
	if err != nil {
		t.Fatal(err)
	}
	for i := range deaths {
		d := &deaths[i]
		if seen[i].Verdict == "" {
			return // -run has left it out
		}
		if d.kind != "" {
			named++
		}
		told := cmp.Or(without[i].Cause.Kind, without[i].Verdict)
		if told != "unknown" && told != "answered" {
			settings++
		}
		row := fmt.Sprintf("| %s | %s | **%s** (`%s`): %s | %d |", d.name, d.made, seen[i].Verdict, cmp.Or(seen[i].Cause.Kind, "no cause"), anonymous(seen[i].Meaning), seen[i].code)
		if *doc == "" && !strings.Contains(string(page), row) {
			t.Errorf("docs/trace.md lacks the row, to be written by the command that stands there:\n%s", row)
		}
		fmt.Fprintf(&b, "%s %s | %s |\n", row, evidence(seen[i].Cause.Evidence), "`"+told+"`")
	}
	if *doc == "" {
		return
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "\nOn Linux %s: %d connections that fail, %d causes named with the kernel's reasons, %d without.\n",
		strings.SplitN(unix.ByteSliceToString(u.Release[:]), "-", 2)[0], len(deaths)-1, named, settings)
	if err := markdown.Insert(*doc, "deaths", b.String()); err != nil {
		t.Fatal(err)
	}
}

// times is how often something was seen, which is as often as there was time.
var times = regexp.MustCompile(`\b\d+ times\b|rose by \d+`)

// evidence is the first two sentences about the host, without what differs from run
// to run.
func evidence(all []string) string {
	var list []string
	for _, e := range all {
		if len(list) == 2 || len(list) > 0 && strings.HasPrefix(e, "the request from ") {
			break
		}
		e = times.ReplaceAllStringFunc(anonymous(e), func(s string) string {
			if strings.HasPrefix(s, "rose") {
				return "rose"
			}
			return "several times"
		})
		list = append(list, e)
	}
	return strings.Join(list, "; ")
}
