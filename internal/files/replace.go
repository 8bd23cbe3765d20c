package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrForeign says that a file is somebody else's, and was left as it is.
var ErrForeign = errors.New("it is somebody else's file")

// errBusy says that another process writes the same file.
var errBusy = errors.New("another nfguard is writing it")

// Who may read a file: others, too, or its owner alone.
const (
	public  fs.FileMode = 0o644
	private fs.FileMode = 0o600
)

// startOf is how many bytes of a file are read to tell whose it is.
const startOf = 512

// Replace atomically replaces a file below a directory that can be another user's:
// see [openDir]. It does not sync the file. The file must not be a link. If there is
// a file whose beginning is not mine, it stays, and the error is [ErrForeign].
func Replace(name string, text []byte, mine func(start []byte) bool) error {
	return put(name, text, mine, public, false)
}

// ReplacePrivate is [Replace] for what nobody but its owner may read.
func ReplacePrivate(name string, text []byte, mine func(start []byte) bool) error {
	return put(name, text, mine, private, false)
}

// Put is [Replace] for a file that has to survive a power cut, and that others read at
// boot: where SELinux is on, it gets the label that the policy has for its path. It
// creates the directory if it does not exist.
func Put(name string, text []byte, mine func(start []byte) bool) error {
	return put(name, text, mine, public, true)
}

func put(name string, text []byte, mine func([]byte) bool, mode fs.FileMode, lasting bool) error {
	dir, base := filepath.Split(name)
	d, err := openDir(dir, lasting)
	if err != nil {
		return err
	}
	defer d.Close()
	label := ""
	if lasting {
		label = hostLabel(name)
	}
	return named(name, replace(d, base, text, mine, mode, lasting, label))
}

// Remove removes a file whose beginning is mine, below a directory that can be
// another user's. It is no error if there is no file.
func Remove(name string, mine func(start []byte) bool) error {
	dir, base := filepath.Split(name)
	d, err := openDir(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	err = replaceable(d, base, mine)
	if err == nil {
		err = d.Remove(base)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return named(name, err)
}

// replace writes a temporary file next to the file and renames it. The temporary
// file has a fixed name, so that leftovers do not pile up, and is locked, so that no
// process puts another's half-written file in place.
func replace(d *os.Root, base string, text []byte, mine func([]byte) bool, mode fs.FileMode, sync bool, label string) error {
	if err := replaceable(d, base, mine); err != nil {
		return err
	}
	temp := "." + base + ".nfguard-new"
	f, err := labelled(label, func() (*os.File, error) { return fresh(d, temp) })
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err == nil {
		err = replaceable(d, base, mine) // again, because writing took some time
	}
	if err == nil {
		err = d.Rename(temp, base)
	}
	if err != nil {
		_ = d.Remove(temp) // half a file is worth nothing
		return err
	}
	if !sync {
		return nil
	}
	dir, err := d.Open(".") // a rename survives a power cut only if its directory is synced
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// replaceable returns why the file at a name must not be replaced. If there is none,
// that is fine.
func replaceable(d *os.Root, base string, mine func([]byte) bool) error {
	info, err := d.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return regular(base, info)
	case mine == nil:
		return nil
	}
	f, err := opened(d.OpenFile(base, os.O_RDONLY|careful, 0))
	if err != nil {
		return err
	}
	defer f.Close()
	start, err := io.ReadAll(io.LimitReader(f, startOf))
	if err == nil && !mine(start) {
		err = ErrForeign
	}
	return err
}

// fresh returns an empty temporary file that nobody else can open. What a killed run
// left behind is used again.
func fresh(d *os.Root, name string) (*os.File, error) {
	for range 3 {
		f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|careful, 0o600)
		if errors.Is(err, fs.ErrExist) {
			if f, err = leftover(d, name); f == nil && err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, errBusy
		}
		// The previous holder of the lock may have renamed it.
		have, err := f.Stat()
		if err == nil {
			var named fs.FileInfo
			if named, err = d.Lstat(name); err == nil && os.SameFile(have, named) {
				return f, f.Truncate(0)
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errBusy
}

// leftover opens the file at name. If it is not a file of ours alone, leftover
// removes it and returns nil.
func leftover(d *os.Root, name string) (*os.File, error) {
	info, err := d.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	if info.Mode().IsRegular() && st != nil && int(st.Uid) == unix.Geteuid() && st.Nlink == 1 {
		f, err := opened(d.OpenFile(name, os.O_WRONLY|careful, 0))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return f, err
	}
	if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}

// openDir opens a directory part by part, and creates missing ones if missing is set.
// As soon as one of them can be changed by users other than root and us, no further
// link is followed: they could otherwise choose where we write.
func openDir(dir string, missing bool) (*os.Root, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	at, err := os.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	done, todo := "/", strings.Split(dir, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		name := path.Join(done, part)
		info, err := at.Lstat(part)
		if missing && errors.Is(err, fs.ErrNotExist) {
			if err = at.Mkdir(part, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
				info, err = at.Lstat(part)
			}
		}
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if links++; links > 40 {
				err = &fs.PathError{Op: "open", Path: dir, Err: syscall.ELOOP}
			}
			var target string
			if err == nil {
				target, err = follow(at, part, name, info)
			}
			at.Close()
			if err != nil {
				return nil, err
			}
			// done has no links, so this is where the link leads.
			if !path.IsAbs(target) {
				target = path.Join(done, target)
			}
			todo = append(strings.Split(path.Clean(target), "/"), todo...)
			done = "/"
			if at, err = os.OpenRoot("/"); err != nil {
				return nil, err
			}
			continue
		}
		var next *os.Root
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
		}
		if err == nil {
			next, err = at.OpenRoot(part)
		}
		at.Close()
		if err != nil {
			return nil, named(name, err)
		}
		if have, err := next.Stat("."); err != nil || !os.SameFile(have, info) {
			next.Close()
			return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it was replaced meanwhile")}
		}
		at, done = next, name
	}
	return at, nil
}

// follow returns where the link part in the directory at leads, if we trust it.
func follow(at *os.Root, part, name string, link fs.FileInfo) (string, error) {
	dir, err := at.Stat(".")
	if err != nil {
		return "", err
	}
	for _, info := range []fs.FileInfo{dir, link} {
		if uid := owner(info); !ours(uid) {
			return "", &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("it is a link that uid %d can change, and is not followed", uid)}
		}
	}
	if dir.Mode().Perm()&0o022 != 0 {
		return "", &fs.PathError{Op: "open", Path: name, Err: errors.New("it is a link in a directory that others can write to, and is not followed")}
	}
	return at.Readlink(part)
}
