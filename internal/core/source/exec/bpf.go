package exec

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// byBPF is the way by a BPF program, which load loads: on each exec it looks
// the name up, and wakes nobody for the others.
func byBPF(load func(names []string) (*hook.Loaded, error)) way {
	return way{name: "BPF raw tracepoint", short: "BPF", open: func(names []string) (feed, error) {
		l, err := load(names)
		if errors.Is(err, unix.EPERM) {
			return nil, unix.EPERM // what it takes is in the documentation of Run
		}
		if err != nil {
			return nil, err
		}
		e, err := hook.OpenExec(l)
		if err != nil {
			return nil, err
		}
		return tracer{e}, nil
	}}
}

// tracer is the program in use.
type tracer struct{ *hook.Execs }

func (t tracer) fd() int { return t.FD() }

func (t tracer) read(started func(pid int, comm string)) (n int, err error) {
	err = t.Read(func(pid int, comm string) {
		n++
		started(pid, comm)
	})
	if errors.Is(err, hook.ErrLost) {
		err = errLost
	}
	return n, err
}

func (t tracer) close() { _ = t.Close() }
