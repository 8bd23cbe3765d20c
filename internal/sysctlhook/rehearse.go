package sysctlhook

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
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
	rehearsalOffset = 0x6e66677d
	rehearsalText   = "x"
	rehearsalOther  = "x\n" // what the program makes of it: write(2) returns 2
)

// found is what the rehearsal's program leaves in its map.
type found struct{ Ran, PID, Netns, Device uint32 }

// rehearse completes k by a rehearsal in the cgroup. An error means that
// nothing can be attached.
func (k *kernel) rehearse(cgroup *os.File) (err error) {
	runtime.LockOSThread() // and so in one network namespace
	defer runtime.UnlockOSThread()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(found{})), MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make a BPF map: %w", err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	p, err := ebpf.NewProgram(rehearsal(k, m))
	if err != nil {
		return fmt.Errorf("load the rehearsal: %w", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	l, err := attach(cgroup, p)
	if err != nil {
		return err
	}
	n, writeErr := ignoredWrite()
	if err := l.Close(); err != nil {
		return fmt.Errorf("end the rehearsal: %w", err)
	}
	var f found
	if err := m.Lookup(uint32(0), &f); err != nil {
		return fmt.Errorf("read a BPF map: %w", err)
	}
	self, err := netnsInode()
	if err != nil {
		return err
	}
	device, err := procDevice()
	if err != nil {
		return err
	}
	k.judge(f, self, device, n, writeErr)
	return nil
}

// judge draws the conclusions from the rehearsal: what the program found, in
// which namespace we are, which device our procfs is, and what the write returned.
func (k *kernel) judge(f found, self, device uint32, n int, err error) {
	switch {
	case !k.reads:
	case f.Ran == 0 && err != nil:
		k.observeOnly(fmt.Sprintf("no rehearsal: %v", err))
	case f.Ran == 0:
		k.observeOnly("the program was not run for our own write: we are elsewhere in the hierarchy")
	case f.Netns != self:
		k.observeOnly(fmt.Sprintf("the rehearsal found network namespace %d, not %d", f.Netns, self))
	}
	k.self = f.PID
	if k.reads && f.Device == device {
		k.mount = device
	}
	k.rewrites = k.reads && err == nil && n == len(rehearsalOther)
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

// rehearsal is the program for it. It stores who it was run for, and in
// whose network namespace, and rewrites the value.
func rehearsal(k *kernel, m *ebpf.Map) *ebpf.ProgramSpec {
	code := asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, ctxWrite, asm.Word),
		asm.JEq.Imm(asm.R0, 0, "allow"),
		asm.LoadMem(asm.R0, asm.R1, ctxFilePos, asm.Word),
		asm.JNE.Imm(asm.R0, rehearsalOffset, "allow"),
		asm.Mov.Reg(rCtx, asm.R1),
		asm.LoadMapValue(asm.R7, m.FD(), 0),
		asm.Mov.Imm(asm.R0, 1),
		asm.StoreMem(asm.R7, int16(unsafe.Offsetof(found{}.Ran)), asm.R0, asm.Word),
	}
	code = join(code, process(k), asm.Instructions{
		asm.LoadMem(asm.R0, asm.RFP, eventPID, asm.DWord),
		asm.StoreMem(asm.R7, int16(unsafe.Offsetof(found{}.PID)), asm.R0, asm.Word),
	})
	if k.reads {
		code = join(code, namespace(k), asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, stackWord, asm.Word),
			asm.StoreMem(asm.R7, int16(unsafe.Offsetof(found{}.Netns)), asm.R0, asm.Word),
		}, device(k), asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, stackWord, asm.Word),
			asm.StoreMem(asm.R7, int16(unsafe.Offsetof(found{}.Device)), asm.R0, asm.Word),
		})
	}
	code = append(code,
		asm.Mov.Imm(asm.R0, int32(binary.NativeEndian.Uint16([]byte(rehearsalOther)))),
		asm.StoreMem(asm.RFP, stackNumber, asm.R0, asm.Half))
	return &ebpf.ProgramSpec{
		Name:       "nfguard_try",
		Type:       ebpf.CGroupSysctl,
		AttachType: ebpf.AttachCGroupSysctl,
		License:    license,
		Instructions: join(code, asm.Instructions{
			asm.Mov.Reg(asm.R1, rCtx),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(stackNumber)),
			asm.Mov.Imm(asm.R3, int32(len(rehearsalOther))),
			asm.FnSysctlSetNewValue.Call(),
			asm.Mov.Imm(asm.R0, allow).WithSymbol("allow"),
			asm.Return(),
		}),
	}
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
