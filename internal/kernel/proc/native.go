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

// A process is native to the host if it runs as root, in our user namespace, and in
// our network namespace. Any process can take any name, and root in a container is
// often the host's root: only all three together tell a program of the host from
// another program with its name.
//
// None of these checks takes a capability, for root or for anybody else. So they do
// not use the links below /proc/PID/ns, which take CAP_SYS_PTRACE, but the inode of
// /proc/PID/net/dev, which is different in each network namespace (proc_register in
// fs/proc/generic.c, proc_tgid_net_lookup in proc_net.c).

// ErrUncertain is wrapped in the errors about running processes of which it is not
// known whether they are native.
var ErrUncertain = errors.New("cannot find out whether it is the host's own")

// maxNative is how many native processes are listed: far more than a host runs with
// one name, and a limit on what callers have to remember.
const maxNative = 64

// Names are the names of the processes to look for.
type Names struct {
	comms map[string]bool // the part that the kernel keeps
}

// NewNames returns Names for processes that were started from files called names;
// see [Comm].
func NewNames(names []string) *Names {
	n := &Names{comms: make(map[string]bool, len(names))}
	for _, name := range names {
		n.comms[Comm(name)] = name != ""
	}
	return n
}

// Native lists the native processes that run under one of the names, sorted by PID,
// at most 64. root is a mount of procfs ("/proc"); Native sees the processes of its
// PID namespace and of those below. It leaves out processes that have ended and were
// not waited for. It also leaves out children of a listed process, because between
// fork and exec a child has its parent's name. With an error that is [ErrUncertain],
// processes may be missing from the list; any other error says that nothing could
// be listed.
//
// The cost is one system call, some 2 µs, for each process on the machine, and three
// more for each of root's.
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
	if len(contents(root, "1/comm", page[:])) == 0 { // PID 1 always exists
		uncertain = append(uncertain, fmt.Errorf("%w: other processes are hidden (hidepid=, see proc(5)), which takes CAP_SYS_PTRACE", ErrUncertain))
	}
	for pid := range pids {
		p, ok, err := us.native(root, pid, n)
		switch {
		case err != nil && len(uncertain) < 3: // three are enough to explain
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

// identity is what native processes have in common with us.
type identity struct {
	users string // the text of uid_map, which is the same throughout a user namespace
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

// native returns the process pid if it runs, is native, and has one of the names;
// nil names match any. The cheapest check comes first.
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

// OwnedByRoot reports whether the process pid runs as root. Native processes do; so
// does a set-user-ID program that another user has started.
func OwnedByRoot(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && st.Uid == 0
}

// Foreign reports whether the process pid is known not to be native. Nothing is
// known about a process that has ended.
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

// judge returns nil for a native process, errForeign for one that is not native, and
// any other error if it could not find out.
func (us *identity) judge(dir int) error {
	var page [4096]byte
	status := contents(dir, "status", page[:])
	if len(status) == 0 {
		return errors.New("its status cannot be read")
	}
	if !rootsOwn(string(status)) {
		return errForeign
	}
	switch users := contents(dir, "uid_map", page[:]); {
	case len(users) == 0:
		return errors.New("its uid_map cannot be read")
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

// rootsOwn reports, from the text of /proc/PID/status, whether a process is root's
// own. All its user ids have to be 0: any user can start a set-user-ID program under
// any name, but its real id stays the user's. sudo(8) also changes the real user id
// before it asks for a password, but not the real group (PERM_ROOT in its
// set_perms.c).
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

// inspect reads everything that [Process] has about a running process.
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
