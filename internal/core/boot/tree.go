package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/files"
)

const (
	maxFile  = 1 << 20  // a drop-in; a longer one is read so far
	maxIndex = 16 << 20 // modules.dep: 0.5 MB for a distribution's kernel
)

// tree reads the files of a host below a root. An error is kept in unread, and
// the file then counts as empty.
type tree struct {
	files     *files.Tree             // nil: could not be opened
	tails     map[string]bool         // of the keys that matter
	sysctl    map[string][]assignment // the lines that matter, by file
	modprobe  map[kmod][]rule         // of modprobe.d, by who reads it
	sysctls   []procps                // how sysctl may read; nil: not looked at yet
	modprobes []kmod                  // how modprobe may read; nil: not looked at yet
	unread    []string
	there     map[string]bool     // what was asked for
	passed    map[string][]unread // by family; not there: not looked at yet
	said      func(path string)   // of what is looked at now
}

func open(o *Options) *tree {
	if o.Module == "" {
		o.Module = "br_netfilter"
	}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Reading == nil {
		o.Reading = func(string) {}
	}
	t := &tree{said: o.Reading, sysctl: make(map[string][]assignment), passed: make(map[string][]unread), there: make(map[string]bool), modprobe: make(map[kmod][]rule), tails: map[string]bool{tail(modulesDisabled): true}}
	for _, s := range o.Keys {
		t.tails[tail(string(s.Key))] = true
	}
	open := files.OpenTree
	if o.Image {
		open = files.OpenImage
	}
	var err error
	if t.files, err = open(o.Root); err != nil {
		t.unread = append(t.unread, err.Error())
	}
	return t
}

func (t *tree) close() {
	if t.files != nil {
		t.files.Close()
	}
}

// read returns the content of a file, and false when there is none. A link to
// /dev/null is an empty file.
func (t *tree) read(name string, limit int64) ([]byte, bool) {
	if t.files == nil {
		return nil, false // said once, in unread
	}
	t.said(name)
	text, err := t.files.Read(name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.complain(name, err)
	}
	return text, true
}

// list returns the entries of a directory by name, none where there is none.
func (t *tree) list(dir string) []fs.DirEntry {
	if t.files == nil {
		return nil
	}
	t.said(dir)
	entries, err := t.files.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.complain(dir, err)
	}
	return entries
}

func (t *tree) exists(name string) bool {
	if t.files == nil {
		return false
	}
	there, known := t.there[name]
	if !known {
		t.said(name)
		there = t.files.Exists(name)
		t.there[name] = there
	}
	return there
}

// script returns the text of a file that begins with "#!", and with named also of
// another one; "" where there is none.
func (t *tree) script(name string, named bool) string {
	if t.files == nil {
		return ""
	}
	t.said(name)
	f, err := t.files.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 2)
	if n, err := io.ReadFull(f, head); !named && string(head) != "#!" {
		return ""
	} else if err != nil {
		return string(head[:n])
	}
	rest, err := files.Limited(f, maxScript)
	if err != nil {
		return ""
	}
	return string(head) + string(rest)
}

// executable reports whether a name leads to a program.
func (t *tree) executable(name string) bool {
	if t.files == nil {
		return false
	}
	t.said(name)
	info, err := t.files.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// masked reports whether a unit or drop-in is a link to /dev/null.
func (t *tree) masked(name string) bool {
	if t.files == nil {
		return false
	}
	t.said(name)
	at, err := t.files.Resolve(name)
	return err == nil && at == files.DevNull
}

func (t *tree) complain(name string, err error) {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if errors.As(err, new(*files.TooLarge)) {
		err = fmt.Errorf("%w: the rest was not read", err)
	}
	if said := fmt.Sprintf("%s: %v", name, err); !slices.Contains(t.unread, said) {
		t.unread = append(t.unread, said)
	}
}

// dropins returns the paths of a family of drop-in files in the order in
// which they are read: by name, and for one name that of the first directory.
func (t *tree) dropins(dirs []string, takes func(fs.DirEntry) bool) []string {
	return t.chosen(dirs, func(_ string, e fs.DirEntry) bool { return takes(e) })
}

func (t *tree) chosen(dirs []string, takes func(dir string, e fs.DirEntry) bool) []string {
	chosen := make(map[string]string)
	for _, dir := range dirs {
		for _, e := range t.list(dir) {
			if _, taken := chosen[e.Name()]; !taken && takes(dir, e) {
				chosen[e.Name()] = path.Join(dir, e.Name())
			}
		}
	}
	paths := make([]string, 0, len(chosen))
	for _, p := range chosen {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return paths
}

// below returns the directories of a family in their order of precedence, as
// systemd and kmod have it: sysctl.d(5), modprobe.d(5). Where /lib is
// /usr/lib, it adds nothing.
func below(family string) []string {
	dirs := []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"}
	for i := range dirs {
		dirs[i] += "/" + family
	}
	return dirs
}

// conf reports whether systemd takes e for a drop-in: *.conf, not hidden. A
// directory of that name is taken, and so hides a file (seen: 252).
func conf(e fs.DirEntry) bool {
	return strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".")
}

// confOrHidden is how procps and TuneD see it.
func confOrHidden(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".conf") }
