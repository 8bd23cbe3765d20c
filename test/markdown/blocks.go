package markdown

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Block is a literal block of a page: an indented or fenced one of Markdown, or what .Dl
// and .Bd show in a manual page.
type Block struct {
	Page  string   // its path below the root of the repository
	Line  int      // of its first line, from 1
	Kind  string   // of the mark before it: run, test, make, config, excerpt, text or unrun; "" without one
	Args  string   // of that mark
	Lines []string // without the indentation
	first int      // the index of the first line in the file
	last  int      // and of the one after the last
	pad   string   // the indentation
}

func (b *Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Session splits a block into what was entered after a prompt, "# ", and what was then
// printed. It returns nil if the block has no prompt.
func (b *Block) Session() []Command {
	var all []Command
	for _, line := range b.Lines {
		if input, ok := strings.CutPrefix(line, "# "); ok {
			all = append(all, Command{Input: input})
		} else if len(all) > 0 {
			all[len(all)-1].Output = append(all[len(all)-1].Output, line)
		} else {
			return nil
		}
	}
	return all
}

// Command is one command of a session. A line "…" of its output stands for any lines.
type Command struct {
	Input  string
	Output []string
}

var (
	marked    = regexp.MustCompile(`^(?:<!--|\.\\") (tests?|run|make|config|excerpt|text|unrun)(?::? ?(.*?))(?: -->)?$`)
	generated = regexp.MustCompile(`^<!-- (.*): (begin|end) -->$`)
)

// Blocks returns the blocks of a page below root. A mark counts for the next block; the
// mark "tests" for every block of the page that has none. What a test has inserted, see
// [Insert], is of the kind "generated".
func Blocks(root, page string) ([]*Block, error) {
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	s := scanner{page: page, lines: lines}
	if strings.HasSuffix(page, ".md") {
		s.markdown()
	} else {
		s.manual()
	}
	for _, b := range s.blocks {
		if b.Kind == "" && s.rest != "" {
			b.Kind, b.Args = "test", s.rest
		}
	}
	return s.blocks, nil
}

type scanner struct {
	page   string
	lines  []string
	kind   string
	args   string
	rest   string // what tests all other blocks
	within string // the name of the inserted part, or ""
	blocks []*Block
}

// mark reports whether the line is a mark, and takes it.
func (s *scanner) mark(line string) bool {
	m := marked.FindStringSubmatch(strings.TrimSpace(line))
	switch {
	case m == nil:
		return false
	case m[1] == "tests":
		s.rest = m[2]
	default:
		s.kind, s.args = m[1], m[2]
	}
	return true
}

func (s *scanner) add(first, last int, pad string) {
	b := &Block{Page: s.page, Line: first + 1, Kind: s.kind, Args: s.args, first: first, last: last, pad: pad}
	for _, line := range s.lines[first:last] {
		b.Lines = append(b.Lines, strings.TrimPrefix(line, pad))
	}
	if s.within != "" {
		b.Kind, b.Args = "generated", s.within
	}
	s.kind, s.args = "", ""
	s.blocks = append(s.blocks, b)
}

func (s *scanner) markdown() {
	for i := 0; i < len(s.lines); i++ {
		line := s.lines[i]
		if m := generated.FindStringSubmatch(line); m != nil {
			if s.within = ""; m[2] == "begin" {
				s.within = m[1]
			}
			continue
		}
		if s.mark(line) {
			continue
		}
		trimmed := strings.TrimLeft(line, " ")
		pad := line[:len(line)-len(trimmed)]
		switch {
		case strings.HasPrefix(trimmed, "```"):
			first := i + 1
			for i++; i < len(s.lines) && !strings.HasPrefix(strings.TrimSpace(s.lines[i]), "```"); i++ {
			}
			s.add(first, i, pad)
		case len(pad) >= 4 && (i == 0 || strings.TrimSpace(s.lines[i-1]) == ""):
			first, last := i, i
			for ; i < len(s.lines); i++ {
				if strings.TrimSpace(s.lines[i]) == "" {
					continue
				}
				if !strings.HasPrefix(s.lines[i], pad) {
					break
				}
				last = i + 1
			}
			i = last - 1
			s.add(first, last, pad)
		}
	}
}

func (s *scanner) manual() {
	for i := 0; i < len(s.lines); i++ {
		switch line := s.lines[i]; {
		case s.mark(line):
		case strings.HasPrefix(line, ".Dl "):
			s.add(i, i+1, ".Dl ")
		case strings.HasPrefix(line, ".Bd -literal"), strings.HasPrefix(line, ".Bd -unfilled"):
			first := i + 1
			for i++; i < len(s.lines) && s.lines[i] != ".Ed"; i++ {
			}
			s.add(first, i, "")
		}
	}
	for _, b := range s.blocks {
		for i, line := range b.Lines {
			b.Lines[i] = strings.NewReplacer(`\e`, `\`, `\(dq`, `"`, `\-`, "-", `\(aq`, "'", `\&`, "").Replace(line)
		}
	}
}

// Rewrite puts what commands have printed into a session of a page of Markdown.
func (b *Block) Rewrite(root string, session []Command) error {
	path := filepath.Join(root, b.Page)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	out := append([]string{}, lines[:b.first]...)
	for _, c := range session {
		for _, line := range append([]string{"# " + c.Input}, c.Output...) {
			out = append(out, strings.TrimRight(b.pad+line, " "))
		}
	}
	return os.WriteFile(path, []byte(strings.Join(append(out, lines[b.last:]...), "\n")), 0o644)
}

// Pages returns the pages that people read, relative to root.
func Pages(root string) ([]string, error) {
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "packaging/*/README.md", "test/*/README.md", "packaging/man/*.[58]"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			page, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			all = append(all, page)
		}
	}
	return all, nil
}
