package instance

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HeldError says that another daemon has the lock.
type HeldError struct {
	Path string
	PID  int // 0: not visible from here
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "another nfguard holds " + e.Path
	}
	return fmt.Sprintf("another nfguard[%d] holds %s", e.PID, e.Path)
}

// Lock makes sure that one daemon works on a runtime directory, which
// [CheckDir] has passed. The lock goes with the process, however that ends.
//
// It is a record lock for writing (F_SETLK), and the file has mode 0600. flock(2)
// takes any descriptor, so whoever could read the file could hold the lock. A
// record lock for writing takes a descriptor that can write, it tells the PID of
// its holder, and no child inherits it. One for reading can still be held by who
// opened the file of an earlier version, which had mode 0644: that is no daemon,
// and the file gives way to a new one.
func Lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "lock")
	for range 10 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		done, err := take(f, path)
		if done {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("lock %s: it changes all the time", path)
}

// take locks f. With neither done nor an error, it has to be opened again.
func take(f *os.File, path string) (done bool, err error) {
	if err := f.Chmod(0o600); err != nil {
		return false, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		pid, held, err := holder(f)
		switch {
		case err != nil:
			return false, err
		case held:
			return false, &HeldError{path, pid}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	if pid := earlier(f); pid != 0 {
		return false, &HeldError{path, pid}
	}
	if same, err := sameFile(f, path); !same || err != nil { // somebody has put a new one in its place
		return false, err
	}
	if err := f.Truncate(0); err != nil {
		return false, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err == nil, err
}

// earlier returns the PID of a daemon of a version that locked by flock(2), up
// to 0.1, or 0. A flock that is held proves nothing: anybody can hold one. If
// nobody does, it is taken, so that such a version finds it held.
func earlier(f *os.File) int {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return 0
	}
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0
	}
	var who unix.Stat_t
	s, err := readStat(pid)
	if err != nil || s.comm != "nfguard" || unix.Stat("/proc/"+strconv.Itoa(pid), &who) != nil || who.Uid != 0 {
		return 0
	}
	return pid
}

func sameFile(f *os.File, path string) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, named), err
}

// Holder tells whether a daemon holds the lock of a runtime directory, and its
// PID, 0 where that is not visible from here. Only root can ask: for others the
// error is fs.ErrPermission. It is not for the process that holds it.
func Holder(dir string) (pid int, held bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	return holder(f)
}

func holder(f *os.File) (pid int, held bool, err error) {
	lock := unix.Flock_t{Type: unix.F_RDLCK} // only one for writing is in its way
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, false, &fs.PathError{Op: "look who locks", Path: f.Name(), Err: err}
	}
	return int(lock.Pid), lock.Type == unix.F_WRLCK, nil
}
