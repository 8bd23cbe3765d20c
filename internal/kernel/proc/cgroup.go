package proc

import "strings"

// Place is where a process runs, according to the path of its control group. What
// the path does not say is empty.
type Place struct {
	Unit      string // systemd unit: "kubelet.service", "cri-containerd-….scope"; as journald's _SYSTEMD_UNIT
	Container string // id of the container: 64 hexadecimal digits
	Pod       string // uid of the pod; a static pod's has no dashes
}

// Locate reads a control group path. If groups are nested, the outermost counts:
// a container or a user's manager owns its group, and can make others below it with
// any name, which prove nothing. So if a node is itself a container, a process in
// it is in that container, seen from outside.
//
// Units are services, scopes, sockets and mounts. A container is recognised by its
// id, alone or after the name of its runtime ("crio-", "docker-", "libpod-",
// "cri-containerd-", …) and before ".scope"; a runtime's monitor (conmon) is
// not in the container. A pod is recognised by its uid, as kubelet's two cgroup
// drivers write it: pod<uid>, and kubepods-burstable-pod<uid>.slice with
// underscores, because a dash in the name of a slice is a level of the hierarchy.
// A pod's container is the group directly below the pod's; it can be a unit too.
func Locate(path string) (p Place) {
	for step := range strings.SplitSeq(path, "/") {
		inPod := p.Pod != ""
		// A colon separates slice, runtime and id if runc uses the cgroupfs
		// driver and kubelet the systemd driver.
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

// isUserManager reports whether step is the service of a user's systemd manager,
// which has all its groups below it.
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

// cgroup returns the path in systemd's hierarchy from the text of /proc/PID/cgroup:
// with version 1 that is the hierarchy named systemd, otherwise the unified one. For
// a process that has ended, version 1 says "/", and version 2 still says where it
// was (cgroup_exit and proc_cgroup_show in kernel/cgroup/cgroup.c).
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
