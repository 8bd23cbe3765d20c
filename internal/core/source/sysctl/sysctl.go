// Package sysctl watches files of /proc/sys for writes. It learns of a write
// by a BPF program ([hook.Hook]), which sees all of them, before they
// happen, and knows the process; inotify beside it tells when the value is
// there. Where there is no BPF, by fanotify, which names the process, or where
// that is refused by inotify alone, which does not. These two see only writes
// through the same mount of procfs: a container usually has its own, and the
// resync finds what it writes.
//
// No news comes when a sysctl is unregistered, nor when memory pressure drops
// the inode that a watch sits on: so each watched file is kept open, and
// [source.Watch.Check] compares it with what its path names now.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

const name = "sysctl"

// Source tells of writes to sysctls.
type Source struct {
	paths []string
	loop  source.Lender
	hook  *hook.Hook
	why   string // there is no hook
	only  string // tests: the one mechanism to try
}

// New returns a source for the files at paths, whose descriptor loop waits on.
// hook, if there is one, is read by the loop only; why says why there is none.
func New(paths []string, loop source.Lender, hook *hook.Hook, why string) *Source {
	return &Source{paths: paths, loop: loop, hook: hook, why: why}
}

// Name is "sysctl".
func (s *Source) Name() string { return name }

// Run watches until ctx is cancelled. It fails when none of the files exists:
// the module is not loaded then.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	for {
		w, how, err := s.open()
		if err != nil {
			return err
		}
		hint(source.Hint{Source: name, Reason: how})
		err = s.loop.Lend(ctx, w)
		w.close()
		if !errors.Is(err, source.ErrStale) {
			return err
		}
	}
}

// watcher is a watch that can be closed.
type watcher interface {
	source.Watch
	close()
}

// mechanism is a way of the kernel to tell of writes.
type mechanism struct {
	name string
	note string
	open func(*files) (fd int, err error)
	read func(w *watch, tell func(record.Write)) error
}

func (s *Source) open() (watcher, string, error) {
	f, err := pin(s.paths)
	if err != nil {
		return nil, "", err
	}
	var refused []error
	ways := []mechanism{fanotify, inotify}
	if s.hook != nil {
		w, err := s.hooked(f)
		if err == nil {
			return w, "subscribed: " + s.hook.How() + ", with inotify", nil
		}
		refused = append(refused, err)
	} else if s.why != "" {
		refused = append(refused, errors.New(s.why))
	}
	for _, m := range ways {
		if s.only != "" && s.only != m.name {
			continue
		}
		fd, err := m.open(f)
		if err == nil {
			how := "subscribed: " + m.name + ", " + m.note
			if err := errors.Join(refused...); err != nil {
				how += fmt.Sprintf(" (%v)", err)
			}
			return &watch{files: f, fd: fd, mechanism: m, self: int32(os.Getpid())}, how, nil
		}
		refused = append(refused, fmt.Errorf("%s: %w", m.name, err))
	}
	f.close()
	return nil, "", errors.Join(refused...)
}

// hooked watches by the hook and, for the time of the store, by inotify.
func (s *Source) hooked(f *files) (*hooked, error) {
	fd, err := inotify.open(f)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &hooked{watch: watch{files: f, fd: fd, mechanism: inotify}, hook: s.hook}
	if w.both, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		for _, fd := range []int{fd, s.hook.FD()} {
			err = errors.Join(err, unix.EpollCtl(w.both, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
		}
		if err == nil {
			return w, nil
		}
		unix.Close(w.both)
	}
	unix.Close(fd)
	return nil, fmt.Errorf("epoll: %w", err)
}

// files are the watched files, kept open. An element of fds is -1 where the
// file does not exist.
type files struct {
	paths []string
	fds   []int
	inos  []uint64
}

func pin(paths []string) (*files, error) {
	f := &files{paths: paths}
	var last error
	there := 0
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
		if err != nil {
			fd, last = -1, &fs.PathError{Op: "watch", Path: path, Err: err}
		} else {
			there++
		}
		f.fds, f.inos = append(f.fds, fd), append(f.inos, st.Ino)
	}
	if there == 0 {
		return nil, last
	}
	return f, nil
}

func (f *files) close() {
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

// watch is one open mechanism on the pinned files.
type watch struct {
	*files
	mechanism
	fd   int
	self int32
	buf  [4096]byte
}

func (w *watch) FD() int { return w.fd }

func (w *watch) Read(tell func(record.Write)) error { return w.read(w, tell) }

func (w *watch) Check() error {
	for i, path := range w.paths {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		if there := err == nil; there != (w.fds[i] >= 0) || there && st.Ino != w.inos[i] {
			return source.ErrStale
		}
	}
	return nil
}

// Rest has nothing: these mechanisms count nothing.
func (*watch) Rest(func(record.Write)) {}

// Complete is false: a container usually has its own mount.
func (*watch) Complete() bool { return false }

func (w *watch) close() {
	unix.Close(w.fd)
	w.files.close()
}

// drain reads what is queued, a buffer at a time, until there is nothing
// more. A storm of writes can't hold us here: the kernel merges equal events,
// and after a few buffers the rest is left for the next call.
func (w *watch) drain(parse func(b []byte)) error {
	for range 4 {
		n, err := unix.Read(w.fd, w.buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", w.name, err)
		}
		parse(w.buf[:n])
	}
	return nil
}
