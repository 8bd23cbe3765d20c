package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// UnitGroup is the directory of the control group of a systemd service. It exists
// while the service has processes. It is in systemd's hierarchy if version 1 is in
// use, and below system.slice, the default for services without Slice=.
func UnitGroup(unit string) string {
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/systemd"
	}
	return filepath.Join(root, "system.slice", unit)
}

// OldestNative returns the native process of a control group that has run the
// longest, which is usually a service's main process; ok is false if there is none.
// The error is [ErrUncertain] if it might be another process of the group.
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
