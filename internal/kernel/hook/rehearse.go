package hook

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The rehearsal is one write that the kernel ignores: to a sysctl that every
// network namespace has, at an offset beyond its beginning, and of no number,
// which is EINVAL where kernel.sysctl_writes_strict is not 1. It proves that the
// ways through the kernel's memory lead to the right namespace and to the right
// mount of procfs, tells who we are to the program, and whether a rewrite
// arrives.
//
// From f10d05966196 ("bpf: Make BPF_PROG_RUN_ARRAY return -err instead of allow
// boolean", 5.18) until the stable kernels of the middle of 2026 it does not:
// the kernel drops it and stores what the writer wrote. Seen to store the 0:
// 6.1.170, 6.12.43; seen to rewrite it: 5.10.223, 6.1.192, 6.18.44.
const (
	rehearsalFile   = "/proc/sys/net/core/somaxconn"
	rehearsalOffset = 0x6e66677d // POSITION of sysctl.bpf.c
	rehearsalText   = "x"
	rehearsalOther  = "x\n" // what the program makes of it: write(2) returns 2
)

// facts is what the program can do on this kernel, for this process.
type facts struct {
	reads    bool   // memory of the kernel, so that a sysctl's namespace is known
	mount    uint32 // device of our own procfs, if the program finds such a thing; 0: it does not
	rewrites bool
	self     uint32   // our thread group, as the program sees it; 0: not known
	without  []string // what it does not do, and why
}

// rehearse completes what is known of the program by a rehearsal.
func (h *Hook) rehearse() error {
	runtime.LockOSThread() // and so in one network namespace
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
		f.observeOnly("the program was not run for our own write: we are elsewhere in the hierarchy")
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

// observeOnly notes why nothing can be refused: whose sysctl is written to, is
// not known for certain.
func (f *facts) observeOnly(why string) {
	f.reads = false
	f.without = append(f.without, "observes only: "+why)
}

// ignoredWrite writes where the kernel ignores it and returns what it says.
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

// procDevice is the device of our own procfs as the kernel numbers it inside
// (include/linux/kdev_t.h).
func procDevice() (uint32, error) {
	const path = "/proc/sys"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return unix.Major(st.Dev)<<20 | unix.Minor(st.Dev), nil
}
