package boot

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// act is what a command does that matters here: it sets a guarded sysctl, or
// it loads a module.
type act struct {
	at    Place // where the command stands: the line of a script that it runs, too
	from  Place // the line of a file of sysctls that it reads; zero when it is none
	key   string
	value string

	load   string // a module, instead of a key
	plain  bool   // of load: against a blacklist, as modprobe does without -b
	direct bool   // of load: and not by its own "install" (modprobe -i, insmod)

	again bool // systemd-sysctl sets it anew, as sysctl.d has it

	maybe  bool // it may not come to that
	opaque bool // the command names the key, and what it does to it was not read
}

// shell reads the commands that are run at boot, in the order in which they are
// run. It runs none. What it cannot tell it calls maybe or opaque.
type shell struct {
	f       *forecast
	text    string // all of it
	at      Place  // of the first line; not above 0: every line is at -Line
	dir     string // where cd has led
	vars    map[string][]string
	funcs   map[string][]token
	maybe   bool     // what follows may not be reached
	over    bool     // nothing that follows is reached
	depth   int      // of scripts, functions and loops
	printed []string // the last echo or printf with its arguments; nil: something else was the last
	acts    []act
	unknown bool // a program was run that is not known
}

// What a shell may have: scripts that run scripts, what one does and how long it
// is, the parts of a word and what it stands for.
const (
	maxDepth  = 6
	maxActs   = 512
	maxScript = 256 << 10
	maxParts  = 64
	maxWord   = 4096
)

// runs returns what a shell does with text.
func (f *forecast) runs(at Place, text string, lines bool) *shell {
	if !lines {
		at.Line = -at.Line
	}
	s := f.shell(at, text)
	if f.spend(len(text)) {
		s.run(shlex(text), false)
	}
	return s
}

// executes returns what one program does that is started without a shell.
func (f *forecast) executes(at Place, args []string) *shell {
	at.Line = -at.Line
	s := f.shell(at, "")
	s.command(args, 0, false)
	return s
}

func (f *forecast) shell(at Place, text string) *shell {
	return &shell{f: f, at: at, text: text, dir: "/", vars: map[string][]string{}, funcs: map[string][]token{}}
}

// allowed bounds what is read of commands, in bytes about: an image may have
// been made so that it takes for ever. A host has some hundred KiB.
const allowed = 4 << 20

// spend takes from what is allowed, and reports whether there was so much.
func (f *forecast) spend(n int) bool {
	if f.spent += n; f.spent > allowed {
		f.t.complain("commands that are run at boot", errors.New("they are too many: the rest was not read"))
		return false
	}
	return true
}

// place is where a line of the text stands.
func (s *shell) place(line int) Place {
	if s.at.Line <= 0 {
		return Place{s.at.File, -s.at.Line}
	}
	return Place{s.at.File, s.at.Line + line}
}

func (s *shell) add(line int, a act) {
	if a.at = s.place(line); len(s.acts) < maxActs {
		s.acts = append(s.acts, a)
	}
}

// run carries out tokens.
func (s *shell) run(tokens []token, maybe bool) {
	if s.depth++; s.depth > maxDepth {
		s.depth--
		return
	}
	defer func() { s.depth-- }()
	open, before, last := 0, "", likely // how many if and case are open, the operator before, how the last command ended
	for i := 0; i < len(tokens) && !s.over && s.f.spend(64); {
		t := &tokens[i]
		switch {
		case t.op == "\n" || t.op == ";" || t.op == "&":
			before, last = "", likely
			i++
			continue
		case t.op != "":
			before = t.op
			i++
			continue
		case t.is("case"):
			if body, next, ok := s.branch(tokens, i); ok {
				s.run(body, maybe || open > 0 || s.maybe || before != "" && last == unclear)
				i = next
				continue
			}
			open++
			i++
			continue
		case t.is("if"), t.is("while"), t.is("until"), t.is("select"):
			open++
			i++
			continue
		case t.is("fi"), t.is("done"), t.is("esac"):
			open = max(open-1, 0)
			i++
			continue
		case t.is("then"), t.is("else"), t.is("elif"), t.is("do"), t.is("!"), t.is("{"), t.is("}"), t.is("in"), t.is("time"):
			i++
			continue
		case t.is("for"):
			i = s.loop(tokens, i, maybe || open > 0 || s.maybe || before != "" && last == unclear)
			continue
		}
		if i+2 < len(tokens) && tokens[i+1].op == "(" && tokens[i+2].op == ")" {
			i = s.define(tokens, i)
			continue
		}
		end := i
		for end < len(tokens) && (tokens[end].op == "" || strings.ContainsAny(tokens[end].op, "<>")) {
			end++
		}
		unsure := maybe || open > 0 || s.maybe
		switch {
		case before == "&&" && last == no, before == "||" && last == yes:
			i = end
			continue
		case before == "&&" && last == unclear, before == "||" && last != no:
			unsure = true
		}
		pipe := before == "|"
		if !pipe {
			s.printed = nil
		}
		last = s.simple(tokens[i:end], unsure, pipe)
		before, i = "", end
	}
}

// answer is how a command ends.
type answer int

const (
	unclear answer = iota
	likely         // well, unless something is broken
	yes
	no
)

