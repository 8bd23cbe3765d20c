package hook

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ErrNotSupported says that this kernel, or this boot of it, cannot do what
// was asked for; the error that wraps it says what is missing.
var ErrNotSupported = errors.New("not supported")

// Options say what to load.
type Options struct {
	// Keys are the guarded sysctls. They are fixed: other keys, or other values,
	// take another Load.
	Keys []Key

	// Cgroup is the directory to attach to; "": the root of cgroup v2, wherever it
	// is mounted, or else of a private mount. Only writes by tasks below the
	// directory are seen.
	Cgroup string
}

// Facts is what the process that uses a program has to know about it. It is sent
// as JSON.
type Facts struct {
	Keys    []Key    `json:"keys,omitempty"`    // the guarded sysctls, each at its slot
	Reads   bool     `json:"reads,omitempty"`   // the kernel's memory, so that a sysctl's namespace is known
	Without []string `json:"without,omitempty"` // what the program does not do, and why
	Ring    int      `json:"ring"`              // size of the ring of events in bytes
	Writers int      `json:"writers,omitempty"` // size of the table of writers
}

// Loaded is a program that is attached but does nothing until it is opened.
// It can be sent to another process: Facts as JSON, and Files, in their order,
// by SCM_RIGHTS. The first of Files is the link: when no process has it open any
// more, the kernel detaches the program.
type Loaded struct {
	Facts Facts
	Files []*os.File
}

// Close closes the files. Whoever has sent them closes its own.
func (l *Loaded) Close() error {
	var errs []error
	for _, f := range l.Files {
		errs = append(errs, f.Close())
	}
	l.Files = nil
	return errors.Join(errs...)
}

// ringSize holds 140 events, nearly twice what eight keys can report in half a
// second. It must be a power of two, and a multiple of the page size.
const ringSize = 32 << 10

// Load loads the program and attaches it. It takes CAP_BPF, CAP_PERFMON
// and CAP_NET_ADMIN; CAP_SYS_ADMIN where cgroup v2 is not mounted, and before
// Linux 5.11 CAP_SYS_RESOURCE or an unlimited RLIMIT_MEMLOCK. Without
// CAP_PERFMON or the kernel's BTF the program only observes, and its facts say so.
// The error is ErrNotSupported if the kernel has no such programs, or no
// cgroup v2.
func Load(o Options) (*Loaded, error) {
	return load(o, sysctlProgGuards, sysctlProgObserves, sysctlProgObservesUnnamed)
}

// load is Load with the first of the programs that the kernel accepts; the best
// comes first.
func load(o Options, programs ...string) (_ *Loaded, err error) {
	list, err := rules(o.Keys)
	if err != nil {
		return nil, err
	}
	cgroup, err := openCgroup(o.Cgroup)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	facts := Facts{Keys: o.Keys, Ring: max(ringSize, os.Getpagesize())}
	c, program, err := best(&facts, programs)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for i, r := range list {
		if err := c.Maps[sysctlMapRules].Put(path(o.Keys[i].Path), r); err != nil {
			return nil, fmt.Errorf("guard %s: %w", o.Keys[i].Path, err)
		}
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{
		Target: int(cgroup.Fd()), Program: c.Programs[program], Attach: ebpf.AttachCGroupSysctl,
	})
	if errors.Is(err, link.ErrNotSupported) { // without a link the program would outlive us
		return nil, fmt.Errorf("attach to %s: the kernel has no links to cgroups: %w", cgroup.Name(), ErrNotSupported)
	}
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", cgroup.Name(), err)
	}
	defer func() { err = errors.Join(err, l.Close()) }() // our own descriptor
	return loaded(facts, l.FD(), c, sysctlMapRing, sysctlMapShared, sysctlMapSlots, sysctlMapWriters)
}

