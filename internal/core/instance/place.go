package instance

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Inodes that the kernel gives to the namespaces of the host itself. That of the PID
// namespace has been the same since 3.8 (PROC_PID_INIT_INO of include/linux/proc_ns.h).
// Until some release before 6.18 that of the network came from the numbers which all
// others get, and are not smaller than firstOther.
const (
	hostPID    = 0xEFFFFFFC
	firstOther = 0xF0000000
)

// Container says in a sentence that this process is in a container, where the sysctls and
// files need not be the host's; "" where it is not, or that cannot be told. Files that
// mark a container are not asked: they stay in images that are booted.
func Container() string {
	pid, _, err := namespaces()
	if err != nil || pid == hostPID {
		return ""
	}
	return "this is a container: its sysctls and files need not be the host's"
}

// OtherNetwork says in a sentence that this process is in another network namespace than
// the host's, as "ip netns exec" has it; "" where it is not, or that cannot be told.
func OtherNetwork() string {
	_, network, err := namespaces()
	if err != nil {
		return ""
	}
	var u unix.Utsname
	release := ""
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Stat_t
	init := uint64(0) // that of PID 1; 0: we may not look
	if unix.Stat("/proc/1/ns/net", &s) == nil {
		init = s.Ino
	}
	if !other(network, init, release) {
		return ""
	}
	return "this is not the host's network namespace, and its sysctls are others"
}

func other(network, init uint64, release string) bool {
	switch {
	case network < firstOther, network == init: // the host's
		return false
	case init != 0, atLeast(release, 6, 18):
		return true
	}
	return false
}

// atLeast compares the release of a kernel with a version.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(strings.TrimSpace(release), "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
