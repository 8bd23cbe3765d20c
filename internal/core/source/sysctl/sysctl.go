// Package sysctl watches files of /proc/sys for writes. It learns of a write
// by a BPF program ([hook.Hook]), which sees all of them, before they
// happen, and knows the process; inotify tells when the value is there. Where
// there is no BPF, by fanotify, which names the process, or where that is
// refused by inotify alone, which does not. These two see only writes through
// the same mount of procfs: a container usually has its own, and the resync
// finds what it writes.
//
// No news comes when a sysctl is unregistered, nor when memory pressure drops
// the inode that a watch sits on: so each watched file is kept open, and
// [Watch.Stale] compares it with what its path names now.
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/kernel/hook"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// Watch is an open subscription to the writes to some sysctls. It belongs to
// the one goroutine that waits for its descriptor.
type Watch struct {
	files
	mechanism
	fd   int
	self int32
	buf  [4096]byte

	hook   *hook.Hook  // nil: there is none
	both   int         // with a hook: an epoll instance with its descriptor and fd
	groups proc.Groups // of writers

	told  time.Time // when the hook last told of a write
	asked time.Time // when it was last asked how many it did not tell of
}

// mechanism is a way of the kernel to tell of writes to files.
type mechanism struct {
	name string
	note string
	open func(*files) (fd int, err error)
	read func(w *Watch, tell func(record.Write)) error
}

// Open watches the files at paths and says how. h, if there is one, is read by
// the watch only, and is not closed with it; why says why there is none. It
// fails with fs.ErrNotExist when none of the files exists: the module is not
// loaded then.
func Open(paths []string, h *hook.Hook, why string) (w *Watch, how string, err error) {
	return open(paths, h, why, fanotify, inotify)
}

// open is Open with the mechanisms to try where there is no hook, the best first.
func open(paths []string, h *hook.Hook, why string, ways ...mechanism) (*Watch, string, error) {
	f, err := pin(paths)
	if err != nil {
		return nil, "", err
	}
	var refused []error
	if h != nil {
		w, err := withHook(f, h)
		if err == nil {
			return w, "subscribed: " + h.How() + ", with inotify", nil
		}
		refused = append(refused, err)
	} else if why != "" {
		refused = append(refused, errors.New(why))
	}
	for _, m := range ways {
		fd, err := m.open(&f)
		if err == nil {
			how := "subscribed: " + m.name + ", " + m.note
			if err := errors.Join(refused...); err != nil {
				how += fmt.Sprintf(" (%v)", err)
			}
			return &Watch{files: f, fd: fd, mechanism: m, self: int32(os.Getpid())}, how, nil
		}
		refused = append(refused, fmt.Errorf("%s: %w", m.name, err))
	}
	f.unpin()
	return nil, "", errors.Join(refused...)
}

// FD is the descriptor; it is readable when there is news.
func (w *Watch) FD() int {
	if w.hook != nil {
		return w.both
	}
	return w.fd
}

// Read takes all the news there is, without blocking, and hands it to tell. An
// error means that no more will come.
func (w *Watch) Read(tell func(record.Write)) error {
	if w.hook != nil {
		return w.readHook(tell)
	}
	return w.read(w, tell)
}

// Rest hands to tell what Read keeps back for a while: how many writes it was
// not told of one by one, and by whom. It is for when nobody will read any more.
func (w *Watch) Rest(tell func(record.Write)) {
	if w.hook != nil { // the other mechanisms count nothing
		w.readMissed(tell)
	}
}

// Complete reports whether it tells of every write, through whatever mount of
// procfs.
func (w *Watch) Complete() bool { return w.hook != nil }

// Close ends the watch.
func (w *Watch) Close() {
	if w.hook != nil {
		unix.Close(w.both)
	}
	unix.Close(w.fd)
	w.unpin()
}

// drain reads what is queued, a buffer at a time, until there is nothing
// more. A storm of writes can't hold us here: the kernel merges equal events,
// and after a few buffers the rest is left for the next call.
func (w *Watch) drain(parse func(b []byte)) error {
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
