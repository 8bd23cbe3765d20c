package hook

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tracepoint is hit when a process has executed a program. We use only its name
// and the current task, which have not changed since raw tracepoints exist (4.17).
// It needs neither tracefs nor BTF.
const tracepoint = "sched_process_exec"

// LoadExec loads and attaches the program that reports when a process of uid 0 (in
// the initial user namespace) executes a file with one of the names. Names are the
// kernel's, of at most 15 bytes. It takes CAP_BPF and CAP_PERFMON, and
// before Linux 5.11 CAP_SYS_RESOURCE or an unlimited RLIMIT_MEMLOCK.
func LoadExec(names []string) (_ *Loaded, err error) {
	facts := Facts{Ring: os.Getpagesize()} // the smallest possible: room for 128 starts if a page is 4 KiB
	c, err := collect(loadExec, execProgStarts, func(s *ebpf.CollectionSpec) {
		s.Maps[execMapRing].MaxEntries = uint32(facts.Ring)
		s.Maps[execMapNames].MaxEntries = uint32(max(len(names), 1))
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for _, n := range names {
		key := execStart{}.Comm
		copy(key[:len(key)-1], n)
		if err := c.Maps[execMapNames].Put(key, uint32(1)); err != nil {
			return nil, fmt.Errorf("look for %s: %w", n, err)
		}
	}
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: c.Programs[execProgStarts]})
	if err != nil {
		return nil, fmt.Errorf("attach to the tracepoint %s: %w", tracepoint, err)
	}
	defer func() { err = errors.Join(err, l.Close()) }() // our own descriptor
	fd, ok := l.(interface{ FD() int })
	if !ok {
		return nil, fmt.Errorf("attach to the tracepoint %s: the kernel has no links: %w", tracepoint, ErrNotSupported)
	}
	return loaded(facts, fd.FD(), c, execMapRing, execMapLost)
}

// Execs is the exec program in use. Its methods are for one goroutine.
type Execs struct {
	loaded *Loaded
	ring   *ring
	lost   []uint64 // one
}

// ErrLost is what [Execs.Read] returns when processes started faster than they
// were read.
var ErrLost = errors.New("news lost: processes started faster than they were looked at")

// OpenExec starts to use a loaded exec program, as [Open] does: without bpf(2) and
// without a capability.
func OpenExec(l *Loaded) (_ *Execs, err error) {
	e := &Execs{loaded: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if len(l.Files) != 3 {
		return nil, fmt.Errorf("open the BPF program: %d files, not 3", len(l.Files))
	}
	if e.ring, err = mapRing(l.Files[1], l.Facts.Ring); err != nil {
		return nil, err
	}
	if e.lost, err = share[uint64](l.Files[2], 1); err != nil {
		return nil, err
	}
	return e, nil
}

// FD is readable when starts are waiting for [Execs.Read]. It belongs to e.
func (e *Execs) FD() int { return int(e.loaded.Files[1].Fd()) }

// Read passes the waiting starts to started, without blocking.
func (e *Execs) Read(started func(pid int, comm string)) error {
	for {
		var s execStart
		there, err := next(e.ring, &s)
		if err != nil {
			return err
		}
		if !there {
			break
		}
		started(int(s.Tgid), text(s.Comm[:]))
	}
	if atomic.LoadUint64(&e.lost[0]) != 0 {
		return ErrLost
	}
	return nil
}

// Close detaches the program. It can be called again.
func (e *Execs) Close() error {
	var errs []error
	if e.ring != nil {
		errs = append(errs, e.ring.close())
	}
	errs = append(errs, unshare(e.lost), e.loaded.Close())
	e.ring, e.lost = nil, nil
	return errors.Join(errs...)
}
