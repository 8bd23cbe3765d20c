// Package proc reads from /proc what a process is called and where it runs. It reads
// nothing else about a process: no command line, no environment, no memory.
package proc

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what is known about a process. What could not be read is empty.
type Process struct {
	PID    int
	Comm   string // what the kernel calls it: at most 15 bytes, see [Comm]
	Exe    string // its executable, as named in its own mount namespace
	Cgroup string // cgroup v2 path, or that of systemd's hierarchy in v1; see [Locate]

	// PPID is the parent. Started is when it began, as the time since boot, in steps of 10 ms:
	// together with the PID it identifies a process. [Read] leaves both zero.
	PPID    int
	Started time.Duration
}

// maxComm is how much of a name the kernel keeps: TASK_COMM_LEN without the zero
// byte, in include/linux/sched.h.
const maxComm = 15

// Comm is the comm of a process that is started from a file called name. The process
// can change it later (PR_SET_NAME in prctl(2)).
func Comm(name string) string {
	return name[:min(len(name), maxComm)]
}

// Read reads what the process pid is, as far as that is still possible: a
// short-lived process may be gone, and its executable is the first to go.
func Read(pid int) Process {
	if pid <= 0 {
		return Process{}
	}
	dir, err := openProcess(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid))
	if err != nil {
		return Process{PID: pid}
	}
	defer unix.Close(dir)
	return read(dir, pid)
}

// ReadComm reads the comm of the process pid, or "" if it is gone.
func ReadComm(pid int) string {
	var b [maxComm + 1]byte
	return string(comm(contents(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/comm", b[:])))
}

// openProcess opens the directory of a process in procfs. Everything that is read
// below it belongs to this process, even if another one gets its PID later.
func openProcess(at int, path string) (int, error) {
	return unix.Openat(at, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func read(dir, pid int) Process {
	p := Process{PID: pid}
	var page [4096]byte
	if n, err := unix.Readlinkat(dir, "exe", page[:]); err == nil {
		p.Exe = strings.TrimSuffix(string(page[:n]), " (deleted)")
	}
	p.Comm = string(comm(contents(dir, "comm", page[:])))
	p.Cgroup = cgroup(string(contents(dir, "cgroup", page[:])))
	return p
}

// ticks is how many units of the times in /proc/PID/stat make a second. It is the
// kernel's USER_HZ, which is 100 on all platforms of Go, whatever CONFIG_HZ is.
const ticks = 100

// running reads from the text of /proc/PID/stat, see proc_pid_stat(5), the parent of
// a process, when it began, and whether it still runs.
func running(stat string) (parent int, since time.Duration, ok bool) {
	// The name is in parentheses and can contain anything. Then come the state
	// (field 3) and the parent; the kernel's flags are field 9, the start is
	// field 22. A process that is exiting has already left its namespaces.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const (
		state, ppid, flags, start = 0, 1, 9 - 3, 22 - 3
		exiting                   = 4 // PF_EXITING of linux/sched.h
	)
	if len(f) <= start || f[state] == "Z" || f[state] == "X" {
		return 0, 0, false
	}
	parent, err := strconv.Atoi(f[ppid])
	bits, err2 := strconv.ParseUint(f[flags], 10, 64)
	n, err3 := strconv.ParseInt(f[start], 10, 64)
	if err != nil || err2 != nil || err3 != nil || bits&exiting != 0 {
		return 0, 0, false
	}
	return parent, time.Duration(n) * (time.Second / ticks), true
}

// comm is the text of a comm file without the final newline.
func comm(text []byte) []byte {
	return bytes.TrimSuffix(text, []byte("\n"))
}

// contents reads a file of procfs into b, as much as fits; nothing if it cannot be
// read. The process can end at any moment, so this has to be fast: it makes three
// system calls, os.ReadFile twelve.
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
