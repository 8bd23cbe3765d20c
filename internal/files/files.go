// Package files safely opens and replaces files that users other than root can
// create or change, and those of a file tree. It opens regular files only, waits for
// no FIFO, touches no device, reads no more than its limit, and follows no link where
// there should be none. nfguard uses it for every file name that somebody else can
// influence, but not for the kernel's files in procfs, sysfs and cgroups.
package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// NotRegular is the error about something that is not a regular file.
type NotRegular struct{ Type fs.FileMode }

func (e *NotRegular) Error() string { return "is " + e.Kind() + ", not a regular file" }

// Kind is what it is instead, with an article: "a directory".
func (e *NotRegular) Kind() string {
	switch {
	case e.Type&fs.ModeDir != 0:
		return "a directory"
	case e.Type&fs.ModeSymlink != 0:
		return "a symbolic link"
	case e.Type&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case e.Type&fs.ModeSocket != 0:
		return "a socket"
	case e.Type&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}

// TooLarge is the error about a file that is larger than the limit for reading it.
type TooLarge struct{ Limit int64 }

func (e *TooLarge) Error() string {
	switch {
	case e.Limit >= 1<<20 && e.Limit%(1<<20) == 0:
		return fmt.Sprintf("is larger than %d MiB", e.Limit>>20)
	case e.Limit >= 1<<10 && e.Limit%(1<<10) == 0:
		return fmt.Sprintf("is larger than %d KiB", e.Limit>>10)
	}
	return fmt.Sprintf("is larger than %d bytes", e.Limit)
}

// Flags for opening a file that might be something else: opening does not wait for a
// FIFO, and a terminal does not become ours.
const careful = syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_CLOEXEC

// Open opens a regular file for reading. Links are followed. The error of
// anything else is a [NotRegular].
func Open(name string) (*os.File, error) { return open(name, os.Stat, os.O_RDONLY) }

// OpenNoLink is [Open] for a name that must not be a link.
func OpenNoLink(name string) (*os.File, error) {
	return open(name, os.Lstat, os.O_RDONLY|syscall.O_NOFOLLOW)
}

func open(name string, stat func(string) (fs.FileInfo, error), flags int) (*os.File, error) {
	info, err := stat(name) // first, because opening a device can have side effects
	var at *fs.PathError
	if errors.As(err, &at) {
		at.Op = "open" // what the caller asked for
	}
	if err != nil {
		return nil, err
	}
	if err := regular(name, info); err != nil {
		return nil, err
	}
	return opened(os.OpenFile(name, flags|careful, 0))
}

// opened checks again what was opened: the name may belong to another file by now.
func opened(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = regular(f.Name(), info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func regular(name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: name, Err: &NotRegular{info.Mode().Type()}}
	}
	return nil
}

// Read returns the content of a regular file. Links are followed. If the file is
// larger than limit, it returns the beginning, and a [TooLarge].
func Read(name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Limited(f, limit)
}

// ReadNoLink is [Read] for a name that must not be a link.
func ReadNoLink(name string, limit int64) ([]byte, error) {
	f, err := OpenNoLink(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Limited(f, limit)
}

// Limited reads f to its end. If it is larger than limit, Limited returns the
// beginning, and a [TooLarge].
func Limited(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), limit)) + bytes.MinRead)
	_, err = b.ReadFrom(io.LimitReader(f, limit+1))
	text := b.Bytes()
	if err == nil && int64(len(text)) > limit {
		return text[:limit], &fs.PathError{Op: "read", Path: f.Name(), Err: &TooLarge{limit}}
	}
	return text, err
}

// Append adds text to the end of a file that must not be a link, and creates it if it
// does not exist. Everybody can read it, whatever the umask.
func Append(name string, text []byte) error {
	f, err := opened(os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|careful, 0o644))
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// owner is the user that a file belongs to.
func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// ours reports whether uid is root or our own.
func ours(uid int) bool { return uid == 0 || uid == unix.Geteuid() }

// Trust is the list of users whose files nfguard trusts.
type Trust []int

// Host is the trust for files of the host: those of root, and of the user that
// nfguard runs as.
func Host() Trust { return Trust{0, unix.Geteuid()} }

// Of adds the owner of info.
func (t Trust) Of(info fs.FileInfo) Trust { return append(t, owner(info)) }

// Distrusted says why the file called name is not to be trusted, and which command
// fixes that: it can be changed by users who are not in t. Both are "" if the file
// can be trusted.
func (t Trust) Distrusted(name string, info fs.FileInfo) (why, command string) {
	uid := owner(info)
	trusted := false
	for _, u := range t {
		trusted = trusted || u == uid
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		return "is writable by everyone, who could steer nfguard with it", "chmod go-w " + Quote(name)
	case mode&0o020 != 0:
		return "is writable by its group, who could steer nfguard with it", "chmod g-w " + Quote(name)
	case !trusted:
		return fmt.Sprintf("is owned by uid %d, who could steer nfguard with it", uid), fmt.Sprintf("chown %d %s", t[len(t)-1], Quote(name))
	}
	return "", ""
}
