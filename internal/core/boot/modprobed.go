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
// "\r" at its end and is another one. A backslash that ends the file is a part of
// the last word, or, for open, joins with nothing.
func parseModprobe(file string, text []byte, open bool) []rule {
	var rules []rule
	n, start := 0, 0
	var joined []string
	if end := len(text); end > 1 && text[end-1] == '\n' && text[end-2] == '\\' {
		text = text[:end-2] // nothing follows
	}
	for line := range strings.Lines(string(text)) {
		if n++; start == 0 {
			start = n
		}
		part, whole := strings.CutSuffix(line, "\n")
		if before, more := strings.CutSuffix(part, "\\"); more && whole {
			joined = append(joined, before)
			continue
		} else if open {
			part = before
		}
		words := strings.FieldsFunc(strings.Join(append(joined, part), ""), func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) > 1 && words[0][0] != '#' {
			rules = append(rules, rule{Place{file, start}, words[0], words[1:], strings.Join(words, " ")})
		}
		start, joined = 0, joined[:0]
	}
	return rules
}

// rules returns all of modprobe.d in the order in which the host's kmod reads it.
func (t *tree) rules() []rule { return t.rulesFor(t.kmods()[0]) }

func (t *tree) rulesFor(kind kmod) []rule {
	if rules, known := t.modprobe[kind]; known {
		return rules
	}
	rules := []rule{}
	for _, file := range t.dropins(kind.dirs(), kind.conf) {
		text, _ := t.read(file, maxFile)
		rules = append(rules, parseModprobe(file, text, kind.open)...)
	}
	t.modprobe[kind] = rules
	return rules
}

// conf reports whether kmod takes e for a file of modprobe.d: nothing hidden. A
// directory is passed over and hides nothing.
func (k kmod) conf(e fs.DirEntry) bool {
	name := e.Name()
	return !e.IsDir() && name[0] != '.' && (strings.HasSuffix(name, ".conf") || k.alias && strings.HasSuffix(name, ".alias"))
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
