package hook

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// rootInode is the inode of the root of every cgroup hierarchy: kernfs counts from
// one. In a container with its own cgroup namespace, the root of the mount is
// another directory, which holds the container's tasks only.
const rootInode = 1

// openCgroup opens dir or, if dir is "", the root of cgroup v2.
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
		if f, err := os.Open(dir); err == nil {
			if isRoot(f) {
				return f, nil
			}
			f.Close()
		}
	}
	if len(dirs) > 0 {
		return nil, fmt.Errorf("%s is the cgroup of a container, not the root of cgroup v2: %w", dirs[0], ErrNotSupported)
	}
	f, err := mountCgroup()
	if err != nil {
		return nil, fmt.Errorf("cgroup v2 is not mounted, and cannot be: %w: %w", ErrNotSupported, err)
	}
	if !isRoot(f) {
		f.Close()
		return nil, fmt.Errorf("cgroup v2 is not mounted, and mounting it only shows the cgroup of a container: %w", ErrNotSupported)
	}
	return f, nil
}

// isRoot reports whether f is the root of a cgroup hierarchy.
func isRoot(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Ino == rootInode
}

// mountCgroup opens the root of a private mount of cgroup v2, which goes away when
// the file is closed. Hosts that use only version 1 have the hierarchy of
// version 2 too, with all tasks in its root.
func mountCgroup() (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), "a private mount of cgroup v2"), nil
}

// cgroupMounts returns the mount points of cgroup v2 in a text like that of
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
