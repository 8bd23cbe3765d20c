// Package hook reports every write to a guarded sysctl of one network namespace,
// by any process and through any mount of procfs: who wrote what, and when. On
// request it has the kernel refuse foreign values, or store the right one instead.
// It is a BPF program of type cgroup/sysctl on the root of the cgroup v2
// hierarchy, which holds all tasks, even those that version 1 controls. A second
// program reports the start of processes with given names.
//
// The programs are C (sysctl.bpf.c, exec.bpf.c), compiled by bpf2go ("make bpf").
// Loading one takes capabilities; using it takes none, and no bpf(2) call. So
// [Load] and [Open] can be called in two processes, if one sends the [Loaded] to
// the other.
//
// The sysctl program acts only on the given sysctls of the given namespace. A
// program lasts as long as a process has its link open: the kernel detaches it
// when the last such process ends, however it ends. The programs are no defence
// against root, who can unload the module or attach other programs; they are one
// against tools that mean no harm.
//
// The sysctl program does not see the per-bridge flags (they are set by netlink and
// in sysfs), nor that the module is unloaded. It reports a write before the value
// is stored, so a caller who wants to see the value has to look again later.
package hook

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Answer is what the kernel does about a foreign value.
type Answer uint32

// The answers. Most tools go on after an EPERM, as procps' and systemd's do;
// busybox's sysctl -p stops there.
const (
	Observe = Answer(sysctlAnswerANSWER_OBSERVE) // it is stored, and reported
	Refuse  = Answer(sysctlAnswerANSWER_REFUSE)  // the writer gets EPERM
	Rewrite = Answer(sysctlAnswerANSWER_REWRITE) // the right value is stored, and the write succeeds; but a text of another length is stored as it is
)

// Use says how a loaded program is used.
type Use struct {
	Answer Answer

	// Netns is the inode of the network namespace whose sysctls are guarded;
	// zero: the calling thread's.
	Netns uint32

	// ExemptSelf lets this process write what it likes, without an event.
	ExemptSelf bool

	// Watched says that the reader also has a watch on the files, such as inotify.
	// That tells of a write through our own mount of procfs when the value is
	// stored, so the event of such a write does not wake the reader before. (Waking
	// it takes the writer longer than all the rest of the program.) The events of
	// other mounts do, and those of writes that were answered.
	Watched bool

	// Limit is the number of events per key and second; zero: 20. Events beyond
	// it are only counted, by writer ([Hook.Missed]). Answers have no limit.
	Limit int
}

// defaultLimit is far above what any reasonable number of tools writes. An event,
// with all that follows from it, takes some 50 µs, so the limit costs 0.1 % of a
// core for each key that tools fight over.
const defaultLimit = 20

// Hook is a program in use. Its methods are for one goroutine, except for
// [Hook.How], [Hook.FD], [Hook.Answer], [Hook.Can] and [Hook.Yield], which any goroutine can call until it is closed.
type Hook struct {
	loaded  *Loaded
	ring    *ring
	control []sysctlControl // one
	slots   []sysctlSlot    // of the keys
	writers []sysctlWriter
	rules   []sysctlRule // of the keys
	found   facts        // by the rehearsal
	netns   uint32
	asked   atomic.Uint32      // Answer
	missed  [][verdicts]uint64 // by slot, as last reported
	counted []count            // by writer, as last reported
}

