package sysctlhook

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// ErrNotSupported says that this kernel, or this boot of it, cannot do what
// was asked for; the error that wraps it says what is missing.
var ErrNotSupported = errors.New("not supported")

// origin is where the program gets the name or number of the writer from.
type origin int

const (
	fromNowhere origin = iota
	fromTask           // its task_struct
	fromHelper         // lent to this type of program by 6.1 (comm), 6.10 (PID)
)

// kernel is what the running kernel lets a program of this type do.
type kernel struct {
	layout
	reads     bool   // memory of the kernel, so that a sysctl's namespace is known
	mount     uint32 // device of our own procfs, if the program finds such a thing; 0: it does not
	pid, comm origin
	rewrites  bool
	self      uint32   // our thread group, as the program sees it; 0: not known
	without   []string // what it does not do, and why
}

// examine finds out what the kernel lends to a program, by loading small ones.
func examine() (*kernel, error) {
	err := load()
	if err != nil {
		return nil, fmt.Errorf("load a BPF program of type cgroup/sysctl: %w", err)
	}
	k := &kernel{reads: true, pid: fromTask, comm: fromTask}
	if k.layout, err = kernelLayout(); err != nil {
		k.observeOnly(fmt.Sprintf("no BTF: %v", err))
	} else if !lends(asm.FnProbeReadKernel) || !lends(asm.FnGetCurrentTask) {
		k.observeOnly("programs may not read the kernel's memory: CAP_PERFMON is missing, or the kernel is locked down for confidentiality")
	}
	return k, nil
}

// observeOnly notes why nothing can be refused: whose sysctl is written to, is
// not known for certain. Who writes is known where a helper tells.
func (k *kernel) observeOnly(why string) {
	k.reads = false
	k.without = append(k.without, "observes only: "+why)
	borrow := func(fn asm.BuiltinFunc, what string) origin {
		if lends(fn) {
			return fromHelper
		}
		k.without = append(k.without, "no "+what)
		return fromNowhere
	}
	k.pid = borrow(asm.FnGetCurrentPidTgid, "PIDs of writers: the kernel does not lend bpf_get_current_pid_tgid")
	k.comm = borrow(asm.FnGetCurrentComm, "names of writers: the kernel does not lend bpf_get_current_comm")
}

// lends reports whether programs of this type may call fn. The verifier
// answers EINVAL for a helper that they may not call, and EACCES when it looks
// at the arguments, which are missing here.
func lends(fn asm.BuiltinFunc) bool {
	err := load(fn.Call())
	return err == nil || errors.Is(err, unix.EACCES)
}

// load loads code as a program of this type and throws it away.
func load(code ...asm.Instruction) error {
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Type:         ebpf.CGroupSysctl,
		AttachType:   ebpf.AttachCGroupSysctl,
		License:      license,
		Instructions: append(code, asm.Mov.Imm(asm.R0, allow), asm.Return()),
	}, ebpf.ProgramOptions{LogDisabled: true})
	if err == nil {
		return p.Close()
	}
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL) && len(code) == 0:
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	case errors.Is(err, unix.EPERM) && len(code) == 0:
		return fmt.Errorf("%w (it takes CAP_BPF and CAP_NET_ADMIN)", err)
	}
	return err
}

// unlimitMemory lifts RLIMIT_MEMLOCK, which kernels before 5.11 charge for
// programs and maps, and say EPERM when it is too low. The 64 KiB that are
// usual do not do.
func unlimitMemory() error {
	return unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
}
