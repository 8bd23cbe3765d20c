package hook

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The rehearsal is one write that the kernel ignores. It goes to a sysctl that
// every network namespace has, at an offset beyond the beginning, and its text is
// no number, which is EINVAL where kernel.sysctl_writes_strict is not 1. It checks
// that the program finds the right namespace and the right mount of procfs in the
// kernel's memory, which thread group the program takes us for, and whether the
// kernel keeps a rewritten value.
//
// From f10d05966196 ("bpf: Make BPF_PROG_RUN_ARRAY return -err instead of allow
// boolean", 5.18) until the stable kernels of mid-2026, it does not: the kernel
// drops the new value and stores what the writer wrote. Seen to store the 0:
// 6.1.170, 6.12.43; seen to rewrite it: 5.10.223, 6.1.192, 6.18.44.
const (
	rehearsalFile   = "/proc/sys/net/core/somaxconn"
	rehearsalOffset = 0x6e66677d // POSITION of sysctl.bpf.c
	rehearsalText   = "x"
	rehearsalOther  = "x\n" // what the program makes of it: write(2) returns 2
)

// facts is what the program can do on this kernel, for this process.
type facts struct {
	reads    bool   // the kernel's memory, so that a sysctl's namespace is known
	mount    uint32 // device of our own mount of procfs; 0: the program cannot find it
	rewrites bool
	self     uint32   // our thread group, as the program sees it; 0: not known
	without  []string // what it does not do, and why
}

// rehearse completes the facts by a rehearsal.
func (h *Hook) rehearse() error {
	runtime.LockOSThread() // so that all of this is in one network namespace
	defer runtime.UnlockOSThread()
	self, err := netnsInode()
	if err != nil {
		return err
	}
	device, err := procDevice()
	if err != nil {
		return err
	}
	h.setState(sysctlStateSTATE_REHEARSE)
	n, err := ignoredWrite()
	h.setState(sysctlStateSTATE_ASLEEP)
	at := &h.control[0].Found
	h.found.judge(sysctlFound{
		Ran: atomic.LoadUint32(&at.Ran), Tgid: atomic.LoadUint32(&at.Tgid),
		Netns: atomic.LoadUint32(&at.Netns), Device: atomic.LoadUint32(&at.Device),
	}, self, device, n, err)
	return nil
}

// judge draws the conclusions from the rehearsal: what the program found, in
// which namespace we are, which device our procfs is, and what the write returned.
func (f *facts) judge(found sysctlFound, self, device uint32, n int, err error) {
	switch {
	case !f.reads:
	case found.Ran == 0 && err != nil:
		f.observeOnly(fmt.Sprintf("no rehearsal: %v", err))
	case found.Ran == 0:
		f.observeOnly("the program did not see our own write: it is attached elsewhere in the cgroup hierarchy")
	case found.Netns != self:
		f.observeOnly(fmt.Sprintf("the rehearsal found network namespace %d, not %d", found.Netns, self))
	}
	f.self = found.Tgid
	if f.reads && found.Device == device {
		f.mount = device
	}
	f.rewrites = f.reads && err == nil && n == len(rehearsalOther)
	switch {
	case !f.reads || f.rewrites:
	case err != nil:
		f.without = append(f.without, fmt.Sprintf("rewrites nothing: the rehearsal failed: %v", err))
	default:
		f.without = append(f.without, "rewrites nothing: this kernel drops what a program puts in place of a value")
	}
}

// observeOnly notes why nothing can be refused: it is not certain which namespace's
// sysctl is written to.
func (f *facts) observeOnly(why string) {
	f.reads = false
	f.without = append(f.without, "observes only: "+why)
}

// ignoredWrite makes the write that the kernel ignores and returns its result.
func ignoredWrite() (int, error) {
	fd, err := unix.Open(rehearsalFile, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: rehearsalFile, Err: err}
	}
	defer unix.Close(fd)
	n, err := unix.Pwrite(fd, []byte(rehearsalText), rehearsalOffset)
	if err != nil {
		return 0, &os.PathError{Op: "write", Path: rehearsalFile, Err: err}
	}
	return n, nil
}

// netnsInode is the inode of the calling thread's network namespace, which is
// what the kernel calls its inum.
func netnsInode() (uint32, error) {
	const path = "/proc/thread-self/ns/net"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint32(st.Ino), nil
}

// procDevice is the device of our own procfs in the kernel's internal encoding
// (include/linux/kdev_t.h).
func procDevice() (uint32, error) {
	const path = "/proc/sys"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return unix.Major(st.Dev)<<20 | unix.Minor(st.Dev), nil
}
