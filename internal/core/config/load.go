package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Load reads the file at path and then the files conf.d/*.toml beside it, in
// the order of their names; a later one wins, key by key. A file or directory
// that does not exist says nothing: the defaults hold. Files in conf.d whose
// names begin with a dot are skipped.
//
// Both are looked for below the directory root, "" for the host itself, and
// named with it in origins and problems. Symbolic links are followed inside of
// it. What others than root, or the owner of the tree, can change is a problem.
//
// An error is an Errors with all that is wrong with all files, or of root; the
// Config is then the zero value.
func Load(root, path string) (Config, Origins, error) {
	s, err := open(root)
	if err != nil {
		return Config{}, nil, err
	}
	defer s.close()
	l := newLoader(s)
	dir := filepath.Dir(path)
	dropins := filepath.Join(dir, "conf.d")
	if l.safe(dir) {
		if !s.missing(path) {
			l.read(path)
		}
		if l.safe(dropins) {
			l.readDir(dropins)
		}
	}
	return l.result()
}

// Check reads one file on its own. That it does not exist is a problem, too.
// It may be anybody's: it need not be in its place yet. An error is an Errors.
func Check(path string) error {
	l := newLoader(&source{})
	l.read(path)
	_, _, err := l.result()
	return err
}

// A loader reads one file after the other into a Config.
type loader struct {
	source  *source
	config  Config
	origins Origins
	files   []string // files and directories in the order in which they were read
	errs    Errors
}

func newLoader(s *source) *loader {
	return &loader{source: s, config: Default(), origins: Origins{}}
}

func (l *loader) result() (Config, Origins, error) {
	l.together()
	if len(l.errs) == 0 {
		return l.config, l.origins, nil
	}
	slices.SortStableFunc(l.errs, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(l.files, a.File), slices.Index(l.files, b.File)),
			cmp.Compare(a.Line, b.Line),
		)
	})
	return Config{}, nil, l.errs
}

// begin makes name the file that problems are about.
func (l *loader) begin(name string) { l.files = append(l.files, name) }

// current is the file that is being read.
func (l *loader) current() string { return l.files[len(l.files)-1] }

// problem keeps what is wrong with the current file.
func (l *loader) problem(p *Problem) {
	p.File = l.current()
	l.errs = append(l.errs, *p)
}

// wrong keeps what is wrong with a key of the current file.
func (l *loader) wrong(n node, p *Problem) {
	p.Line, p.Key = n.line, n.key()
	l.problem(p)
}

// safe reports whether a directory, unless it does not exist, is one that
// nobody but root can add files to. The sticky bit does not help: it guards
// the files that are there, not against new ones.
func (l *loader) safe(dir string) bool {
	info, err := l.source.stat(dir)
	if err != nil {
		return true // its reader says why
	}
	p := l.source.distrusted(dir, info)
	if p != nil {
		l.begin(l.source.shown(dir))
		l.problem(p)
	}
	return p == nil
}

func (l *loader) readDir(dir string) {
	entries, err := l.source.list(dir)
	if err != nil && !l.source.missing(dir) {
		l.begin(l.source.shown(dir))
		l.problem(unreadable(l.source.shown(dir), err))
		return
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			l.read(filepath.Join(dir, name))
		}
	}
}

func (l *loader) read(name string) {
	l.begin(l.source.shown(name))
	text, p := l.source.read(name)
	if p != nil {
		l.problem(p)
		return
	}
	l.document(text)
}

// document takes the text of the current file.
func (l *loader) document(text string) {
	top, p := parse(text)
	if p != nil {
		l.problem(p)
		return
	}
	for _, n := range top {
		l.top(n)
	}
}

// top takes a key from the top of the file: a value or a table.
func (l *loader) top(n node) {
	switch schema := l.config.schema(); {
	case n.name() == "lock" && n.isTable():
		for _, child := range n.nodes {
			l.lock(child)
		}
	case !schema.isTable(n.name()):
		l.take(schema, n)
	case !n.isTable():
		l.wrong(n, wrong("must be a table", fmt.Sprintf("write [%s] on a line of its own, its keys below", n.key())))
	case n.name() == "sysctl":
		l.sysctls(n)
	default:
		for _, child := range n.nodes {
			l.take(schema, child)
		}
	}
}

// lock says what to write in place of a key of [lock], which is no more: the
// lock refuses, and what it could do besides is what mode enforce does.
func (l *loader) lock(n node) {
	hint := `remove it; mode = "lock" has writers refused`
	if n.value == "rewrite" {
		hint = `remove it, and write mode = "enforce" instead of mode = "lock": there the write succeeds, and the kernel stores our value`
	}
	l.wrong(n, wrong("there is no such key any more", hint))
}

// take sets the value of a key that is no table.
func (l *loader) take(schema schema, n node) {
	f, ok := schema.field(n.key())
	if !ok {
		l.wrong(n, wrong("unknown key", schema.suggest(n)))
		return
	}
	p := f.value.set(n.value)
	if p == nil {
		l.origins[f.key] = Origin{l.current(), n.line}
		return
	}
	if p.Hint == "" {
		p.Hint = fmt.Sprintf("the default is %s = %s", n.name(), schema.byDefault(f.key))
	}
	l.wrong(n, p)
}

// sysctls takes the table [sysctl], whose keys are not known beforehand.
func (l *loader) sysctls(table node) {
	lines := make(map[guard.Key]int)
	for _, n := range table.nodes {
		if n.isTable() {
			name := unquoted(n)
			l.wrong(n, wrong("TOML takes the dots for tables", fmt.Sprintf("put the name in quotes: %q = …", name)))
			continue
		}
		key, p := sysctlKey(n.name())
		if p != nil {
			l.wrong(n, p)
			continue
		}
		if line, ok := lines[key]; ok {
			l.wrong(n, wrong(fmt.Sprintf("is set twice, first on line %d", line), "keep one of the two"))
			continue
		}
		lines[key] = n.line
		l.sysctl(key, n)
	}
}

func (l *loader) sysctl(key guard.Key, n node) {
	s := Sysctl{Key: key}
	if p := s.set(n.value); p != nil {
		l.wrong(n, p)
		return
	}
	if have := l.config.find(key); have != nil {
		*have = s
	} else {
		l.config.Sysctl = append(l.config.Sysctl, s)
	}
	l.origins[sysctlField(key)] = Origin{l.current(), n.line}
}

// together says which values are right on their own but not with each other.
func (l *loader) together() {
	at := func(key, msg, hint string) {
		o := l.origins[key]
		l.errs = append(l.errs, Problem{o.File, o.Line, key, msg, hint})
	}
	l.unconfirmed(at)
	if p := l.config.Persist; p.ModulesLoad == p.Sysctl {
		key := "persist.sysctl"
		if _, ok := l.origins[key]; !ok {
			key = "persist.modules_load"
		}
		at(key, "modules_load and sysctl name the same file", "give each a file of its own")
	}
	if b := l.config.Bridges; l.config.Scope == ScopeBridges && !b.Auto && len(b.Match) == 0 {
		at("bridges.match", `is empty, so scope "bridges" would guard nothing`, `name the bridges that carry pods, such as "cni*"`)
	}
}