// loop carries out the body of "for NAME in WORDS; do BODY; done", once for each
// word, and returns where it ends.
func (s *shell) loop(tokens []token, i int, maybe bool) int {
	start, depth, end := 0, 0, len(tokens)
	if !s.f.spend(len(tokens) - i) {
		return end
	}
	for j := i; j < len(tokens); j++ {
		t := &tokens[j]
		switch {
		case t.is("for"), t.is("while"), t.is("until"):
			depth++
		case t.is("do") && start == 0:
			start = j + 1
		case t.is("done"):
			if depth--; depth == 0 {
				end = j
			}
		}
		if end < len(tokens) {
			break
		}
	}
	if start == 0 || i+2 >= len(tokens) || !tokens[i+2].is("in") {
		return min(end+1, len(tokens))
	}
	name := tokens[i+1].literal()
	var words []string
	known := true
	for j := i + 3; j < start-1; j++ {
		if tokens[j].op == "" {
			w, ok := s.fields(&tokens[j], true)
			words, known = append(words, w...), known && ok
		}
	}
	was, had := s.vars[name]
	for _, w := range words {
		s.vars[name] = []string{w}
		s.run(tokens[start:end], maybe)
	}
	if !known {
		delete(s.vars, name)
		s.run(tokens[start:end], true)
	}
	if delete(s.vars, name); had {
		s.vars[name] = was
	}
	return min(end+1, len(tokens))
}

// branch returns what "case WORD in PATTERN) BODY ;; esac" carries out, nothing
// where no pattern is the word's, and where it ends. It is false where that cannot
// be told.
func (s *shell) branch(tokens []token, i int) (body []token, next int, ok bool) {
	if i+3 >= len(tokens) || !tokens[i+2].is("in") || !s.f.spend(len(tokens)-i) {
		return nil, 0, false
	}
	word, known := s.expand(&tokens[i+1], false)
	if !known || len(word) != 1 {
		return nil, 0, false
	}
	found := false
	for j := i + 3; j < len(tokens); {
		switch t := &tokens[j]; {
		case t.is("esac"):
			return body, j + 1, true
		case t.op != "" && t.op != "(":
			j++
			continue
		}
		matches := false
		for ; j < len(tokens) && tokens[j].op != ")"; j++ {
			t := &tokens[j]
			if t.op != "" {
				continue
			}
			patterns, known := s.expand(t, false)
			if !known || len(patterns) != 1 {
				return nil, 0, false
			}
			matches = matches || globs(patterns[0], word[0])
		}
		start, depth := j+1, 0
		for j++; j < len(tokens); j++ {
			t := &tokens[j]
			if t.is("case") {
				depth++
			}
			if t.is("esac") {
				if depth--; depth < 0 {
					break
				}
			}
			if depth == 0 && t.op == ";" && j+1 < len(tokens) && tokens[j+1].op == ";" {
				break
			}
		}
		if matches && !found && start <= j {
			body, found = tokens[start:min(j, len(tokens))], true
		}
	}
	return nil, 0, false
}

// define keeps the body of "NAME() { BODY }", and returns where it ends.
func (s *shell) define(tokens []token, i int) int {
	depth := 0
	if !s.f.spend(len(tokens) - i) {
		return len(tokens)
	}
	for j := i + 3; j < len(tokens); j++ {
		switch t := &tokens[j]; {
		case t.is("{"):
			depth++
		case t.is("}"):
			if depth--; depth == 0 {
				s.funcs[tokens[i].literal()] = tokens[i+3 : j+1]
				return j + 1
			}
		}
	}
	return len(tokens)
}

// simple carries out one command with its redirections.
func (s *shell) simple(tokens []token, maybe, pipe bool) answer {
	var args, targets []string
	line, assigns := tokens[0].line, true
	for i := 0; i < len(tokens); i++ {
		t := &tokens[i]
		if t.op == "" {
			expand := s.fields
			if assigns = assigns && t.assignment(); assigns {
				expand = s.expand // its value is one word, whatever is in it
			}
			w, ok := expand(t, len(args) > 0)
			if !ok {
				w = []string{"\x00"}
			}
			args = append(args, w...)
			continue
		}
		if i++; i >= len(tokens) || tokens[i].op != "" || t.other {
			continue
		}
		w, ok := s.expand(&tokens[i], true)
		switch {
		case t.op[0] == '<':
		case !ok:
			s.mentions(s.text, line)
		case t.op != ">&":
			targets = append(targets, w...)
		}
	}
	for len(args) > 0 {
		name, value, ok := strings.Cut(args[0], "=")
		if !ok || name == "" || strings.ContainsAny(name, "/.\x00") {
			break
		}
		if s.vars[name] = []string{value}; strings.Contains(value, "\x00") || maybe {
			delete(s.vars, name)
		}
		args = args[1:]
	}
	ended := likely
	if len(args) > 0 {
		ended = s.command(args, line, maybe)
	}
	for _, target := range targets {
		s.into(target, line, maybe)
	}
	if pipe && len(args) > 0 && path.Base(args[0]) == "tee" {
		for _, a := range args[1:] {
			if !strings.HasPrefix(a, "-") {
				s.into(a, line, maybe)
			}
		}
	}
	if len(args) > 0 && path.Base(args[0]) != "echo" && path.Base(args[0]) != "printf" && path.Base(args[0]) != "tee" {
		s.printed = nil
	}
	return ended
}

// into is what was printed last going to a file.
func (s *shell) into(target string, line int, maybe bool) {
	key, ok := strings.CutPrefix(s.absolute(target), "/proc/sys/")
	if !ok || !slices.Contains(s.f.paths, key) {
		return
	}
	a := act{key: key, maybe: maybe}
	if len(s.printed) > 0 {
		a.value = prints(path.Base(s.printed[0]), s.printed[1:])
	}
	a.opaque = len(s.printed) == 0 || strings.Contains(a.value, "\x00")
	s.add(line, a)
}
