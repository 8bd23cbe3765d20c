package proc

import "strings"

// Place is where a process runs, as the path of its control group tells. What
// the path does not tell is empty.
type Place struct {
	Unit      string // systemd unit: "kubelet.service", "cri-containerd-….scope"; as journald's _SYSTEMD_UNIT
	Container string // id of the container: 64 hexadecimal digits
	Pod       string // uid of the pod; a static pod's has no dashes
}

// Locate reads a control group path. Of what is nested the outermost counts:
// whoever has a group for his own, a container or a user's manager, makes others
// below that by any name, and is where he is whatever they say. So a process in
// a node that is a container itself is in that, seen from outside.
//
// Units are services, scopes, sockets and mounts. A container is known by its
// id, alone or after the name of its runtime ("crio-", "docker-", "libpod-",
// "cri-containerd-", …) and before ".scope"; a runtime's monitor (conmon) is
// not in the container. A pod is known by the form of its uid, as kubelet's
// two cgroup drivers write it: pod<uid>, and kubepods-burstable-pod<uid>.slice
// with underscores, because a dash is a step down in the name of a slice. Its
// container is the step right below it, which a unit is, too.
func Locate(path string) (p Place) {
	for step := range strings.SplitSeq(path, "/") {
		inPod := p.Pod != ""
		// A colon separates slice, runtime and id where runc is told to use
		// the cgroupfs driver while kubelet's is systemd.
		for part := range strings.SplitSeq(step, ":") {
			if uid := podUID(strings.TrimSuffix(part, ".slice")); uid != "" && p.Pod == "" {
				p.Pod = uid
			}
			if id := containerID(strings.TrimSuffix(part, ".scope")); id != "" && p.Container == "" {
				p.Container = id
			}
		}
		if isUnit(step) && p.Unit == "" {
			p.Unit = step
		}
		if inPod || p.Container != "" || isUserManager(step) {
			break
		}
	}
	return p
}

// isUserManager reports whether step is the service below which a user's own
// manager has all groups.
func isUserManager(step string) bool {
	return strings.HasPrefix(step, "user@") && strings.HasSuffix(step, ".service")
}

// podUID returns the uid in "…-pod<uid>" or "pod<uid>", with dashes, or "".
func podUID(s string) string {
	before, uid, ok := cutLast(s, "pod")
	if !ok || before != "" && !strings.HasSuffix(before, "-") {
		return ""
	}
	if isHex(uid, 32) { // kubelet's hash of a static pod's file
		return uid
	}
	uid = strings.ReplaceAll(uid, "_", "-")
	parts := strings.Split(uid, "-")
	lengths := []int{8, 4, 4, 4, 12}
	if len(parts) != len(lengths) {
		return ""
	}
	for i, n := range lengths {
		if !isHex(parts[i], n) {
			return ""
		}
	}
	return uid
}

// containerID returns the id in "…-<id>" or "<id>", or "".
func containerID(s string) string {
	before, id, ok := cutLast(s, "-")
	if !ok {
		id = s
	}
	if !isHex(id, 64) || strings.HasSuffix(before, "conmon") {
		return ""
	}
	return id
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+len(sep):], true
}

// isHex reports whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

func isUnit(step string) bool {
	for _, suffix := range []string{".service", ".scope", ".socket", ".mount"} {
		if strings.HasSuffix(step, suffix) {
			return true
		}
	}
	return false
}

// cgroup picks the path in systemd's own hierarchy out of /proc/PID/cgroup:
// that named systemd where version 1 is in use, otherwise the unified one. Of a
// process that has ended version 1 says "/", and version 2 still where it was
// (cgroup_exit and proc_cgroup_show in kernel/cgroup/cgroup.c).
func cgroup(text string) string {
	var v1, unified string
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) != 3:
		case f[1] == "name=systemd":
			v1 = f[2]
		case f[0] == "0":
			unified = f[2]
		}
	}
	if unified != "" && (v1 == "" || v1 == "/") {
		return unified
	}
	return v1
}
