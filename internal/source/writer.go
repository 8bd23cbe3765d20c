package source

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadWriter reads who the process pid is, as far as that is still possible:
// a short-lived one may be gone, its executable first. It never reads a
// command line or an environment.
func ReadWriter(pid int) Writer {
	if pid <= 0 {
		return Writer{}
	}
	dir := fmt.Sprintf("/proc/%d/", pid)
	w := Writer{PID: pid}
	if exe, err := os.Readlink(dir + "exe"); err == nil {
		w.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	w.Comm = strings.TrimSuffix(read(dir+"comm"), "\n")
	w.Cgroup = cgroup(read(dir + "cgroup"))
	return w
}

// read returns up to a page of a file of procfs, or "". A writer may be gone
// in a moment: this is three system calls, and os.ReadFile is twelve.
func read(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// cgroup picks the path in systemd's own hierarchy out of /proc/PID/cgroup:
// that named systemd where version 1 is in use, otherwise the unified one.
func cgroup(text string) string {
	unified := ""
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[1] == "name=systemd" {
			return f[2]
		}
		if f[0] == "0" {
			unified = f[2]
		}
	}
	return unified
}

// Unit is the systemd unit that runs w: the innermost service, socket,
// mount or scope of its control group, or "" outside of one.
func (w Writer) Unit() string {
	parts := strings.Split(w.Cgroup, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		for _, suffix := range []string{".service", ".scope", ".socket", ".mount"} {
			if strings.HasSuffix(parts[i], suffix) {
				return parts[i]
			}
		}
	}
	return ""
}
