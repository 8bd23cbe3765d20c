package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Load reads the file at path and then the files conf.d/*.toml next to it, in the
// order of their names; a later one overrides an earlier one, key by key. It is no
// problem if a file or directory does not exist: the defaults apply. Files in conf.d
// whose names begin with a dot are skipped.
//
// Both are looked for below the directory root, "" for the host itself, and have it
// in front of their names in origins and problems. Symbolic links never lead out of
// it. A file that users other than root, or the owner of the tree, can change is a
// problem.
//
// The error is an Errors with all problems of all files, or about root itself; the
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

// Check reads one file on its own. It is a problem if the file does not exist, but
// anybody can own it, since it need not be in its final place. The error is an Errors.
func Check(path string) error {
	l := newLoader(&source{})
	l.read(path)
	_, _, err := l.result()
	return err
}

// A loader reads files into a Config, one after the other.
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
	l.leave()
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

// begin makes name the current file, which problems are about.
func (l *loader) begin(name string) { l.files = append(l.files, name) }

// current is the file that is being read.
func (l *loader) current() string { return l.files[len(l.files)-1] }

// problem adds a problem of the current file.
func (l *loader) problem(p *Problem) {
	p.File = l.current()
	l.errs = append(l.errs, *p)
}

// wrong adds a problem with a key of the current file.
func (l *loader) wrong(n node, p *Problem) {
	p.Line, p.Key = n.line, n.key()
	l.problem(p)
}

// safe reports whether only root can add files to a directory, or it does not exist.
// The sticky bit does not help: it protects the files that are there, but does not
// prevent new ones.
func (l *loader) safe(dir string) bool {
	info, err := l.source.stat(dir)
	if err != nil {
		return true // reading it reports the error
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

// lock says what to write instead of a key of [lock]. That table no longer exists:
// the lock always refuses, and mode enforce does what its other answer did.
func (l *loader) lock(n node) {
	hint := `remove it; mode = "lock" always refuses writers`
	if n.value == "rewrite" {
		hint = `remove it, and write mode = "enforce" instead of mode = "lock": there the write succeeds, and the kernel stores our value`
	}
	l.wrong(n, wrong("this key no longer exists", hint))
}

// take sets the value of a key that is not a table.
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

// sysctls takes the table [sysctl], whose keys are not known in advance.
func (l *loader) sysctls(table node) {
	lines := make(map[guard.Key]int)
	for _, n := range table.nodes {
		if n.isTable() {
			name := unquoted(n)
			l.wrong(n, wrong("in TOML, the dots mean tables", fmt.Sprintf("put the name in quotes: %q = …", name)))
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

// together reports values that are valid on their own but not in combination.
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
	if l.config.Scope == ScopeBridges {
		l.byFlags(at)
	}
}

// leave has the sysctls of the flags left alone where the flags take their place and
// no file says what to do about them.
func (l *loader) leave() {
	for i := range l.config.Sysctl {
		s := &l.config.Sysctl[i]
		if _, named := l.origins[sysctlField(s.Key)]; l.config.Scope == ScopeBridges && s.Key.ByFlag() && !named {
			s.Value, s.Ignore = "", true
		}
	}
}

// byFlags reports what scope "bridges" cannot be: a sysctl at 1 would hand over the
// frames of every bridge, and nothing to keep is a slip of the pen. With every flag
// left out it is neither: so it is said that nothing is needed here.
func (l *loader) byFlags(at func(key, msg, hint string)) {
	zero := false
	for _, s := range l.config.Sysctl {
		zero = zero || s.Key.ByFlag() && s.Value == "0"
		if s.Key.ByFlag() && s.Value == "1" {
			at(sysctlField(s.Key), `1 is for scope = "host": it would hand over the frames of every bridge`,
				fmt.Sprintf("write 0 to keep it at 0, or %q; flags under [bridges] says what the bridges of pods hand over", ignore))
		}
	}
	if b := l.config.Bridges; !b.Auto && len(b.Match) == 0 && len(b.Flags) > 0 && !zero {
		at("bridges.match", `is empty, so scope "bridges" would guard nothing`, `name the bridges that carry pods, such as "cni*"`)
	}
}
