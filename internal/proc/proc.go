// Package proc reads from /proc who a process is and where it runs. It reads
// nothing else of a process: no command line, no environment, no memory.
package proc

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what is known of a process. What could not be read is empty.
type Process struct {
	PID    int
	Comm   string // what the kernel calls it: at most 15 bytes, see [Comm]
	Exe    string // its executable, as its own mount namespace names it
	Cgroup string // cgroup v2 path, or systemd's own hierarchy's in v1; see [Locate]

	// PPID is the parent. Started is how long after the boot it began, in steps of 10 ms: with the
	// PID it tells a process from all others. Netns is the inode of its network
	// namespace. [Read] leaves them zero, and Netns is zero where we may not see it.
	PPID    int
	Started time.Duration
	Netns   uint64
}

// maxComm is how much of a name the kernel keeps: TASK_COMM_LEN without its
// zero, in include/linux/sched.h.
const maxComm = 15

// Comm is the comm of a process that is started from a file called name. A
// process can give itself another one later (PR_SET_NAME in prctl(2)).
func Comm(name string) string {
	return name[:min(len(name), maxComm)]
}

// Read reads who the process pid is, as far as that is still possible: a
// short-lived one may be gone, its executable first.
func Read(pid int) Process {
	if pid <= 0 {
		return Process{}
	}
	return read("/proc/"+strconv.Itoa(pid), pid)
}

// ReadComm reads the comm of the process pid, or "" if it is gone.
func ReadComm(pid int) string {
	var b [maxComm + 1]byte
	return string(comm(contents(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/comm", b[:])))
}

func read(dir string, pid int) Process {
	p := Process{PID: pid}
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		p.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	var page [4096]byte
	p.Comm = string(comm(contents(unix.AT_FDCWD, dir+"/comm", page[:])))
	p.Cgroup = cgroup(string(contents(unix.AT_FDCWD, dir+"/cgroup", page[:])))
	return p
}

// Named lists the processes that run under one of names, cut to what the
// kernel keeps, in the procfs that is mounted at root ("/proc"), by pid. It
// sees those of root's PID namespace and of the ones below it. One that has
// ended and was not waited for does not run; a child of one that is listed is
// not, for between fork and exec it bears its parent's name. The cost is three system calls,
// some 5 µs, for each process of the machine.
func Named(root string, names []string) ([]Process, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[Comm(name)] = name != ""
	}
	var found []Process
	var page [4096]byte
	for _, entry := range entries {
		if entry[0] < '0' || entry[0] > '9' {
			continue
		}
		if !wanted[string(comm(contents(int(dir.Fd()), entry+"/comm", page[:])))] {
			continue
		}
		pid, err := strconv.Atoi(entry)
		if err != nil {
			continue
		}
		if p, ok := inspect(root+"/"+entry, pid); ok {
			found = append(found, p)
		}
	}
	found = slices.DeleteFunc(found, func(p Process) bool {
		return slices.ContainsFunc(found, func(q Process) bool { return q.PID == p.PPID })
	})
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found, nil
}

// inspect reads all that there is to know of a process that runs.
func inspect(dir string, pid int) (p Process, ok bool) {
	var page [4096]byte
	parent, started, ok := running(string(contents(unix.AT_FDCWD, dir+"/stat", page[:])))
	if !ok {
		return p, false
	}
	p = read(dir, pid)
	p.PPID, p.Started = parent, started
	var st unix.Stat_t
	if unix.Stat(dir+"/ns/net", &st) == nil {
		p.Netns = st.Ino
	}
	return p, true
}

// Netns is the inode of the network namespace of the calling thread, or zero.
func Netns() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return 0
	}
	return st.Ino
}

// ticks is the unit of the times in /proc/PID/stat, a second's share. It is
// USER_HZ of the kernel and 100 on all that Go runs on, whatever CONFIG_HZ.
const ticks = 100

// running reads from the text of /proc/PID/stat, see proc_pid_stat(5), who is
// the parent of a process and when it began, and whether it has not ended.
func running(stat string) (parent int, since time.Duration, ok bool) {
	// The name is in parentheses and may hold anything; the state is next,
	// field 3, then the parent, and the start is field 22.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const state, ppid, start = 0, 1, 22 - 3
	if len(f) <= start || f[state] == "Z" || f[state] == "X" {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(f[ppid])
	n, err2 := strconv.ParseInt(f[start], 10, 64)
	return parent, time.Duration(n) * (time.Second / ticks), err == nil && err2 == nil
}

// comm is the text of a comm file without the kernel's newline.
func comm(text []byte) []byte {
	return bytes.TrimSuffix(text, []byte("\n"))
}

// contents reads a file of procfs into b, as much as fits; nothing if it
// cannot be read. A process may be gone in a moment: this is three system
// calls, and os.ReadFile is twelve.
func contents(dir int, path string, b []byte) []byte {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, b)
	if err != nil {
		return nil
	}
	return b[:n]
}
