package hook

import (
	"errors"
	"os"
)

// ErrNotSupported says that this kernel, or this boot of it, cannot do what
// was asked for; the error that wraps it says what is missing.
var ErrNotSupported = errors.New("not supported")

// Key is one guarded sysctl.
type Key struct {
	Path string // below /proc/sys: "net/bridge/bridge-nf-call-iptables"
	Want string // the value that is right, as the kernel prints it
}

// Options say what to load.
type Options struct {
	// Keys are the guarded sysctls. They are fixed: other keys, or other values,
	// are another Load.
	Keys []Key

	// Cgroup is the directory to attach to; "": the root of cgroup v2, wherever
	// that is mounted, or a private mount of it. Only writes by tasks below it
	// are seen.
	Cgroup string
}

// Facts is what the process that uses a program has to know of it. It is sent as JSON.
type Facts struct {
	// Keys are the guarded sysctls; the index of each is its slot.
	Keys []Key `json:"keys,omitempty"`

	// Names are the names that the exec program looks for.
	Names []string `json:"names,omitempty"`

	// Reads: the program reads the kernel's memory, and so knows which network
	// namespace a sysctl belongs to.
	Reads bool `json:"reads,omitempty"`

	// Without is what the program does not do, and why.
	Without []string `json:"without,omitempty"`

	// Ring is the size of the ring of events, in bytes.
	Ring int `json:"ring"`
}

// Loaded is a program that is attached but does nothing until it is opened.
// It can be sent to another process: Facts as JSON, and Files, in their order,
// by SCM_RIGHTS. The program is detached when the first of Files, the link, is
// closed in every process that has it.
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

// Load loads the sysctl program and attaches it. It takes CAP_BPF, CAP_PERFMON
// and CAP_NET_ADMIN; CAP_SYS_ADMIN where cgroup v2 is not mounted, and
// CAP_SYS_RESOURCE before Linux 5.11. An error is ErrNotSupported where the
// kernel has no such programs.
func Load(o Options) (*Loaded, error) { return nil, ErrNotSupported }

// LoadExec loads the program that tells of each start of a process with one of
// the names (of at most 15 bytes) by uid 0 of the initial user namespace, and attaches it.
func LoadExec(names []string) (*Loaded, error) { return nil, ErrNotSupported }
