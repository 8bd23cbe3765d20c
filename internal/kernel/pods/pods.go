// Package pods finds the pods that run on this node from what is on the node itself:
// the control groups that the kubelet makes for them, and the names of their log
// files. It asks neither the API server nor the container runtime. Its answers are
// good for naming pods, and for nothing else.
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

// Process is one of a pod's processes.
type Process struct {
	UID string // the pod's
	PID int
}

// Where the kubelet makes the groups of pods, below the mount of a hierarchy: with
// either of its cgroup drivers, in kind, and in k3s, which can nest them in its own
// unit. With --cgroup-root they can be elsewhere.
var groups = []string{
	"kubepods",
	"kubepods.slice",
	"kubelet/kubepods",
	"kubelet.slice/kubelet-kubepods.slice",
	"system.slice/k3s*.service/kubepods",
}

// hierarchies are the mounts below /sys/fs/cgroup: version 2 alone, version 2 next
// to version 1, and those of version 1 that are always there.
var hierarchies = []string{".", "unified", "systemd", "pids"}

// maxPods limits the search: ten times the pods that a node is made for.
const maxPods = 1100

// Running returns one process of each pod that has any, from the control groups
// below root, which is "/sys/fs/cgroup". The error says what could not be read; the
// list holds the rest. A pod that starts or ends meanwhile can be missing.
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
			break // the other hierarchies have the same pods
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

// member returns a process in the group at path, or up to depth levels below it; 0
// if there is none.
func member(path string, depth int) (pid int, err error) {
	f, err := os.Open(filepath.Join(path, "cgroup.procs"))
	if err == nil {
		line, _ := bufio.NewReader(io.LimitReader(f, 32)).ReadString('\n') // text that is no number counts as none
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
