package markdown

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/config"
)

const root = "../.."

// TestBlocks holds what the pages show to something that runs it: every block has a mark,
// and what the mark names is there. CONTRIBUTING.md lists the marks.
func TestBlocks(t *testing.T) {
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	named := 0
	for _, page := range pages {
		blocks, err := Blocks(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			counts[b.Kind]++
			n, err := judge(t, b)
			if err != nil {
				t.Errorf("%s: %v", b, err)
			}
			named += n
		}
	}
	t.Logf("%d pages show %d blocks: %d are entered by TestPages (test/demo), %d name a test that is there (%d names), %d are targets of make or packages for go that are there, %d are configurations that were checked, %d are lines of files that are there, %d were written by a test, %d show no command and no output, and %d are run by nothing, and say why",
		len(pages), total(counts), counts["run"], counts["test"], named, counts["make"], counts["config"], counts["excerpt"], counts["generated"], counts["text"], counts["unrun"])
	if counts["run"] == 0 || named == 0 {
		t.Error("nothing is run")
	}
}

func total(counts map[string]int) int {
	n := 0
	for c := range maps.Values(counts) {
		n += c
	}
	return n
}

// judge says what is wrong with a block, and how many tests it names.
func judge(t *testing.T, b *Block) (tests int, err error) {
	switch b.Kind {
	case "run", "generated":
		return 0, nil
	case "test":
		names := regexp.MustCompile(`((?:Test|Fuzz|Benchmark)\w+)(?:/\S+)? (\S+?)(?:,|$)`).FindAllStringSubmatch(b.Args, -1)
		if len(names) == 0 {
			return 0, fmt.Errorf("%q names no test: write TestName directory", b.Args)
		}
		for _, m := range names {
			if !slices.Contains(testsIn(t, m[2]), m[1]) {
				return 0, fmt.Errorf("there is no %s in %s", m[1], m[2])
			}
		}
		return len(names), related(b, names)
	case "make":
		return 0, targets(t, b)
	case "config":
		path := filepath.Join(t.TempDir(), "nfguard.toml")
		if err := os.WriteFile(path, []byte(strings.Join(b.Lines, "\n")+"\n"), 0o644); err != nil {
			return 0, err
		}
		return 0, config.Check(path)
	case "excerpt":
		return 0, excerpt(b)
	case "text", "unrun":
		if b.Args == "" {
			return 0, fmt.Errorf("say what it is, or why nothing runs it")
		}
		return 0, nil
	}
	return 0, fmt.Errorf("nothing runs this block: put a mark before it, see CONTRIBUTING.md\n\t%s", strings.Join(b.Lines, "\n\t"))
}

// related checks that something of the block is in a directory of the tests that it names:
// one that has none of its commands does not run it.
func related(b *Block, names [][]string) error {
	for _, m := range names {
		found := false
		err := filepath.WalkDir(filepath.Join(root, m[2]), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || found || strings.HasSuffix(path, ".md") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, line := range b.Lines {
				word, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), " ")
				word, _, _ = strings.Cut(word, "{")
				found = found || word != "" && strings.Contains(string(text), word)
			}
			return err
		})
		if err != nil || found {
			return err
		}
	}
	return fmt.Errorf("none of the tests in %q has any of its commands: if nothing runs it, the mark is unrun, with the reason", b.Args)
}

var known = map[string][]string{}

// testsIn returns the names of the tests in a directory.
func testsIn(t *testing.T, dir string) []string {
	t.Helper()
	if names, ok := known[dir]; ok {
		return names
	}
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	known[dir] = names
	return names
}

// targets checks that make has every target that a block names, and that the packages and
// tests that it gives to go are there.
func targets(t *testing.T, b *Block) error {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return err
	}
	for _, line := range b.Lines {
		line, _, _ = strings.Cut(line, " #")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if m := regexp.MustCompile(`^make ([a-z]+)( [A-Z]+=(?:'[^']*'|\S+))*\s*$`).FindStringSubmatch(line); m != nil {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				return fmt.Errorf("the Makefile has no target %s", m[1])
			}
			continue
		}
		m := regexp.MustCompile(`^go (?:run|test) .*?\./(\S+)`).FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("%q is no target of make, and no go run or go test", line)
		}
		if strings.HasSuffix(m[1], "...") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			return err
		}
		if run := regexp.MustCompile(`-(?:run|bench|fuzz) '?\^?((?:Test|Benchmark|Fuzz)\w+)`).FindStringSubmatch(line); run != nil && !hasPrefix(testsIn(t, m[1]), run[1]) {
			return fmt.Errorf("there is no %s in %s", run[1], m[1])
		}
	}
	return nil
}

func hasPrefix(names []string, prefix string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) })
}

// excerpt checks that the lines of a block are in a file, in this order. "…" stands for
// lines that are left out; indentation does not count.
func excerpt(b *Block) error {
	text, err := os.ReadFile(filepath.Join(root, b.Args))
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for _, want := range b.Lines {
		if want = strings.TrimSpace(want); want == "" || want == "…" {
			continue
		}
		at := slices.IndexFunc(lines, func(line string) bool { return strings.TrimSpace(line) == want })
		if at < 0 {
			return fmt.Errorf("%s does not have this line, or not after the one before: %s", b.Args, want)
		}
		lines = lines[at+1:]
	}
	return nil
}

// TestLinks follows the relative links of the pages, and their anchors.
func TestLinks(t *testing.T) {
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	count := 0
	for _, page := range pages {
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			count++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(root, filepath.Dir(page), path)
			if path == "" {
				target = filepath.Join(root, page)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s links to %s, which has no such heading: it has %s", page, m[1], anchors(t, target))
			}
		}
	}
	if count < 50 {
		t.Errorf("the pages have %d relative links", count)
	}
}

// TestIndexes: every page in docs is in the list of pages, and every decision in theirs.
func TestIndexes(t *testing.T) {
	for _, dir := range []string{"docs", "docs/decisions"} {
		index, err := os.ReadFile(filepath.Join(root, dir, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		pages, err := filepath.Glob(filepath.Join(root, dir, "*.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			if name := filepath.Base(page); name != "README.md" && !strings.Contains(string(index), "]("+name+")") {
				t.Errorf("%s/README.md does not have %s", dir, name)
			}
		}
	}
}

// anchors returns those of a page's headings, as the common hosts of repositories make them.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		name := strings.ToLower(regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(m[1], ""))
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

// TestREADMEIsShort: who reads it gives it a minute.
func TestREADMEIsShort(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 200 {
		t.Errorf("README.md has %d lines, more than 200: move what is not for the first minute to docs", n)
	}
}

// TestWorkflow: the workflow file starts what is there.
func TestWorkflow(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, ".github/workflows/ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var started []string
	for _, m := range regexp.MustCompile(`(?m)run: (make [a-z]+|\.ci/run)$`).FindAllStringSubmatch(string(text), -1) {
		started = append(started, m[1])
		if m[1] == ".ci/run" {
			if info, err := os.Stat(filepath.Join(root, m[1])); err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("%s cannot be run: %v", m[1], err)
			}
		} else if err := targets(t, &Block{Lines: []string{m[1]}}); err != nil {
			t.Error(err)
		}
	}
	if !slices.Contains(started, ".ci/run") {
		t.Errorf("the workflow starts %q", started)
	}
}
