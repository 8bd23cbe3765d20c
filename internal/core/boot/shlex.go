package boot

import "strings"

// token is a word of a shell's text, or one of its operators.
type token struct {
	op    string // ";", "&&", "||", "|", "&", "(", ")", ">", ">>", "<", "\n"; "" for a word
	parts []part
	other bool // of a redirection: not of the output
	line  int  // counted from 0
}

// part is a piece of a word: text as it is, or the name of a variable whose
// value stands there. The name "" is something that is not known.
type part struct {
	text     string
	variable bool
	quoted   bool
}

// is reports whether t is the unquoted word text, which may be a keyword.
func (t *token) is(text string) bool {
	return t.op == "" && len(t.parts) == 1 && t.parts[0] == part{text: text}
}

// assignment reports whether t is NAME=…, as one before a command.
func (t *token) assignment() bool {
	if len(t.parts) == 0 || t.parts[0].variable || t.parts[0].quoted {
		return false
	}
	name, _, ok := strings.Cut(t.parts[0].text, "=")
	return ok && name != "" && !strings.ContainsAny(name, "/.\x00")
}

// literal returns what a word says where it has no variables, or "".
func (t *token) literal() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable {
			return ""
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// shlex splits a shell's text into tokens: sh(1) as far as scripts at boot use
// it. What it does not know, like "$(…)", is a part that is not known.
func shlex(text string) []token {
	l := lexer{rest: strings.ReplaceAll(text, "\x00", "$?")}
	for l.rest != "" {
		l.next()
	}
	l.end()
	return l.tokens
}

type lexer struct {
	rest   string
	line   int
	tokens []token
	word   []part
	in     bool // a word has begun, if only by quotes
}

func (l *lexer) add(p part) {
	l.in = true
	if n := len(l.word); n > 0 && l.word[n-1] == (part{quoted: true}) && p.quoted {
		l.word[n-1] = p // of a text in quotes that begins
		return
	}
	l.word = append(l.word, p)
}

func (l *lexer) end() {
	if l.in {
		l.tokens = append(l.tokens, token{parts: l.word, line: l.line})
	}
	l.word, l.in = nil, false
}

func (l *lexer) take(n int) string {
	s := l.rest[:n]
	l.rest = l.rest[n:]
	return s
}

func (l *lexer) next() {
	c := l.rest[0]
	switch {
	case c == '\\':
		l.take(1)
		if l.rest == "" {
			return
		}
		if e := l.take(1); e != "\n" {
			l.add(part{text: e, quoted: true})
		} else {
			l.line++
		}
	case c == '\'':
		l.take(1)
		i := strings.IndexByte(l.rest, '\'')
		if i < 0 {
			i = len(l.rest)
		}
		s := l.take(i)
		l.add(part{text: s, quoted: true})
		l.line += strings.Count(s, "\n")
		if l.rest != "" {
			l.take(1)
		}
	case c == '"':
		l.take(1)
		l.double()
	case c == '$', c == '`':
		l.variable(false)
	case c == '#' && !l.in:
		i := strings.IndexByte(l.rest, '\n')
		if i < 0 {
			i = len(l.rest)
		}
		l.take(i)
	case strings.IndexByte(" \t\r", c) >= 0:
		l.end()
		l.take(1)
	case strings.IndexByte("\n;&|()<>", c) >= 0:
		l.operator()
	default:
		i := strings.IndexAny(l.rest, "\\'\"$` \t\r\n;&|()<>")
		if i < 0 {
			i = len(l.rest)
		}
		l.add(part{text: l.take(i)})
	}
}

func (l *lexer) operator() {
	other := false
	if redirects := l.rest[0] == '<' || l.rest[0] == '>'; redirects && len(l.word) == 1 {
		// A number right before it is a descriptor's, 1 that of the output.
		if p := l.word[0]; !p.variable && !p.quoted && p.text != "" && digits(p.text) == len(p.text) {
			other = p.text != "1"
			l.word, l.in = nil, false
		}
	}
	l.end()
	op := l.take(1)
	for _, two := range []string{"&&", "||", ">>", ">|", ">&", "&>", "<<"} {
		if op == two[:1] && strings.HasPrefix(l.rest, two[1:]) {
			op += l.take(1)
			break
		}
	}
	l.tokens = append(l.tokens, token{op: op, other: other, line: l.line})
	if op == "\n" {
		l.line++
	}
}

// double reads up to the end of a double-quoted text.
func (l *lexer) double() {
	l.add(part{quoted: true})
	for l.rest != "" {
		switch c := l.rest[0]; c {
		case '"':
			l.take(1)
			return
		case '\\':
			l.take(1)
			if l.rest != "" {
				e := l.take(1)
				if strings.Contains("$`\"\\", e) {
					l.add(part{text: e, quoted: true})
				} else if e != "\n" {
					l.add(part{text: "\\" + e, quoted: true})
				}
			}
		case '$', '`':
			l.variable(true)
		default:
			i := strings.IndexAny(l.rest, "\"\\$`")
			if i < 0 {
				i = len(l.rest)
			}
			l.line += strings.Count(l.rest[:i], "\n")
			l.add(part{text: l.take(i), quoted: true})
		}
	}
}

// variable reads "$name", "${name}" or something else that begins so, which is
// not known.
func (l *lexer) variable(quoted bool) {
	if l.take(1) == "`" {
		l.skip('`', '`')
		l.add(part{variable: true, quoted: quoted})
		return
	}
	name := l.rest[:len(l.rest)-len(strings.TrimLeft(l.rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"))]
	switch {
	case name != "":
		l.add(part{text: l.take(len(name)), variable: true, quoted: quoted})
	case strings.HasPrefix(l.rest, "{"):
		inner := l.skip('{', '}')
		if strings.Trim(inner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
			inner = ""
		}
		l.add(part{text: inner, variable: true, quoted: quoted})
	case strings.HasPrefix(l.rest, "("):
		l.skip('(', ')')
		l.add(part{variable: true, quoted: quoted})
	case l.rest != "" && strings.IndexByte("?*@#!$-", l.rest[0]) >= 0:
		l.take(1)
		l.add(part{variable: true, quoted: quoted})
	default:
		l.add(part{text: "$", quoted: quoted})
	}
}

// skip reads what stands between a pair of marks, and returns it.
func (l *lexer) skip(from, to byte) string {
	depth, start := 0, 0
	if from != to {
		start = 1
	}
	for i := range len(l.rest) {
		c := l.rest[i]
		switch {
		case c == '\n':
			l.line++
		case c == to && (from == to || depth == 1):
			inner := l.rest[start:i]
			l.take(i + 1)
			return inner
		case c == to:
			depth--
		case c == from:
			depth++
		}
	}
	l.rest = ""
	return "?"
}
