package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// DevNull is what [Tree.Resolve] returns for a link to /dev/null, even in a tree
// without /dev: for systemd and others, such a file is masked.
const DevNull = "/dev/null"

// Tree is the files below a directory, as a host sees them whose root directory it
// is: names are absolute, links can be, and "/usr/lib/x" is looked up below the
// directory. Nothing leads out of it. A Tree remembers the links that it has seen,
// so use a new one for each look. It is for one goroutine.
type Tree struct {
	root   *os.Root
	hidden []string
	seen   map[string]seen
}

// seen is what a name was found to be.
type seen struct {
	kind   fs.FileMode
	target string // of a link
}

// hidden is the error about a name below a directory that [Tree.Hide] hides.
type hidden struct{}

func (hidden) Error() string        { return "it is not kept in an image" }
func (hidden) Is(target error) bool { return target == fs.ErrNotExist }

// Hidden reports whether err is about a name below a directory that is hidden.
func Hidden(err error) bool { return errors.As(err, new(hidden)) }

// OpenTree opens the tree below dir, which can be a link.
func OpenTree(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root: root, seen: make(map[string]seen)}, nil
}

// OpenImage opens the tree below dir of a host that is not running. Anything below
// its /proc, /sys, /dev and /run can only belong to the running host, and counts as
// absent.
func OpenImage(dir string) (*Tree, error) {
	t, err := OpenTree(dir)
	if err == nil {
		t.hidden = []string{"proc", "sys", "dev", "run"}
	}
	return t, err
}

// Close closes the directory.
func (t *Tree) Close() { _ = t.root.Close() } // nothing was written through it

// Resolve follows the links of a name and returns what it leads to, relative
// to the tree, or [DevNull].
func (t *Tree) Resolve(name string) (string, error) { return t.resolve(name, false) }

// resolve creates missing directories if missing is set.
func (t *Tree) resolve(name string, missing bool) (string, error) {
	at, todo := ".", strings.Split(strings.Trim(name, "/"), "/")
	fail := func(err error) (string, error) {
		var inner *fs.PathError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return "", &fs.PathError{Op: "open", Path: name, Err: err}
	}
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		s, err := t.look(next)
		if missing && errors.Is(err, fs.ErrNotExist) && !Hidden(err) {
			err = t.root.Mkdir(next, 0o755)
			s.kind = fs.ModeDir
		}
		if err != nil {
			return fail(err)
		}
		if s.target == "" {
			at = next
			continue
		}
		if links++; links > 40 { // as many as the kernel follows
			return fail(syscall.ELOOP)
		}
		if path.IsAbs(s.target) {
			at = "."
		}
		if len(todo) == 0 && path.Join("/", at, s.target) == DevNull {
			return DevNull, nil
		}
		todo = slices.Concat(strings.Split(s.target, "/"), todo)
	}
	return at, nil
}

// look returns what a name is whose directories are not links.
func (t *Tree) look(at string) (seen, error) {
	if slices.Contains(t.hidden, at) {
		return seen{}, hidden{}
	}
	if s, known := t.seen[at]; known {
		return s, nil
	}
	info, err := t.root.Lstat(at)
	if err != nil {
		return seen{}, err
	}
	s := seen{kind: info.Mode().Type()}
	if s.kind&fs.ModeSymlink != 0 {
		if s.target, err = t.root.Readlink(at); err != nil {
			return seen{}, err
		}
	}
	t.seen[at] = s
	return s, nil
}

// Open opens a regular file for reading. For anything else, including a link to
// /dev/null, the error is a [NotRegular].
func (t *Tree) Open(name string) (*os.File, error) {
	at, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	return t.open(name, at)
}

func (t *Tree) open(name, at string) (*os.File, error) {
	refused := func(kind fs.FileMode) error {
		return &fs.PathError{Op: "open", Path: name, Err: &NotRegular{kind}}
	}
	if at == DevNull {
		return nil, refused(fs.ModeDevice)
	}
	if at == "." {
		return nil, refused(fs.ModeDir)
	}
	s, err := t.look(at)
	if err != nil {
		return nil, err
	}
	if s.kind != 0 {
		return nil, refused(s.kind)
	}
	return opened(t.root.OpenFile(at, os.O_RDONLY|careful, 0))
}

// Read returns the content of a regular file; a link to /dev/null counts as an empty
// one. If the file is larger than limit, Read returns the beginning, and a
// [TooLarge].
func (t *Tree) Read(name string, limit int64) ([]byte, error) {
	at, err := t.Resolve(name)
	if err != nil || at == DevNull {
		return nil, err
	}
	return t.read(name, at, limit)
}

// ReadNoLink is [Tree.Read] for a name that must not be a link.
func (t *Tree) ReadNoLink(name string, limit int64) ([]byte, error) {
	dir, base := path.Split(name)
	at, err := t.Resolve(dir)
	if err != nil {
		return nil, err
	}
	return t.read(name, path.Join(at, base), limit)
}

func (t *Tree) read(name, at string, limit int64) ([]byte, error) {
	f, err := t.open(name, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Limited(f, limit)
}

// List returns the entries of a directory, sorted by name. It does not block on
// something else in its place, such as a FIFO.
func (t *Tree) List(dir string) ([]fs.DirEntry, error) {
	at, err := t.Resolve(dir)
	if err != nil {
		return nil, err
	}
	f, err := t.root.OpenFile(at, os.O_RDONLY|syscall.O_DIRECTORY|careful, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			t.seen[path.Join(at, e.Name())] = seen{kind: e.Type()} // spares a look at each
		}
	}
	return entries, nil
}

// Stat returns what a name leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	at, err := t.Resolve(name)
	switch {
	case err != nil:
		return nil, err
	case at == DevNull:
		return nil, &fs.PathError{Op: "stat", Path: name, Err: &NotRegular{fs.ModeDevice}}
	}
	return t.root.Lstat(at)
}

// Lstat returns what is at a name itself.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	dir, base := path.Split(path.Clean("/" + name))
	at, err := t.Resolve(dir)
	if err != nil {
		return nil, err
	}
	return t.root.Lstat(path.Join(at, base))
}

// Exists reports whether a name leads to something.
func (t *Tree) Exists(name string) bool {
	_, err := t.Stat(name)
	return err == nil
}

// Replace atomically replaces a file, and creates its directory if it does not exist.
// After a crash at any point the file has the old content or the new one, never half
// of one; the disk needs room for both. The file must not be a link. If there is a
// file whose beginning is not mine, it stays, and the error is [ErrForeign].
func (t *Tree) Replace(name string, text []byte, mine func(start []byte) bool) error {
	dir, base := path.Split(name)
	at, err := t.resolve(dir, true)
	if err != nil {
		return err
	}
	d, err := t.root.OpenRoot(at)
	if err != nil {
		return named(name, err)
	}
	defer d.Close()
	return named(name, replace(d, base, text, mine, public, true, ""))
}

// named makes an error name the file as the caller does.
func named(name string, err error) error {
	var inner *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &inner):
		return &fs.PathError{Op: inner.Op, Path: name, Err: inner.Err}
	case errors.As(err, &link):
		return &fs.PathError{Op: link.Op, Path: name, Err: link.Err}
	}
	return &fs.PathError{Op: "write", Path: name, Err: err}
}
