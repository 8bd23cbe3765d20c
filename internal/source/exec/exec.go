// Package exec tells when processes of certain names start, and when they
// end. The kernel picks them out where it can run a BPF program; otherwise
// each start of any process wakes us for a moment. Nothing is polled.
//
// The name is the kernel's: the file that was executed, without directories
// and cut to 15 bytes ([proc.Comm]); a script's own, not its interpreter's; a
// symbolic link's own, not its target's. A process that renames itself later
// (PR_SET_NAME), or that forks and executes nothing, is not seen to start.
package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/hook"
	"github.com/nfguard/nfguard/internal/proc"
	"github.com/nfguard/nfguard/internal/source"
)

const name = "exec"

// ErrNotSupported is in the error of [Source.Run] where this kernel, or what
// the process is allowed, has no way to hear of process starts. Trying again
// does not help; any other error may pass.
var ErrNotSupported = errors.New("process starts cannot be heard of here")

// Options say what to look for.
type Options struct {
	// Names are the names of the files that are executed.
	Names []string

	// Load loads the BPF program that looks for them; nil: hook.LoadExec.
	Load func(names []string) (*hook.Loaded, error)
}

// Source is the source "exec".
type Source struct {
	names []string
	ways  []way
}

var _ source.Source = (*Source)(nil)

// New returns the source of news of processes.
func New(o Options) *Source {
	if o.Load == nil {
		o.Load = hook.LoadExec
	}
	return &Source{names: Names(o.Names), ways: []way{byBPF(o.Load), connector}}
}

// Names are the kernel's names of programs, each once.
func Names(programs []string) (names []string) {
	for _, n := range programs {
		if n = proc.Comm(n); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// Name is "exec".
func (*Source) Name() string { return name }

// Run hints "NAME[PID] started" and "NAME[PID] ended", each with the process
// as the writer: its executable and control group where they could still be
// read when it started. Processes that ran before are not said to have
// started, and their end is told. At most 64 processes are watched for their
// end, and none where the kernel has no pidfd_open (5.3).
//
// The first hint says how it subscribed, and why not better: "BPF raw
// tracepoint", which needs Linux 5.8 and CAP_BPF with CAP_PERFMON, or
// CAP_SYS_ADMIN (before 5.11 also room in RLIMIT_MEMLOCK); or "proc connector",
// which needs the calling thread to be in the initial network namespace and,
// before 6.6, CAP_NET_ADMIN. With the connector a process that ends, or
// executes another file, before its name is read is not seen. Both need the
// initial PID namespace: the kernel tells its own pids.
//
// Where starts came faster than they were read, Run fails, and the next one
// looks for what runs.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	if len(s.names) == 0 {
		return errors.New("no names of processes to look for")
	}
	starts, how, err := s.open()
	if err != nil {
		return err
	}
	defer starts.close()
	p, err := newPoller(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.add(starts.fd(), 0); err != nil {
		return err
	}
	ends := newEnds(p, func(reason string, w source.Writer) {
		hint(source.Hint{Source: name, Reason: reason, Time: time.Now(), Writer: w})
	})
	defer ends.close()

	// What ends before the scan is found by the look that follows the hint.
	if err := ends.scan(s.names); err != nil {
		return err
	}
	hint(source.Hint{Source: name, Reason: source.Subscribed + ": " + how + ends.how(), Time: time.Now()})
	return follow(ctx, p, starts, ends)
}

// follow hints until ctx ends or starts fails.
func follow(ctx context.Context, p *poller, starts feed, ends *ends) error {
	for {
		news, err := p.wait()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to stop: the error is of that
		case err != nil:
			return err
		}
		// Ends first: a number is not given to a new process before the old
		// one's end can be read.
		started := false
		for _, n := range news {
			if n.pid == 0 {
				started = true
				continue
			}
			ends.ended(n.fd, n.pid)
		}
		if !started {
			continue
		}
		if err := starts.read(ends.started); err != nil {
			return err
		}
	}
}

// feed is an open subscription to the starts of processes.
type feed interface {
	// fd is readable when there is news.
	fd() int

	// read hands the starts of processes with one of the names to started,
	// without blocking. What it leaves keeps fd readable. After an error news
	// may be lost.
	read(started func(pid int, comm string)) error

	close()
}

// way is a way of the kernel to tell of starts.
type way struct {
	name  string
	short string // in a list of reasons
	open  func(names []string) (feed, error)
}

// errLost is what a feed returns that could not keep up.
var errLost = errors.New("news lost: processes started faster than they were looked at")

// open subscribes by the first way that works, and says how.
func (s *Source) open() (feed, string, error) {
	if err := initialPIDs(); err != nil {
		return nil, "", err
	}
	var refused error
	supported := false
	for _, w := range s.ways {
		f, err := w.open(s.names)
		if err == nil {
			if refused != nil {
				return f, fmt.Sprintf("%s (%v)", w.name, refused), nil
			}
			return f, w.name, nil
		}
		supported = supported || !never(err)
		err = fmt.Errorf("%s: %w", w.short, err)
		if refused != nil {
			err = fmt.Errorf("%w; %w", refused, err)
		}
		refused = err
	}
	if !supported {
		refused = fmt.Errorf("%w: %w", ErrNotSupported, refused)
	}
	return nil, "", refused
}

// never reports whether err, of the attempt to subscribe, will be the same
// the next time: the kernel does not know the call, or does not allow it.
func never(err error) bool {
	return slices.ContainsFunc([]error{
		errors.ErrUnsupported, hook.ErrNotSupported,
		unix.EPERM, unix.EACCES, unix.EINVAL, unix.ECONNREFUSED, unix.EPROTONOSUPPORT,
	}, func(target error) bool { return errors.Is(err, target) })
}

// initialPIDs fails where /proc does not show the kernel's own pids.
func initialPIDs() error {
	const initial = 0xeffffffc // PROC_PID_INIT_INO in include/linux/proc_ns.h
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return &os.PathError{Op: "stat", Path: "/proc/self/ns/pid", Err: err}
	}
	if st.Ino != initial {
		return fmt.Errorf("%w: this is not the initial PID namespace", ErrNotSupported)
	}
	return nil
}
