package cluster

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A cluster is many processes, some of which detach from their parents, and control
// groups and files. Two processes make sure that nothing is left behind: the process that
// go test has started is the guardian of another, which runs the tests. When the tests
// end, or are killed, the guardian removes what they have left. When the guardian is
// killed, the tests turn into a cleaner. If both are killed at once, the next run removes
// what is left.

// guarded is the environment variable that gives the tests the directory of
// the run, whose base name is also that of the run's control groups.
const guarded = "NFGUARD_CLUSTER_DIR"

// orphaned is the environment variable that gives a cleaner the directory to clean.
const orphaned = "NFGUARD_CLUSTER_CLEAN"

const prefix = "nfguard-cluster-"

// dir is the directory of this run.
var dir = os.Getenv(guarded)

// guard is the body of TestMain.
func guard(m *testing.M) int {
	// Processes that lose their parent become children of this process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "adopt orphans:", err)
		return 1
	}
	if left := os.Getenv(orphaned); left != "" {
		clean(left)
		return 1
	}
	if dir == "" {
		return guardian()
	}
	unix.CloseOnExec(3) // the lock
	parent := os.Getppid()
	var end sync.Mutex
	go func() {
		for ; os.Getppid() == parent; time.Sleep(100 * time.Millisecond) {
		}
		end.Lock()
		// The tests end here, at once, and create nothing more. What they have started
		// stays a child of this process.
		err := unix.Exec("/proc/self/exe", os.Args[:1], append(os.Environ(), orphaned+"="+dir))
		fmt.Fprintln(os.Stderr, "clean up:", err)
		clean(dir)
		os.Exit(1)
	}()
	code := m.Run()
	end.Lock()
	return code
}

func guardian() int {
	var err error
	if dir, err = os.MkdirTemp("", prefix); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer clean(dir)
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, old := range stale() {
		fmt.Fprintln(os.Stderr, "removing what a killed run has left:", old)
		clean(old)
	}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	tests := exec.Command(os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), guarded+"="+dir)
	tests.Stdout, tests.Stderr = os.Stdout, os.Stderr
	tests.ExtraFiles = []*os.File{lock} // held while one of the two lives
	tests.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	parent := os.Getppid()
	if err := tests.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGQUIT { // for a test that takes too long: it prints where it is
					s = syscall.SIGKILL
				}
				_ = tests.Process.Signal(s) // it may have ended
			case <-time.After(100 * time.Millisecond):
				if os.Getppid() != parent {
					_ = tests.Process.Kill()
				}
			}
		}
	}()
	_ = tests.Wait() // the exit code tells the result
	return max(tests.ProcessState.ExitCode(), -tests.ProcessState.ExitCode())
}

// stale returns the directories of runs without any living process.
func stale() []string {
	var old []string
	list, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // a constant pattern
	for _, d := range list {
		f, err := os.Open(filepath.Join(d, "lock"))
		if d == dir {
			continue
		}
		if err != nil { // the run is just starting, or was killed while it was
			if info, err := os.Stat(d); err == nil && time.Since(info.ModTime()) > time.Minute {
				old = append(old, d)
			}
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			old = append(old, d)
		}
		f.Close()
	}
	return old
}

// clean ends every process of a run, and removes its control groups and its directory. It
// prints what it could not remove.
func clean(dir string) {
	name := filepath.Base(dir)
	var left []string
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		left = nil
		for _, h := range hierarchies() {
			left = append(left, remove(filepath.Join(h.own, name))...)
		}
		ended := endChildren()
		if len(left) == 0 && ended || time.Now().After(end) {
			break
		}
	}
	for _, path := range left {
		fmt.Fprintln(os.Stderr, "not removed:", path)
	}
	// The lock is removed last: without it, the next run would not recognise the directory.
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // a constant pattern
	for _, path := range append(slices.DeleteFunc(files, func(path string) bool { return path == filepath.Join(dir, "lock") }), dir) {
		if err := os.RemoveAll(path); err != nil {
			fmt.Fprintln(os.Stderr, "not removed:", err)
		}
	}
}

// remove kills all processes in a control group and below, and removes it. It returns
// what is left.
func remove(group string) (left []string) {
	var groups []string
	_ = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return nil
	})
	for _, g := range slices.Backward(groups) {
		text, _ := os.ReadFile(filepath.Join(g, "cgroup.procs"))
		for _, pid := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(pid); err == nil && n > 1 {
				_ = unix.Kill(n, unix.SIGKILL) // it may have ended
			}
		}
		if err := unix.Rmdir(g); err != nil && err != unix.ENOENT {
			left = append(left, g)
		}
	}
	return left
}

// endChildren kills the children of this process, and waits for those that have ended. It
// reports whether there was none.
func endChildren() bool {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			return true
		}
		if pid <= 0 {
			break
		}
	}
	list, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range list {
		text, _ := os.ReadFile(path) // gone: empty
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return false
}

// A hierarchy of control groups.
type hierarchy struct {
	mount   string // where it is mounted
	options string // what mounts it
	own     string // the directory of the group that this process is in
	v2      bool
}

// hierarchies returns the mounted hierarchies. The groups of a run are created below the
// group of this process, since that can have limits; but in a v2 hierarchy with
// controllers, at the root, because a group with processes cannot have child groups with
// controllers.
func hierarchies() (list []hierarchy) {
	in := map[string]string{} // by the controllers, as /proc names them
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			in[f[1]] = f[2]
		}
	}
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil
	}
	defer mounts.Close()
	for sc := bufio.NewScanner(mounts); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 4 {
			continue
		}
		h := hierarchy{mount: f[1], v2: f[2] == "cgroup2"}
		if h.v2 {
			h.own = filepath.Join(h.mount, in[""])
			if text, _ := os.ReadFile(filepath.Join(h.mount, "cgroup.controllers")); len(strings.TrimSpace(string(text))) > 0 {
				h.own = h.mount
			}
		} else {
			if f[2] != "cgroup" {
				continue
			}
			options := strings.Split(f[3], ",")
			for controllers, group := range in {
				if controllers != "" && !slices.ContainsFunc(strings.Split(controllers, ","), func(c string) bool { return !slices.Contains(options, c) }) {
					h.options, h.own = controllers, filepath.Join(h.mount, group)
				}
			}
			if h.own == "" {
				continue
			}
		}
		list = append(list, h)
	}
	return list
}
