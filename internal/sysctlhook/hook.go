// Package sysctlhook tells of every write to a guarded sysctl of one network
// namespace, by whomever and through whatever mount of procfs, with who wrote
// it, what, and when; and on request it has the kernel refuse foreign values,
// or store the right one instead. It is a BPF program of type cgroup/sysctl on
// the root of the cgroup v2 hierarchy, where all tasks are, also those that
// version 1 controls.
//
// The program acts on the given sysctls of the given namespace only, and lasts
// as long as its [Hook]: the kernel takes it away when the process ends,
// however it ends. It is no defence against root, who can unload the module or
// attach programs too, but against tools that mean no harm.
//
// It does not see the per-bridge flags (those are netlink's and sysfs's), nor
// the module being unloaded. It tells of a write before the value is stored,
// so whoever wants to see the value looks again later.
//
// # Why it is assembled
//
// The program is written with cilium/ebpf/asm, not compiled from C: neither
// the hosts nor the CI have clang, the result would be an object file in the
// repository that a review cannot read, and C would bring libbpf's relocations
// for a dozen offsets that a page of Go finds. The cost is real: registers are the
// reader's to keep track of, the verifier is the only compiler, and at twice
// its 230 instructions it would be a mistake. Blocks are functions with names,
// and what they share with Go is laid out by Go structures.
package sysctlhook

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Answer is what foreign values are answered by.
type Answer uint32

// The answers. Most tools go on after an EPERM, as procps' and systemd's do;
// busybox's sysctl -p stops there, and is an example of whom a rewrite is for.
const (
	Observe Answer = iota // they are stored, and told of
	Refuse                // the writer gets EPERM
	Rewrite               // the right value is stored, and the writer told that all went well
)

// Options say what to guard.
type Options struct {
	Keys   []Key
	Answer Answer

	// Netns is the inode of the network namespace whose sysctls are guarded;
	// zero: the calling thread's.
	Netns uint32

	// Cgroup is the directory to attach to; "": the root of the hierarchy,
	// wherever that is mounted. Only writes by tasks below it are seen.
	Cgroup string

	// ExemptSelf lets this process write what it likes, without an event.
	ExemptSelf bool

	// Watched says that the reader has a watch on the files as well, as inotify
	// is one: it tells of a write through our own mount of procfs when the value
	// is stored, and so the event of that does not wake the reader before. (To be
	// woken takes the writer longer than all else of the program.) The events of
	// other mounts do, and those of writes that were answered.
	Watched bool

	// Limit is the number of events of one key in a second; zero: 20. Those
	// beyond are counted. Answers have no limit.
	Limit int
}

// defaultLimit is far above what any reasonable number of tools does, and at
// some 50 µs for an event with all that it sets off costs 0.1 % of a core for
// each key that is fought over.
const defaultLimit = 20

// Hook is an attached program. Its methods are for one goroutine.
type Hook struct {
	kernel   *kernel
	tables   *tables
	program  *ebpf.Program
	link     *link.RawLink
	reader   *ringbuf.Reader
	settings settings
	asked    Answer
	rules    map[string]rule // by path
	free     []uint32        // slots, the longest free first
	slots    [maxKeys]slot
	record   ringbuf.Record
}

// slot is a place in the table of counters. An event names its key by it, so
// it goes to another key as late as possible.
type slot struct {
	path, want string
	missed     uint64 // of the counter, as last told
}

// Attach guards what o says until the hook is closed or the process ends. An
// error is ErrNotSupported where the kernel has no such programs or no cgroup
// v2. What else it lacks makes the hook do with less: see [Hook.How] and
// [Hook.Answer].
func Attach(o Options) (*Hook, error) {
	h, err := o.attach()
	if errors.Is(err, unix.EPERM) && unlimitMemory() == nil {
		h, err = o.attach()
	}
	return h, err
}

func (o Options) attach() (*Hook, error) {
	cgroup, err := openCgroup(o.Cgroup)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	k, err := examine()
	if err != nil {
		return nil, err
	}
	if err := k.rehearse(cgroup); err != nil {
		return nil, err
	}
	return k.guard(o, cgroup)
}

// guard is Attach for a kernel that is known.
func (k *kernel) guard(o Options, cgroup *os.File) (_ *Hook, err error) {
	h := &Hook{kernel: k, rules: make(map[string]rule)}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	for i := range uint32(maxKeys) {
		h.free = append(h.free, i)
	}
	if h.settings.Netns = o.Netns; o.Netns == 0 {
		if h.settings.Netns, err = netnsInode(); err != nil {
			return nil, err
		}
	}
	if h.tables, err = newTables(); err != nil {
		return nil, err
	}
	if h.reader, err = h.tables.open(); err != nil {
		return nil, err
	}
	if o.ExemptSelf {
		h.settings.Self = h.kernel.self
	}
	if o.Watched {
		h.settings.Quiet = h.kernel.mount
	}
	if err := h.SetAnswer(o.Answer); err != nil {
		return nil, err
	}
	if err := h.SetKeys(o.Keys); err != nil {
		return nil, err
	}
	limit := o.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	if h.program, err = ebpf.NewProgram(program(h.kernel, h.tables, int32(limit))); err != nil {
		return nil, fmt.Errorf("load the BPF program: %w", err)
	}
	if h.link, err = attach(cgroup, h.program); err != nil {
		return nil, err
	}
	return h, nil
}

// attach links p to the directory, beside the programs of others. Without the
// link it would stay when we die, so there is no way around it.
func attach(cgroup *os.File, p *ebpf.Program) (*link.RawLink, error) {
	l, err := link.AttachRawLink(link.RawLinkOptions{
		Target: int(cgroup.Fd()), Program: p, Attach: ebpf.AttachCGroupSysctl,
	})
	if errors.Is(err, link.ErrNotSupported) {
		return nil, fmt.Errorf("attach to %s: the kernel has no links to cgroups: %w", cgroup.Name(), ErrNotSupported)
	}
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", cgroup.Name(), err)
	}
	return l, nil
}

// How says by what means writes are seen, and what is not done and why.
func (h *Hook) How() string {
	without := h.kernel.without
	if h.asked == Rewrite && h.settings.Answer == Refuse {
		without = append(slices.Clip(without), "refuses instead of rewriting: this kernel drops what a program puts in place of a value")
	}
	return strings.Join(append([]string{"BPF cgroup/sysctl"}, without...), "; ")
}

// FD is readable when writes wait for [Hook.Read]: for poll and for epoll,
// level-triggered. It belongs to the hook.
func (h *Hook) FD() int { return h.tables.ring.FD() }

// Close takes the program away; when it returns, no write is refused any more.
// It can be called again.
func (h *Hook) Close() error {
	var errs []error
	if h.link != nil {
		// A child between fork and exec holds the link too.
		if err := h.link.Detach(); err != nil && !errors.Is(err, link.ErrNotSupported) {
			errs = append(errs, fmt.Errorf("detach the BPF program: %w", err))
		}
		errs = append(errs, h.link.Close())
	}
	if h.program != nil {
		errs = append(errs, h.program.Close())
	}
	if h.reader != nil {
		errs = append(errs, h.reader.Close())
	}
	if h.tables != nil {
		errs = append(errs, h.tables.close())
	}
	h.link, h.program, h.reader, h.tables = nil, nil, nil, nil
	return errors.Join(errs...)
}
