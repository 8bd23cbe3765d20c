package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

const (
	maxFile  = 1 << 20  // a drop-in; a longer one is read so far
	maxIndex = 16 << 20 // modules.dep: 0.5 MB for a distribution's kernel
	devNull  = "/dev/null"
)

// tree reads the files of a host below a root. Paths are absolute, as the
// host sees them, and so are links: "/usr/lib/x" is looked for in the root.
// An error is kept in unread, and the file then counts as empty.
type tree struct {
	root   *os.Root                // nil: could not be opened
	links  map[string]string       // where what was looked at points to; "" is no link
	tails  map[string]bool         // of the keys that matter
	sysctl map[string][]assignment // the lines that matter, by file
	kmod   []rule                  // of modprobe.d; nil: not read yet
	unread []string
	said   func(path string) // of what is looked at now
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
	t := &tree{said: o.Reading, links: make(map[string]string), sysctl: make(map[string][]assignment), tails: map[string]bool{tail(modulesDisabled): true}}
	for _, s := range o.Keys {
		t.tails[tail(string(s.Key))] = true
	}
	root, err := os.OpenRoot(o.Root)
	if err != nil {
		t.unread = append(t.unread, err.Error())
		return t
	}
	t.root = root
	return t
}

func (t *tree) close() {
	if t.root != nil {
		_ = t.root.Close() // it was only read from
	}
}

// read returns the content of a file, and false when there is none. A link to
// /dev/null is an empty file, in a tree without /dev as well.
func (t *tree) read(name string, limit int64) ([]byte, bool) {
	at, err := t.resolve(name)
	if at == devNull {
		return nil, true
	}
	var text []byte
	if err == nil {
		text, err = t.slurp(at, limit)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.complain(name, err)
	}
	return text, true
}

func (t *tree) slurp(at string, limit int64) ([]byte, error) {
	// A FIFO would hold us for ever without O_NONBLOCK.
	f, err := t.root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), limit)) + bytes.MinRead)
	_, err = b.ReadFrom(io.LimitReader(f, limit+1))
	text := b.Bytes()
	if err == nil && int64(len(text)) > limit {
		return text[:limit], fmt.Errorf("only the first %d bytes were read", limit)
	}
	return text, err
}

// list returns the entries of a directory by name, none where there is none.
func (t *tree) list(dir string) []fs.DirEntry {
	at, err := t.resolve(dir)
	if err == nil {
		var entries []fs.DirEntry
		if entries, err = fs.ReadDir(t.root.FS(), at); err == nil {
			for _, e := range entries {
				if e.Type()&fs.ModeSymlink == 0 {
					t.links[path.Join(at, e.Name())] = "" // spares a look at each
				}
			}
			return entries
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.complain(dir, err)
	}
	return nil
}

func (t *tree) exists(name string) bool {
	at, err := t.resolve(name)
	if err != nil {
		return false
	}
	_, err = t.root.Lstat(at)
	return err == nil
}

// masked reports whether a unit or drop-in is a link to /dev/null.
func (t *tree) masked(name string) bool {
	at, err := t.resolve(name)
	return err == nil && at == devNull
}

// resolve follows the links of a path and returns it relative to the root, or
// devNull.
func (t *tree) resolve(name string) (string, error) {
	if t.root == nil {
		return "", fs.ErrNotExist // said once, in unread
	}
	t.said(name)
	at, todo := ".", strings.Split(strings.Trim(name, "/"), "/")
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
		target, err := t.link(next)
		if err != nil {
			return "", err
		}
		if target == "" {
			at = next
			continue
		}
		if links++; links > 40 { // as many as the kernel follows
			return "", syscall.ELOOP
		}
		if path.IsAbs(target) {
			at = "."
		}
		if len(todo) == 0 && path.Join("/", at, target) == devNull {
			return devNull, nil
		}
		todo = slices.Concat(strings.Split(target, "/"), todo)
	}
	return at, nil
}

// link returns where a symbolic link points to, "" for anything else.
func (t *tree) link(at string) (string, error) {
	if target, known := t.links[at]; known {
		return target, nil
	}
	info, err := t.root.Lstat(at)
	if err != nil {
		return "", err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = t.root.Readlink(at); err != nil {
			return "", err
		}
	}
	t.links[at] = target
	return target, nil
}

func (t *tree) complain(name string, err error) {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if said := fmt.Sprintf("%s: %v", name, err); !slices.Contains(t.unread, said) {
		t.unread = append(t.unread, said)
	}
}

// dropins returns the paths of a family of drop-in files in the order in
// which they are read: by name, and for one name that of the first directory.
func (t *tree) dropins(dirs []string, takes func(fs.DirEntry) bool) []string {
	chosen := make(map[string]string)
	for _, dir := range dirs {
		for _, e := range t.list(dir) {
			if _, taken := chosen[e.Name()]; !taken && takes(e) {
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
