package sysctl

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// files are the watched files, kept open. An element of fds is -1 where the
// file does not exist.
type files struct {
	paths []string
	fds   []int
	inos  []uint64
}

// pin opens the files at paths. It fails where none of them exists.
func pin(paths []string) (f files, err error) {
	f.paths = paths
	there := 0
	for _, path := range paths {
		fd, openErr := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		var st unix.Stat_t
		if openErr == nil {
			openErr = unix.Fstat(fd, &st)
		}
		if openErr != nil {
			fd, err = -1, &fs.PathError{Op: "watch", Path: path, Err: openErr}
		} else {
			there++
		}
		f.fds, f.inos = append(f.fds, fd), append(f.inos, st.Ino)
	}
	if there == 0 {
		return files{}, err
	}
	return f, nil
}

func (f *files) unpin() {
	for _, fd := range f.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// path returns the path of the inode, or "".
func (f *files) path(ino uint64) string {
	for i, have := range f.inos {
		if f.fds[i] >= 0 && have == ino {
			return f.paths[i]
		}
	}
	return ""
}

// Stale reports whether the files watched are not those that are there now, so
// that the watch has to be opened anew.
func (f *files) Stale() bool {
	for i, path := range f.paths {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		if there := err == nil; there != (f.fds[i] >= 0) || there && st.Ino != f.inos[i] {
			return true
		}
	}
	return false
}
