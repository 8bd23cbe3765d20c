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

// OldestNative returns the native process of a control group that has run for
// longest, and false where there is none: a service's main process, as a rule.
// The error is [ErrUncertain] where one of the others may be it.
func OldestNative(group string) (oldest Process, ok bool, err error) {
	pids, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return Process{}, false, nil // no such group: the service does not run
	}
	root, err := os.Open("/proc")
	if err != nil {
		return Process{}, false, err
	}
	defer root.Close()
	us, err := ourselves(int(root.Fd()))
	if err != nil {
		return Process{}, false, err
	}
	var uncertain error
	for line := range strings.Lines(string(pids)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			continue
		}
		p, native, err := us.native(int(root.Fd()), pid, nil)
		if err != nil {
			uncertain = err
		}
		if native && (!ok || p.Started < oldest.Started) {
			oldest, ok = p, true
		}
	}
	return oldest, ok, uncertain
}
