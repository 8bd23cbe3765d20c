package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// UnitGroup is the directory of the control group of a systemd service, which
// is there while the service has processes: in systemd's own hierarchy where
// version 1 is in use, and in system.slice, where services are unless their
// Slice= says otherwise.
func UnitGroup(unit string) string {
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/systemd"
	}
	return filepath.Join(root, "system.slice", unit)
}

// Oldest returns the process of a control group that has run for longest, and
// false where there is none: a service's main process, as a rule.
func Oldest(group string) (oldest Process, ok bool) {
	pids, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return Process{}, false
	}
	for line := range strings.Lines(string(pids)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			continue
		}
		p, running := inspect("/proc/"+strconv.Itoa(pid), pid)
		if running && (!ok || p.Started < oldest.Started) {
			oldest, ok = p, true
		}
	}
	return oldest, ok
}
