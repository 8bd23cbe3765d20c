package proc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A process is native to the host if it is root's, of our user namespace, and
// runs in our network namespace. A name is anybody's to take, and root of a
// container is often the host's: only the three together tell a program of the
// host from one of that name.
//
// None of what is asked for takes a capability, as root or as anybody: not the
// links below /proc/PID/ns, which take CAP_SYS_PTRACE, but the inode of
// /proc/PID/net/dev, which the kernel numbers for each network namespace
// (proc_register in fs/proc/generic.c, proc_tgid_net_lookup in proc_net.c).

// ErrUncertain is in the errors of processes that run and of which it could not
// be told whether they are native.
var ErrUncertain = errors.New("whether it is the host's own can't be told")

// maxNative is how many native processes are listed: far more than a host runs
// of a kind, and a bound on what is remembered of them.
const maxNative = 64

// Names tell the processes that are looked for.
type Names struct {
	comms map[string]bool // what the kernel keeps of them
}

// NewNames returns the names of files that processes were started from, see [Comm].
func NewNames(names []string) *Names {
	n := &Names{comms: make(map[string]bool, len(names))}
	for _, name := range names {
		n.comms[Comm(name)] = name != ""
	}
	return n
}

// Native lists the native processes that run under one of the names, in the
// procfs that is mounted at root ("/proc"), by PID, at most 64. It sees those
// of root's PID namespace and of the ones below it. One that has ended and was
// not waited for does not run; a child of one that is listed is not, for
// between fork and exec it bears its parent's name. With an error that is
// [ErrUncertain] there may be more than are listed; any other error says that
// nothing could be listed.
//
// The cost is one system call, some 2 µs, for each process of the machine, and
// three more for each of root's.
func (n *Names) Native(root string) ([]Process, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	return n.pick(int(dir.Fd()), func(yield func(int) bool) {
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry)
			if err == nil && !yield(pid) {
				return
			}
		}
	})
}

// NativeOf is [Names.Native] among the processes pids only.
func (n *Names) NativeOf(root string, pids []int) ([]Process, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return n.pick(int(dir.Fd()), slices.Values(pids))
}

func (n *Names) pick(root int, pids func(func(int) bool)) ([]Process, error) {
	us, err := ourselves(root)
	if err != nil {
		return nil, err
	}
	var found []Process
	var uncertain []error
	var page [4096]byte
	if len(contents(root, "1/comm", page[:])) == 0 { // which there always is
		uncertain = append(uncertain, fmt.Errorf("%w: other processes are hidden (hidepid=, see proc(5)), which takes CAP_SYS_PTRACE", ErrUncertain))
	}
	for pid := range pids {
		p, ok, err := us.native(root, pid, n)
		switch {
		case err != nil && len(uncertain) < 3: // of more, more words tell nothing more
			uncertain = append(uncertain, err)
		case ok:
			found = append(found, p)
		}
		if len(found) > maxNative {
			break
		}
	}
	found = slices.DeleteFunc(found, func(p Process) bool {
		return slices.ContainsFunc(found, func(q Process) bool { return q.PID == p.PPID })
	})
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found[:min(len(found), maxNative)], errors.Join(uncertain...)
}

// identity is what a native process has in common with us.
type identity struct {
	users string // the text of uid_map: of one user namespace it reads the same
	net   uint64
}

func ourselves(root int) (us identity, err error) {
	var page [4096]byte
	us.users = string(contents(root, "thread-self/uid_map", page[:]))
	var st unix.Stat_t
	if err := unix.Fstatat(root, "thread-self/net/dev", &st, 0); err != nil {
		return us, &os.PathError{Op: "stat", Path: "/proc/thread-self/net/dev", Err: err}
	}
	us.net = st.Ino
	return us, nil
}

// native returns the process pid if it runs, is native, and has one of the
// names; a nil names is any. The quickest to refuse a process comes first.
func (us *identity) native(root, pid int, names *Names) (p Process, ok bool, err error) {
	path := strconv.Itoa(pid)
	var st unix.Stat_t
	if unix.Fstatat(root, path, &st, 0) != nil || st.Uid != 0 { // it has ended, or is not root's
		return p, false, nil
	}
	var page [4096]byte
	if names != nil && !names.comms[string(comm(contents(root, path+"/comm", page[:])))] {
		return p, false, nil
	}
	dir, err := openProcess(root, path)
	if err != nil {
		return p, false, nil // it has ended
	}
	defer unix.Close(dir)
	why := us.judge(dir)
	p, runs := inspect(dir, pid)
	switch {
	case !runs, errors.Is(why, errForeign), names != nil && !names.comms[p.Comm]:
		return p, false, nil
	case why != nil:
		return p, false, fmt.Errorf("%s[%d]: %w: %w", p.Comm, pid, ErrUncertain, why)
	}
	return p, true, nil
}

// OwnedByRoot reports whether the process pid runs as root. A native one does;
// so does one of another user that was started from a set-user-ID file.
func OwnedByRoot(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && st.Uid == 0
}

// Foreign reports whether the process pid is known not to be native. Of one
// that has ended nothing is known.
func Foreign(pid int) bool {
	root, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer root.Close()
	us, err := ourselves(int(root.Fd()))
	if err != nil {
		return false
	}
	dir, err := openProcess(int(root.Fd()), strconv.Itoa(pid))
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	return errors.Is(us.judge(dir), errForeign)
}

// errForeign says that a process is known not to be native.
var errForeign = errors.New("not the host's own")

// judge returns nil for a native process, errForeign for one that is not, and
// what kept us from telling otherwise.
func (us *identity) judge(dir int) error {
	var page [4096]byte
	status := contents(dir, "status", page[:])
	if len(status) == 0 {
		return errors.New("its status can't be read")
	}
	if !rootsOwn(string(status)) {
		return errForeign
	}
	switch users := contents(dir, "uid_map", page[:]); {
	case len(users) == 0:
		return errors.New("its uid_map can't be read")
	case string(users) != us.users:
		return errForeign
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, "net/dev", &st, 0); err != nil {
		return fmt.Errorf("stat its net/dev: %w", err)
	}
	if st.Ino != us.net {
		return errForeign
	}
	return nil
}

// rootsOwn reads the text of /proc/PID/status. All of the process's user
// ids have to be 0: one that was started from a set-user-ID file, which anybody
// may do under a name of his choice, is still his by its real id. sudo(8)
// changes that as well before it asks for a password, and leaves the real group
// (PERM_ROOT in its set_perms.c).
func rootsOwn(status string) bool {
	uids, gid := false, false
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			uids = strings.Join(strings.Fields(rest), " ") == "0 0 0 0"
		} else if rest, ok := strings.CutPrefix(line, "Gid:"); ok {
			f := strings.Fields(rest)
			gid = len(f) > 0 && f[0] == "0"
		}
	}
	return uids && gid
}

// inspect reads all that there is to know of a process that runs.
func inspect(dir, pid int) (p Process, ok bool) {
	var page [4096]byte
	parent, started, ok := running(string(contents(dir, "stat", page[:])))
	if !ok {
		return p, false
	}
	p = read(dir, pid)
	p.PPID, p.Started = parent, started
	return p, true
}
