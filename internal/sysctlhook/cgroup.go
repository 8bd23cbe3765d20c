package sysctlhook

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// rootInode is that of the root of every cgroup hierarchy: kernfs numbers from
// one. In a container with a cgroup namespace of its own the root of the mount
// is another directory, below which only the container's tasks are.
const rootInode = 1

// openCgroup opens the directory, or if dir is "" the root of cgroup v2.
func openCgroup(dir string) (*os.File, error) {
	if dir != "" {
		return os.Open(dir)
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer mounts.Close()
	dirs, err := cgroupMounts(mounts)
	if err != nil {
		return nil, fmt.Errorf("find the root of cgroup v2: %w", err)
	}
	for _, dir := range dirs {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && st.Ino == rootInode {
			return os.Open(dir)
		}
	}
	if len(dirs) > 0 {
		return nil, fmt.Errorf("%s is not the root of cgroup v2, but of a container: %w", dirs[0], ErrNotSupported)
	}
	return nil, fmt.Errorf("cgroup v2 is not mounted: %w", ErrNotSupported)
}

// cgroupMounts returns the mount points of cgroup v2 out of a text as in
// /proc/PID/mountinfo (proc_pid_mountinfo(5)).
func cgroupMounts(r io.Reader) (dirs []string, err error) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	s := bufio.NewScanner(r)
	for s.Scan() {
		mount, fs, ok := strings.Cut(s.Text(), " - ")
		f := strings.Fields(mount)
		if ok && len(f) > 4 && strings.HasPrefix(fs, "cgroup2 ") {
			dirs = append(dirs, unescape.Replace(f[4]))
		}
	}
	return dirs, s.Err()
}
