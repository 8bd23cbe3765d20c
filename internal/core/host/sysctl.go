package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// maxValue limits the text of one sysctl; procfs returns at most a page.
const maxValue = 4096

// keyFile is a sysctl with a descriptor that stays open. With it, a look is one pread.
// It always belongs to the network namespace in which it was opened. And it keeps the
// inode alive; otherwise a watch on the file ends silently when memory gets scarce.
// Once the module was unloaded, the descriptor returns ENOENT, even after the module
// is back: then the file has to be opened again.
type keyFile struct {
	path   string
	fd     int // -1: not open
	denied error
	last   string
	buf    [maxValue]byte
}

// Value reads one sysctl. lost reports whether the sysctl has been removed since the
// last look, even if it is back: that is what unloading the module looks like. Value
// allocates memory only if the value has changed.
func (l *Linux) Value(k guard.Key) (v guard.Value, lost bool) { return l.file(k).read() }

func (l *Linux) file(k guard.Key) *keyFile {
	f := l.files[k]
	if f == nil {
		f = &keyFile{path: filepath.Join(l.o.Proc, "sys", k.Path()), fd: -1}
		l.files[k] = f
	}
	return f
}

// Refresh reopens each sysctl whose descriptor no longer belongs to the file with its
// name, and returns their number. It closes and forgets sysctls that p does not guard.
func (l *Linux) Refresh(p *guard.Policy) int {
	guarded := make(map[guard.Key]bool, len(p.Sysctls))
	for _, s := range p.Sysctls {
		guarded[s.Key] = true
	}
	n := 0
	for key, f := range l.files {
		if !guarded[key] {
			f.close()
			delete(l.files, key)
			continue
		}
		if f.denied != nil {
			f.close() // a mount may have changed
		}
		if f.fd >= 0 && !f.same() {
			f.close()
			n++
		}
	}
	return n
}

func (f *keyFile) same() bool {
	var open, named unix.Stat_t
	return unix.Fstat(f.fd, &open) == nil && unix.Stat(f.path, &named) == nil &&
		open.Ino == named.Ino && open.Dev == named.Dev
}

// read returns the value, and whether the sysctl behind the open descriptor
// was unregistered.
func (f *keyFile) read() (v guard.Value, lost bool) {
	for {
		fresh := f.fd < 0
		if fresh {
			if err := f.open(); err != nil {
				return unread(err), lost
			}
		}
		n, err := retry(func() (int, error) { return unix.Pread(f.fd, f.buf[:], 0) })
		if err == nil {
			text := f.buf[:n]
			if n > 0 && text[n-1] == '\n' {
				text = text[:n-1]
			}
			if f.last != string(text) { // a comparison makes no string
				f.last = string(text)
			}
			return guard.Value{State: guard.Present, Have: f.last, ReadOnly: errors.Is(f.denied, unix.EROFS)}, lost
		}
		f.close()
		if fresh || !errors.Is(err, unix.ENOENT) {
			return unread(&fs.PathError{Op: "read", Path: f.path, Err: err}), lost
		}
		lost = true
	}
}

// unread distinguishes a sysctl that does not exist from one that could not be read.
func unread(err error) guard.Value {
	if errors.Is(err, fs.ErrNotExist) {
		return guard.Value{State: guard.Absent}
	}
	return guard.Value{Err: err}
}

// open opens for reading and writing, or where that is refused for reading,
// and then remembers what a write would have said.
func (f *keyFile) open() error {
	f.denied = nil
	fd, err := retry(func() (int, error) { return unix.Open(f.path, unix.O_RDWR|unix.O_CLOEXEC, 0) })
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		f.denied = err
		fd, err = retry(func() (int, error) { return unix.Open(f.path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: f.path, Err: err}
	}
	f.fd = fd
	return nil
}

func (f *keyFile) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// set writes the value through the open descriptor: opening the file again would
// double the time that the foreign value is in effect.
func (l *Linux) set(k guard.Key, value string) error {
	f := l.file(k)
	if f.denied != nil {
		f.close() // tried again with the next look: a mount may have changed
		return fmt.Errorf("set %s: %w", k, &fs.PathError{Op: "open", Path: f.path, Err: f.denied})
	}
	if f.fd < 0 {
		return fmt.Errorf("set %s: %w", k, &fs.PathError{Op: "write", Path: f.path, Err: unix.ENOENT})
	}
	buf := append(f.buf[:0], value...)
	buf = append(buf, '\n')
	if _, err := retry(func() (int, error) { return unix.Pwrite(f.fd, buf, 0) }); err != nil {
		return fmt.Errorf("set %s to %s: %w", k, value, &fs.PathError{Op: "write", Path: f.path, Err: err})
	}
	return nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err == nil || !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
