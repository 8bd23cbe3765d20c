package markdown

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each test that a page names between backquotes is there. In the tables of safety.md and
// track-record.md it stands before its directory, and is there.
func TestNamedTestsAreThere(t *testing.T) {
	var all []string
	dirs := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			dirs[filepath.Dir(path)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range dirs {
		dir, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, testsIn(t, dir)...)
	}
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(all, m[1]) && m[1] != "TestX" {
				t.Errorf("%s names %s, which there is not", page, m[1])
			}
		}
	}
	listed := regexp.MustCompile("((?:`(?:Test|Fuzz)[A-Za-z0-9]+`(?:, )?)+) ((?:test|internal)/[a-z0-9/]+)(?: and ((?:test|internal)/[a-z0-9/]+))?")
	for _, page := range []string{"docs/safety.md", "docs/track-record.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, m := range listed.FindAllStringSubmatch(string(text), -1) {
			for _, test := range name.FindAllStringSubmatch(m[1], -1) {
				count++
				for _, dir := range m[2:] {
					if dir != "" && !slices.Contains(testsIn(t, dir), test[1]) {
						t.Errorf("%s names %s in %s, which has none", page, test[1], dir)
					}
				}
			}
		}
		if count != len(name.FindAllString(string(text), -1)) {
			t.Errorf("%s: %d of the %d tests on the page are listed with their directory", page, count, len(name.FindAllString(string(text), -1)))
		}
	}
}

// Each fault in the track record has a test and a commit, or is said not to be cured.
func TestTrackRecord(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/track-record.md"))
	if err != nil {
		t.Fatal(err)
	}
	history := exec.Command("git", "-C", root, "rev-parse", "--is-shallow-repository")
	out, err := history.Output()
	whole := err == nil && strings.TrimSpace(string(out)) == "false"
	rows, open := 0, 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| fault") {
			continue
		}
		if rows++; len(cells) < 3 || len(cells) > 4 {
			t.Errorf("%q has %d cells", line, len(cells))
			continue
		}
		if strings.TrimSpace(cells[2]) == "not cured yet" {
			open++
			continue
		}
		commit := strings.TrimSpace(cells[len(cells)-1])
		if !strings.Contains(cells[2], "`Test") || !regexp.MustCompile("^[0-9a-f]{7}$").MatchString(commit) {
			t.Errorf("without a test or a commit: %s", line)
		}
		if whole && exec.Command("git", "-C", root, "merge-base", "--is-ancestor", commit, "HEAD").Run() != nil {
			t.Errorf("%s is no commit before this one: %s", commit, line)
		}
	}
	if rows < 40 {
		t.Errorf("the page has %d faults", rows)
	}
	t.Logf("%d faults, of which %d are not cured yet; the commits were looked for: %v", rows, open, whole)
}
