// Package pods tells which pods run on this node, from what the node alone
// has: the control groups that the kubelet makes for them, and the names of the
// files that it keeps their logs in. It asks no API server and no container
// runtime, and what it tells is good for a name only.
package pods

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// Process is a process of a pod, one of all that it has.
type Process struct {
	UID string // the pod's
	PID int
}

// Where the kubelet keeps the groups of pods, below the mount of a hierarchy:
// by its two drivers, in kind, and where k3s runs nested in its own unit. With
// --cgroup-root they can be elsewhere.
var groups = []string{
	"kubepods",
	"kubepods.slice",
	"kubelet/kubepods",
	"kubelet.slice/kubelet-kubepods.slice",
	"system.slice/k3s*.service/kubepods",
}

// hierarchies are the mounts in /sys/fs/cgroup: version 2 alone, beside
// version 1, and one of version 1 that there always is.
var hierarchies = []string{".", "unified", "systemd", "pids"}

// maxPods bounds what is looked at: ten times what a node is made for.
const maxPods = 1100

// Running returns a process of each pod that has one, from the control groups
// below root, which is "/sys/fs/cgroup". The error is of what could not be
// looked at; the rest is there. A pod that comes or goes meanwhile need not be
// there.
func Running(root string) (list []Process, unread error) {
	for _, h := range hierarchies {
		for _, g := range groups {
			tops, err := filepath.Glob(filepath.Join(root, h, g))
			unread = errors.Join(unread, err)
			for _, top := range tops {
				for _, dir := range []string{top, "burstable", "besteffort", "*-burstable.slice", "*-besteffort.slice"} {
					if dir != top {
						dir = filepath.Join(top, dir)
					}
					classes, _ := filepath.Glob(dir) // the pattern is well-formed
					for _, class := range classes {
						if list, err = running(class, list); err != nil {
							unread = errors.Join(unread, err)
						}
					}
				}
			}
		}
		if len(list) > 0 {
			break // the others have the same
		}
	}
	return list, unread
}

// running adds the pods whose groups are in dir.
func running(dir string, list []Process) ([]Process, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return list, ignoreGone(err)
	}
	var unread error
	for _, e := range entries {
		uid := proc.Locate("/" + e.Name()).Pod
		if !e.IsDir() || uid == "" || slices.ContainsFunc(list, func(p Process) bool { return p.UID == uid }) {
			continue
		}
		if len(list) == maxPods {
			return list, fmt.Errorf("%s has more than %d pods", dir, maxPods)
		}
		pid, err := member(filepath.Join(dir, e.Name()), 2)
		unread = errors.Join(unread, err)
		if pid > 0 {
			list = append(list, Process{uid, pid})
		}
	}
	return list, unread
}

// member is a process in the group at path, or depth levels below it; 0 where
// there is none.
func member(path string, depth int) (pid int, err error) {
	f, err := os.Open(filepath.Join(path, "cgroup.procs"))
	if err == nil {
		line, _ := bufio.NewReader(io.LimitReader(f, 32)).ReadString('\n') // what is no number is none
		f.Close()
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			return pid, nil
		}
	} else if err = ignoreGone(err); err != nil {
		return 0, err
	}
	if depth == 0 {
		return 0, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return 0, ignoreGone(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if pid, err = member(filepath.Join(path, e.Name()), depth-1); pid > 0 || err != nil {
			return pid, err
		}
	}
	return 0, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
