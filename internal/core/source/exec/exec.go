// Package exec tells when native processes of certain names start, and when
// they end; native is what [proc.Names.Native] lists. The kernel picks them out
// where it can run a BPF program; otherwise each start of any process wakes us
// for a moment, and where these are too many we do not listen for a while.
// Nothing is polled.
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

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/hook"
	"github.com/nfguard/nfguard/internal/kernel/proc"
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

	// Noted is called with the PID of each process that has started, before the
	// hint about it, and with 0 where any process may have started. It must not
	// block. Nil: nobody wants to know.
	Noted func(pid int)
}

// Source is the source "exec".
type Source struct {
	names []string
	noted func(pid int)
	ways  []way
	pause time.Duration
}

var _ source.Source = (*Source)(nil)

// New returns the source of news of processes.
func New(o Options) *Source {
	if o.Load == nil {
		o.Load = hook.LoadExec
	}
	s := &Source{names: Names(o.Names), ways: []way{byBPF(o.Load), connector}, noted: o.Noted, pause: pause}
	if s.noted == nil {
		s.noted = func(int) {}
	}
	return s
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
// looks for what runs. So does Run itself after a time in which it did not
// listen, since more started than is worth to be heard of (see budget); it says
// [source.Subscribed] once more then.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	if len(s.names) == 0 {
		return errors.New("no names of processes to look for")
	}
	p, err := newPoller(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	ends := newEnds(p, proc.NewNames(s.names), func(kind source.Kind, reason string, w record.Process) {
		s.noted(w.PID)
		hint(source.Hint{Source: name, About: source.Processes, Kind: kind, Reason: reason, Time: time.Now(), Writer: w})
	})
	defer ends.close()
	for {
		err := s.listen(ctx, p, ends, hint)
		if !errors.Is(err, errStorm) {
			return err
		}
		timer, err := p.after(s.pause)
		if err != nil {
			return err
		}
		err = follow(ctx, p, nil, ends)
		p.remove(timer)
		unix.Close(timer)
		if ctx.Err() != nil || err != nil {
			return err
		}
	}
}

// listen subscribes, and hints until ctx ends or the news is not to be followed
// any more.
func (s *Source) listen(ctx context.Context, p *poller, ends *ends, hint func(source.Hint)) error {
	starts, how, err := s.open()
	if err != nil {
		return err
	}
	defer starts.close()
	if err := p.add(starts.fd(), 0); err != nil {
		return err
	}
	defer p.remove(starts.fd())
	// What ends before the scan is found by the look that follows the hint.
	if err := ends.scan(); err != nil {
		return err
	}
	s.noted(0)
	hint(source.Hint{
		Source: name, About: source.Processes, Kind: source.Subscribed, Reason: "subscribed: " + how + ends.how(), Time: time.Now(),
	})
	return follow(ctx, p, starts, ends)
}

// follow hints until ctx ends, starts fails or storms, or a pause is over.
// Without starts it follows the ends only.
func follow(ctx context.Context, p *poller, starts feed, ends *ends) error {
	budget := budget{left: burst, at: time.Now()}
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
		started, over := false, false
		for _, n := range news {
			switch n.pid {
			case 0:
				started = true
			case -1:
				over = true
			default:
				ends.ended(n.fd, n.pid)
			}
		}
		if over {
			return nil
		}
		if !started {
			continue
		}
		n, err := starts.read(ends.started)
		if err != nil {
			return err
		}
		if !budget.take(n, time.Now()) {
			return errStorm
		}
	}
}

// What is spent on starts. Anybody can start programs, a thousand a second; by
// the proc connector each of them wakes us, for some 30 µs. A node that runs
// probes in its pods starts some ten a second, and a pod begins with thirty. So
// beyond a burst of two thousand, and a hundred a second, we stop listening: at
// a thousand a second after two seconds. The look after the pause finds what
// has started in it.
const (
	burst     = 2000
	perSecond = 100
	pause     = 30 * time.Second
)

// budget is a token bucket.
type budget struct {
	left float64
	at   time.Time
}

// take takes n tokens, and reports whether they were there.
func (b *budget) take(n int, now time.Time) bool {
	b.left = min(b.left+perSecond*now.Sub(b.at).Seconds(), burst) - float64(n)
	b.at = now
	return b.left >= 0
}

// errStorm is what ends the listening where too much starts.
var errStorm = errors.New("processes start faster than it is worth to follow")

// feed is an open subscription to the starts of processes.
type feed interface {
	// fd is readable when there is news.
	fd() int

	// read hands the starts of root's processes with one of the names to
	// started, without blocking, and says of how many it was told. What it leaves
	// keeps fd readable. After an error news may be lost.
	read(started func(pid int, comm string)) (told int, err error)

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