// Open starts to use a loaded program, and takes over its files: they are closed
// with the hook, or if there is an error. It makes no bpf(2) call and needs no
// capability. If this kernel lacks something, the hook does less: see [Hook.How].
func Open(l *Loaded, u Use) (_ *Hook, err error) {
	h := &Hook{loaded: l, found: facts{reads: l.Facts.Reads, without: slices.Clone(l.Facts.Without)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if len(l.Files) != 5 {
		return nil, fmt.Errorf("open the BPF program: %d files, not 5", len(l.Files))
	}
	if h.rules, err = rules(l.Facts.Keys); err != nil {
		return nil, err
	}
	if h.ring, err = mapRing(l.Files[1], l.Facts.Ring); err != nil {
		return nil, err
	}
	if h.control, err = share[sysctlControl](l.Files[2], 1); err != nil {
		return nil, err
	}
	if h.slots, err = share[sysctlSlot](l.Files[3], max(len(h.rules), 1)); err != nil {
		return nil, err
	}
	if h.writers, err = share[sysctlWriter](l.Files[4], l.Facts.Writers); err != nil {
		return nil, err
	}
	h.missed, h.counted = make([][verdicts]uint64, len(h.slots)), make([]count, len(h.writers))
	if h.netns = u.Netns; h.netns == 0 {
		if h.netns, err = netnsInode(); err != nil {
			return nil, err
		}
	}
	if err := h.rehearse(); err != nil {
		return nil, err
	}
	h.start(u)
	return h, nil
}

// start sets the program to work as u says, within what the rehearsal found.
func (h *Hook) start(u Use) {
	c := &h.control[0]
	if h.found.reads {
		atomic.StoreUint32(&c.Netns, h.netns)
	}
	if u.ExemptSelf {
		atomic.StoreUint32(&c.Self, h.found.self)
	}
	if u.Watched {
		atomic.StoreUint32(&c.Quiet, h.found.mount)
	}
	limit := u.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	atomic.StoreUint32(&c.Limit, uint32(limit))
	h.SetAnswer(u.Answer)
	h.setState(sysctlStateSTATE_GUARD)
}

func (h *Hook) setState(s sysctlState) {
	atomic.StoreUint32((*uint32)(&h.control[0].State), uint32(s))
}

// SetAnswer changes the answer for all keys, without a gap. If the kernel cannot
// give it, the next weaker one is given.
func (h *Hook) SetAnswer(a Answer) {
	h.asked.Store(uint32(a))
	for i := range h.slots {
		atomic.StoreUint32((*uint32)(&h.slots[i].Answer), uint32(h.Answer()))
	}
}

// Answer returns the answer that is given for the keys that do not yield and are
// not among [Hook.Unlocked].
func (h *Hook) Answer() Answer {
	return h.Can(Answer(h.asked.Load()))
}

// Can returns what is done where a is asked for: a, or a weaker answer if the kernel
// cannot give it.
func (h *Hook) Can(a Answer) Answer {
	if !h.found.reads || a == Rewrite && !h.found.rewrites {
		return Observe
	}
	return a
}

// Rewrites reports whether the kernel keeps what a program puts in place of a
// value.
func (h *Hook) Rewrites() bool { return h.found.rewrites }

// Names reports whether the program tells who writes.
func (h *Hook) Names() bool {
	return !slices.ContainsFunc(h.loaded.Facts.Without, func(w string) bool { return strings.HasPrefix(w, noNames) })
}

// Yield sets whether one key is only observed, whatever the answer is.
func (h *Hook) Yield(path string, yields bool) {
	for i, k := range h.loaded.Facts.Keys {
		if k.Path == path {
			v := uint32(0)
			if yields {
				v = 1
			}
			atomic.StoreUint32(&h.slots[i].Yields, v)
		}
	}
}

// Keys returns the guarded sysctls.
func (h *Hook) Keys() []Key { return h.loaded.Facts.Keys }

// Unlocked returns the keys, sorted, whose foreign values are only ever reported:
// those that are not a single number, and those outside net/, which belong to no
// network namespace.
func (h *Hook) Unlocked() []string {
	var paths []string
	for i, r := range h.rules {
		if !answered(r) {
			paths = append(paths, h.loaded.Facts.Keys[i].Path)
		}
	}
	slices.Sort(paths)
	return paths
}

// How says how writes are seen, and what is not done and why.
func (h *Hook) How() string {
	return strings.Join(append([]string{"BPF cgroup/sysctl"}, h.found.without...), "; ")
}

// FD is readable when writes are waiting for [Hook.Read]: for poll, and for
// level-triggered epoll. It belongs to the hook.
func (h *Hook) FD() int { return int(h.loaded.Files[1].Fd()) }

// Close detaches the program; when it returns, no write is answered any more.
// It can be called again.
func (h *Hook) Close() error {
	var errs []error
	if h.control != nil { // a child between fork and exec holds the link too
		h.setState(sysctlStateSTATE_ASLEEP)
	}
	if h.ring != nil {
		errs = append(errs, h.ring.close())
	}
	errs = append(errs, unshare(h.control), unshare(h.slots), unshare(h.writers), h.loaded.Close())
	h.ring, h.control, h.slots, h.writers = nil, nil, nil, nil
	return errors.Join(errs...)
}
