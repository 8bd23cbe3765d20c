// Package instance says which daemon runs on a runtime directory: it keeps the
// lock that one daemon holds, and tells the process that wrote a file from
// another one that has its PID, from one that is stopped, and from none.
package instance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is which process a daemon is. A PID alone is used again, after a
// reboot at the latest.
type Process struct {
	PID   int    `json:"pid"`
	Comm  string `json:"comm"`
	Ticks uint64 `json:"start_ticks"` // when it started, in clock ticks since the boot: field 22 of /proc/PID/stat
	Boot  string `json:"boot_id"`

	// The inodes of its namespaces: a PID, and a sysctl of the network, mean
	// something else in another one.
	PIDNamespace     uint64 `json:"pid_namespace"`
	NetworkNamespace uint64 `json:"network_namespace"`
}

// State is what became of a process.
type State string

// The states.
const (
	Running State = "running"
	Stopped State = "stopped" // by a signal or a debugger: it does nothing until it is continued
	Frozen  State = "frozen"  // by its control group: systemctl freeze
	Gone    State = "gone"    // ended, or not of this boot
	Hidden  State = "hidden"  // it can't be told from here
)

// Self is this process.
func Self() (Process, error) {
	p := Process{PID: os.Getpid()}
	s, err := readStat(p.PID)
	if err != nil {
		return p, err
	}
	p.Comm, p.Ticks = s.comm, s.ticks
	if p.Boot, err = bootID(); err != nil {
		return p, err
	}
	p.PIDNamespace, p.NetworkNamespace, err = namespaces()
	return p, err
}

// State finds out what has become of p. With [Hidden] comes the reason.
func (p *Process) State() (State, error) {
	boot, err := bootID()
	if err != nil {
		return Hidden, err
	}
	if boot != p.Boot {
		return Gone, nil
	}
	here, _, err := namespaces()
	if err != nil {
		return Hidden, err
	}
	if here != p.PIDNamespace {
		return Hidden, errors.New("it runs in another PID namespace than this command")
	}
	s, err := readStat(p.PID)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		if _, err := os.Stat("/proc/1/stat"); err != nil {
			return Hidden, fmt.Errorf("/proc hides the processes of other users (hidepid): %w", err)
		}
		return Gone, nil
	case err != nil:
		return Hidden, err
	case s.ticks != p.Ticks, s.comm != p.Comm, s.state == 'Z', s.state == 'X':
		return Gone, nil
	case s.state == 'T', s.state == 't':
		return Stopped, nil
	case frozen(p.PID):
		return Frozen, nil
	}
	return Running, nil
}

// frozen reports whether the control group of a process is frozen (v2), with
// whatever group above. Where that can't be read, it is not known to be.
func frozen(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ok {
			continue
		}
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} { // the second where version 1 is mounted, too
			events, err := os.ReadFile(filepath.Join(root, group, "cgroup.events"))
			if err == nil && strings.Contains(string(events), "frozen 1") {
				return true
			}
		}
	}
	return false
}

// SameNetwork reports whether this process sees the sysctls of the network that
// p sees.
func (p *Process) SameNetwork() bool {
	_, network, err := namespaces()
	return err == nil && network == p.NetworkNamespace
}

type stat struct {
	comm  string
	state byte
	ticks uint64
}

func readStat(pid int) (stat, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	s, ok := parseStat(text)
	if !ok {
		return s, fmt.Errorf("read %s: no such line is known: %q", path, text)
	}
	return s, nil
}

// parseStat reads proc_pid_stat(5). The name may have blanks and brackets in it.
func parseStat(text []byte) (s stat, ok bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return s, false
	}
	s.comm = string(text[open+1 : end])
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 { // the state is field 3, the start field 22
		return s, false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	s.state, s.ticks = fields[0][0], ticks
	return s, err == nil
}

func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// namespaces are the inodes of this process's own.
func namespaces() (pid, network uint64, err error) {
	var s unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &s); err != nil {
		return 0, 0, &fs.PathError{Op: "stat", Path: "/proc/self/ns/pid", Err: err}
	}
	pid = s.Ino
	if err := unix.Stat("/proc/self/ns/net", &s); err != nil {
		return 0, 0, &fs.PathError{Op: "stat", Path: "/proc/self/ns/net", Err: err}
	}
	return pid, s.Ino, nil
}

// CheckDir refuses a runtime directory that another user could have filled: what
// stands in it would not be the daemon's.
func CheckDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return &fs.PathError{Op: "look at", Path: dir, Err: unix.ENOTDIR}
	case !ok:
		return &fs.PathError{Op: "look at", Path: dir, Err: errors.New("it has no owner")}
	case s.Uid != 0 && int(s.Uid) != os.Geteuid(): // somebody who runs this as another user deceives only themselves
		return &fs.PathError{Op: "trust", Path: dir, Err: fmt.Errorf("it belongs to uid %d, not to root", s.Uid)}
	case info.Mode().Perm()&0o022 != 0:
		return &fs.PathError{Op: "trust", Path: dir, Err: fmt.Errorf("others than its owner can write to it (mode %04o)", info.Mode().Perm())}
	}
	return nil
}