// best loads the first of the programs that the kernel accepts, and completes the
// facts.
func best(f *Facts, programs []string) (*ebpf.Collection, string, error) {
	var refused []error
	for _, name := range programs {
		c, err := collect(loadSysctl, name, func(s *ebpf.CollectionSpec) {
			s.Maps[sysctlMapRing].MaxEntries = uint32(f.Ring)
			s.Maps[sysctlMapRules].MaxEntries = uint32(max(len(f.Keys), 1))
			s.Maps[sysctlMapSlots].MaxEntries = uint32(max(len(f.Keys), 1))
			f.Writers = int(s.Maps[sysctlMapWriters].MaxEntries)
		})
		if err == nil {
			if f.Reads = name == sysctlProgGuards; !f.Reads {
				f.Without = less(name, refused)
			}
			return c, name, nil
		}
		refused = append(refused, err)
		if !errors.Is(err, ErrNotSupported) {
			break
		}
	}
	return nil, "", refused[len(refused)-1]
}

// noNames begins what [sysctlProgObservesUnnamed] does without.
const noNames = "no names and PIDs of writers: "

// less says what a program that is not the best does not do, and why the
// better ones were refused.
func less(program string, refused []error) (without []string) {
	why := "it was not tried"
	if len(refused) > 0 {
		why = refused[0].Error()
	}
	switch {
	// The first that it calls. Where bpf_probe_read_kernel is not offered, the library
	// has put bpf_probe_read in its place.
	case strings.Contains(why, "get_current_task"), strings.Contains(why, "bpf_probe_read"):
		why = "programs cannot read the kernel's memory: CAP_PERFMON is missing, or the kernel is locked down for confidentiality"
	case len(refused) > 0 && errors.Is(refused[0], os.ErrNotExist):
		why = "the kernel has no BTF"
	}
	without = append(without, "observes only: "+why)
	if program == sysctlProgObservesUnnamed {
		without = append(without, noNames+"the kernel does not offer them to programs of this type")
	}
	return without
}

// collect loads one program of an object and the maps that it uses; size sets
// the sizes of the maps. The error is ErrNotSupported if the kernel does not
// accept the program.
func collect(object func() (*ebpf.CollectionSpec, error), program string, size func(*ebpf.CollectionSpec)) (*ebpf.Collection, error) {
	spec, err := object()
	if err != nil {
		return nil, err
	}
	for name, p := range spec.Programs {
		if name != program {
			delete(spec.Programs, name)
		}
		p.Name = "nfguard_" + name
	}
	for name, m := range spec.Maps {
		m.Name = "nfguard_" + name
		if m.Type == ebpf.RingBuf { // its records are described for bpf2go; to the kernel they are bytes
			m.ValueSize, m.Value = 0, nil
		}
	}
	size(spec)
	c, err := ebpf.NewCollection(spec)
	if errors.Is(err, unix.EPERM) && unlimitMemory() == nil {
		c, err = ebpf.NewCollection(spec)
	}
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("load a BPF program: %w (it takes CAP_BPF and CAP_NET_ADMIN)", unix.EPERM)
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return nil, fmt.Errorf("load a BPF program: %w", err) // a later attempt can succeed
	}
	return nil, fmt.Errorf("load a BPF program: %w: %w", ErrNotSupported, err)
}

// unlimitMemory lifts RLIMIT_MEMLOCK. Kernels before 5.11 charge programs and maps
// to it, and return EPERM if it is too low. The usual 64 KiB are not enough.
func unlimitMemory() error {
	return unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
}

// loaded returns copies of the descriptors of the link and of the maps.
func loaded(facts Facts, link int, c *ebpf.Collection, maps ...string) (*Loaded, error) {
	l := &Loaded{Facts: facts}
	keep := func(fd int, name string) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		l.Files = append(l.Files, os.NewFile(uintptr(dup), name))
		return nil
	}
	err := keep(link, "link")
	for _, m := range maps {
		if err == nil {
			err = keep(c.Maps[m].FD(), m)
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
