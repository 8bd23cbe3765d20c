package source

import (
	"bytes"
	"fmt"
	"os"
	"strings"
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
	if comm, err := os.ReadFile(dir + "comm"); err == nil {
		w.Comm = string(bytes.TrimSuffix(comm, []byte("\n")))
	}
	if text, err := os.ReadFile(dir + "cgroup"); err == nil {
		w.Cgroup = cgroup(string(text))
	}
	return w
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
