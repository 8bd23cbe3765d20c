package boot

import (
	"io/fs"
	"strings"
)

// rule is one line of modprobe.d, or one parameter of the kernel.
type rule struct {
	Place
	verb string   // blacklist, install, alias …
	args []string // the words after it
	text string   // the line, blanks folded
}

// parseModprobe returns the lines of a modprobe.d file. A backslash at the end
// of a line joins it with the next, in the middle of a word and of a comment
// as well; blanks are space and tab only, so that with CRLF a name has a
// "\r" at its end and is another one (as seen of kmod 30).
func parseModprobe(file string, text []byte) []rule {
	var rules []rule
	n, start := 0, 0
	var joined []string
	for line := range strings.Lines(string(text)) {
		if n++; start == 0 {
			start = n
		}
		part, whole := strings.CutSuffix(line, "\n")
		if before, more := strings.CutSuffix(part, "\\"); more && whole {
			joined = append(joined, before)
			continue
		}
		words := strings.FieldsFunc(strings.Join(append(joined, part), ""), func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) > 1 && words[0][0] != '#' {
			rules = append(rules, rule{Place{file, start}, words[0], words[1:], strings.Join(words, " ")})
		}
		start, joined = 0, joined[:0]
	}
	return rules
}

// rules returns all of modprobe.d in the order in which kmod reads it.
func (t *tree) rules() []rule {
	if t.kmod != nil {
		return t.kmod
	}
	t.kmod = []rule{}
	for _, file := range t.dropins(below("modprobe.d"), kmodConf) {
		text, _ := t.read(file, maxFile)
		t.kmod = append(t.kmod, parseModprobe(file, text)...)
	}
	return t.kmod
}

// kmodConf reports whether kmod takes e for a file of modprobe.d: *.alias too,
// nothing hidden. A directory is passed over and hides nothing.
func kmodConf(e fs.DirEntry) bool {
	name := e.Name()
	return !e.IsDir() && name[0] != '.' && (strings.HasSuffix(name, ".conf") || strings.HasSuffix(name, ".alias"))
}

// canonical is a module's name as the kernel spells it. In a pattern, what is
// in brackets stays.
func canonical(name string) string {
	in := false
	return strings.Map(func(r rune) rune {
		switch {
		case r == '[':
			in = true
		case r == ']':
			in = false
		case r == '-' && !in:
			return '_'
		}
		return r
	}, name)
}
