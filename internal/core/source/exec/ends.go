package exec

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// most is how many processes are watched, each by a descriptor: far more than
// a worker has of these names, and few compared with the limit of 1024.
const most = 64

// ends watches native processes for their end, and says what happens to them.
type ends struct {
	poller *poller
	names  *proc.Names
	say    func(kind source.Kind, reason string, w record.Process)
	byPID  map[int]process
	refuse error // why the kernel does not let us watch
}

type process struct {
	pidfd int
	record.Process
}

func newEnds(p *poller, names *proc.Names, say func(source.Kind, string, record.Process)) *ends {
	e := &ends{poller: p, names: names, say: say, byPID: make(map[int]process)}
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		e.refuse = fmt.Errorf("pidfd_open: %w", err)
		return e
	}
	unix.Close(fd)
	return e
}

// how is what a reader of status has to know of the ends, or "".
func (e *ends) how() string {
	if e.refuse == nil {
		return ""
	}
	return fmt.Sprintf(", ends are not seen (%v)", e.refuse)
}

// scan watches what runs already, and is not watched.
func (e *ends) scan() error {
	found, err := e.names.Native("/proc")
	if err != nil && !errors.Is(err, proc.ErrUncertain) {
		return fmt.Errorf("look for processes: %w", err)
	}
	for _, p := range found {
		if _, ok := e.byPID[p.PID]; !ok {
			e.watch(p.PID, p.Comm)
		}
	}
	return nil
}

// started says that a process has become comm, and watches it. One that is
// known not to be native gives no hint; of one that has ended that is not known.
func (e *ends) started(pid int, comm string) {
	if proc.Foreign(pid) {
		return
	}
	if old, ok := e.byPID[pid]; ok {
		if over(old.pidfd) {
			e.ended(old.pidfd, pid)
		} else { // the same process executes another file
			e.drop(pid)
		}
	}
	w, gone := e.watch(pid, comm)
	e.say(source.Appeared, fmt.Sprintf("%s[%d] started", comm, pid), w)
	if gone {
		e.say(source.Removed, fmt.Sprintf("%s[%d] ended", comm, pid), w)
	}
}

// ended says that a process has ended, unless pidfd is not its any more.
func (e *ends) ended(pidfd, pid int) {
	if p, ok := e.byPID[pid]; ok && p.pidfd == pidfd {
		e.drop(pid)
		e.say(source.Removed, fmt.Sprintf("%s[%d] ended", p.Comm, pid), p.Process)
	}
}

// watch returns who pid is if it still is comm, otherwise no more than what
// is known already, and whether it is gone. Else it waits for its end.
func (e *ends) watch(pid int, comm string) (w record.Process, gone bool) {
	w = record.Process{PID: pid, Comm: comm}
	pidfd, err := e.open(pid)
	if errors.Is(err, unix.ESRCH) {
		return w, true
	}
	// With the descriptor open, what is read now is of that process or, if it
	// is gone meanwhile, of one that has taken its number.
	now := source.ReadWriter(pid)
	if now.Comm == comm {
		w = now
	}
	if err != nil {
		return w, false
	}
	if now.Comm != comm && now.Comm != "" || e.poller.add(pidfd, pid) != nil {
		unix.Close(pidfd)
		return w, false
	}
	e.byPID[pid] = process{pidfd, w}
	return w, false
}

var errMany = errors.New("too many processes are watched")

func (e *ends) open(pid int) (pidfd int, err error) {
	switch {
	case e.refuse != nil:
		return -1, e.refuse
	case len(e.byPID) >= most:
		return -1, errMany
	}
	return unix.PidfdOpen(pid, 0)
}

func (e *ends) drop(pid int) {
	pidfd := e.byPID[pid].pidfd
	delete(e.byPID, pid)
	e.poller.remove(pidfd)
	unix.Close(pidfd)
}

func (e *ends) close() {
	for pid := range e.byPID {
		e.drop(pid)
	}
}

// over reports whether the process of pidfd has ended.
func over(pidfd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return n > 0
}
