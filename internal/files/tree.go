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

// DevNull is what [Tree.Resolve] says of a link to /dev/null, in a tree
// without /dev as well: to systemd and others such a file is masked.
const DevNull = "/dev/null"

// Tree is the files below a directory, as a host sees them that has it for
// its root: names are absolute, and so can links be, and "/usr/lib/x" is
// looked for below the directory. Nothing leads out of it. A Tree remembers
// the links that it has seen, and so is for one look; it belongs to one
// goroutine.
type Tree struct {
	root   *os.Root
	hidden []string
	seen   map[string]seen
}

// seen is what was found at a name.
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

// OpenImage opens the tree below dir of a host that is not running. What is
// below /proc, /sys, /dev and /run there can only be the running host's, and
// counts as absent.
func OpenImage(dir string) (*Tree, error) {
	t, err := OpenTree(dir)
	if err == nil {
		t.hidden = []string{"proc", "sys", "dev", "run"}
	}
	return t, err
}

// Close lets go of the directory.
func (t *Tree) Close() { _ = t.root.Close() } // nothing was written through it

// Resolve follows the links of a name and returns what it leads to, relative
// to the tree, or [DevNull].
func (t *Tree) Resolve(name string) (string, error) { return t.resolve(name, false) }

// resolve makes the directories that are missing, if it is told to.
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

// look tells what there is at a name whose directories are no links.
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

// Open opens a regular file for reading. The error of anything else, also of
// a link to /dev/null, is a [NotRegular].
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

// Read returns the content of a regular file; a link to /dev/null is an empty
// one. Of a file that is larger than limit it returns the beginning, and a
// [TooLarge].
func (t *Tree) Read(name string, limit int64) ([]byte, error) {
	at, err := t.Resolve(name)
	if err != nil || at == DevNull {
		return nil, err
	}
	return t.read(name, at, limit)
}

// ReadNoLink is [Tree.Read] for a name that is not to be a link.
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

// List returns the entries of a directory by name. It waits for nothing that
// stands in its place.
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

// Stat tells what a name leads to.
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

// Lstat tells what stands at a name itself.
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

// Replace puts a file in place as a whole, and makes its directory where there
// is none. After a crash at any point there is the old content or the new,
// never half of one; needs room for both. The file is not to be a link. Where
// there is one that is not mine, by how it begins, it stays, and the error is
// [ErrForeign].
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
	return named(name, replace(d, base, text, mine, public, true))
}

// named has an error name the file as its caller does.
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
