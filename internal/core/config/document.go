package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A node is one key of a TOML document: its value and where that is.
type node struct {
	path  toml.Key
	value any    // string, int64, float64, bool, time.Time, []any, or a table
	line  int    // counted from 1; 0 when unknown
	start int    // offset of the value in the text, or of the header of a table
	nodes []node // the keys of a table, in the order of the text
}

// key returns the path as TOML spells it: sysctl."net.ipv4.ip_forward".
func (n node) key() string { return n.path.String() }

// name returns the last part of the path, without quotes.
func (n node) name() string { return n.path[len(n.path)-1] }

func (n node) isTable() bool {
	_, ok := n.value.(map[string]any)
	return ok
}

// parse returns the top-level keys of a TOML document in the order of the text, or
// the first syntax error.
func parse(text string) ([]node, *Problem) {
	if p := tooDeep(text); p != nil {
		return nil, p
	}
	if p := tooMany(text); p != nil {
		return nil, p
	}
	var top map[string]toml.Primitive
	meta, err := toml.Decode(text, &top)
	if err != nil {
		return nil, syntax(err, text)
	}
	return nodes(meta, text, node{}, top), nil
}

// deepKey matches a key with more parts than any of ours.
var deepKey = regexp.MustCompile(`(?:` + keyPart + `[ \t]*\.[ \t]*){16}`)

const (
	keyPart   = `(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')`
	maxInline = 64 // nested tables in braces; none are needed
)

// tooDeep refuses deep nesting: the toml package needs time and memory in proportion
// to the square of the depth, and a file in a tree is not always root's.
func tooDeep(text string) *Problem {
	at := -1
	if m := deepKey.FindStringIndex(text); m != nil {
		at = m[0]
	} else if strings.Count(text, "{") > maxInline {
		at = strings.IndexByte(text, '{')
	}
	if at < 0 {
		return nil
	}
	p := wrong("nests tables too deeply", "a key has two parts at most: a [table] on a line of its own, its keys below")
	p.Line = 1 + strings.Count(text[:at], "\n")
	return p
}

// aKey begins a line that has a key or the header of a table.
var aKey = regexp.MustCompile(`(?m)^[ \t]*(?:\[|` + keyPart + `[ \t]*[.=])`)

// maxKeys is far more than a configuration has. Reading takes time by the square
// of their number: 7,000 in 64 KiB took 5 s.
const maxKeys = 1000

// tooMany refuses what has very many keys.
func tooMany(text string) *Problem {
	found := aKey.FindAllStringIndex(text, maxKeys+1)
	if len(found) <= maxKeys {
		return nil
	}
	p := wrong(fmt.Sprintf("has more than %d keys and tables", maxKeys), "is it the right file? nfguard.toml has a few dozen")
	p.Line = 1 + strings.Count(text[:found[maxKeys][0]], "\n")
	return p
}

// nodes returns the keys of a table in the order of the text.
func nodes(meta toml.MetaData, text string, parent node, table map[string]toml.Primitive) []node {
	found := make([]node, 0, len(table))
	for name, prim := range table {
		n := node{path: append(slices.Clip(parent.path), name), line: parent.line, start: parent.start}
		n.locate(meta, text, prim)
		if n.isTable() {
			var sub map[string]toml.Primitive
			if err := meta.PrimitiveDecode(prim, &sub); err != nil {
				panic(err) // a table always decodes into such a map
			}
			n.nodes = nodes(meta, text, n, sub)
			if n.line == parent.line && len(n.nodes) > 0 { // no header of its own: a.b = 1
				n.line, n.start = n.nodes[0].line, n.nodes[0].start
			}
		}
		found = append(found, n)
	}
	slices.SortFunc(found, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.start, b.start), strings.Compare(a.name(), b.name()))
	})
	return found
}

// locate fills in the value and its place, if that is known.
//
// The toml package (v1.6.0) gives the place of a value only in an error about it. So
// node's decoding returns an error, which then contains the place.
func (n *node) locate(meta toml.MetaData, text string, prim toml.Primitive) {
	var at toml.ParseError
	if errors.As(meta.PrimitiveDecode(prim, n), &at) && at.Position.Line > 0 {
		n.start, n.line = at.Position.Start, lineAt(text, at.Position)
	}
}

// lineAt counts the lines up to p. p.Line is not what we need: it is where the parser
// was, which is the last line of a value of several lines, or past the end. p.Start
// is -1 for a control character at the very beginning.
func lineAt(text string, p toml.Position) int {
	return 1 + strings.Count(text[:max(0, p.Start)], "\n")
}

var errLocate = errors.New("decoded only to get its place")

// UnmarshalTOML keeps the value and returns an error.
func (n *node) UnmarshalTOML(value any) error {
	n.value = value
	return errLocate
}

var (
	bareText = regexp.MustCompile(`^expected value but found "([^"]+)" instead$`)
	setTwice = regexp.MustCompile(`^Key '(.+)' has already been defined$`)
)

// syntax turns an error of the toml package about a document into a problem.
func syntax(err error, text string) *Problem {
	p := wrong(err.Error(), `write key = value on a line, put a text in "quotes", and a [table] on a line of its own`)
	if perr := (toml.ParseError{}); errors.As(err, &perr) {
		p.Line = lineAt(text, perr.Position)
		p.Msg = strings.TrimSuffix(perr.Message, ".")
		p.Key = perr.LastKey
	}
	if m := bareText.FindStringSubmatch(p.Msg); m != nil {
		p.Hint = fmt.Sprintf("put a text in quotes: %q", m[1])
	}
	if m := setTwice.FindStringSubmatch(p.Msg); m != nil {
		p.Key, p.Msg, p.Hint = m[1], "is set twice", "keep one of the two"
	}
	return p
}
