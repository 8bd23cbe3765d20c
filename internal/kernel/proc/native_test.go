package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

func TestNative(t *testing.T) {
	lab.Need(t, lab.Root)
	before, err := uptime()
	if err != nil {
		t.Fatal(err)
	}
	const long = "nfguard-test-with-a-long-name"
	a, b := standIn(t, "nfguard-test-a"), standIn(t, long)
	names := NewNames([]string{"", "nfguard-test-a", long, "nfguard-test-c"})
	got, err := names.Native("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range got {
		if age := (p.Started - before).Abs(); age > 10*time.Second {
			t.Errorf("started %v, %v from the test's beginning", p.Started, age)
		}
		if p.Cgroup == "" {
			t.Errorf("no control group: %+v", p)
		}
		got[i].PPID, got[i].Started, got[i].Cgroup = 0, 0, ""
	}
	want := []Process{
		{PID: a.Process.Pid, Comm: "nfguard-test-a", Exe: a.Path},
		{PID: b.Process.Pid, Comm: "nfguard-test-wi", Exe: b.Path},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	if got, err := names.NativeOf("/proc", []int{1, b.Process.Pid, 1 << 29}); err != nil || len(got) != 1 || got[0].PID != b.Process.Pid {
		t.Errorf("among three PIDs, one of which it has: %+v, %v", got, err)
	}

	_ = a.Process.Kill() // not waited for, so it still has its name
	for range 1000 {
		if got, err = names.Native("/proc"); err != nil || len(got) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if len(got) != 1 || got[0].PID != b.Process.Pid {
		t.Errorf("one of two was killed: %+v, %v", got, err)
	}
	if _, err := names.Native(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error without a procfs")
	}
}

// TestWhoIsNative runs all kinds of processes under one name, and looks for them with
// all capabilities, with those of the packaged unit, and with fewer.
func TestWhoIsNative(t *testing.T) {
	const name = "nfguard-native"
	if os.Getenv("NFGUARD_TEST_LOOK") != "" {
		got, err := NewNames([]string{name}).Native("/proc")
		var pids []string
		for _, p := range got {
			pids = append(pids, fmt.Sprint(p.PID))
		}
		fmt.Printf("native: %s %v\n", strings.Join(pids, ","), err)
		return
	}
	lab.Need(t, lab.Root, lab.Netns)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := copyOf(t, "sleep", name)
	real := run(t, name, path, "600")
	for what, command := range map[string][]string{
		"another user's":                       {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", path, "600"},
		"another user's by its real id":        {"setpriv", "--ruid=65534", path, "600"},
		"another user's by its group":          {"setpriv", "--rgid=65534", "--clear-groups", path, "600"},
		"root's of a user namespace":           {"unshare", "--user", "--map-root-user", path, "600"},
		"root's in another network namespace":  {"unshare", "--net", path, "600"},
		"root's of a container":                {"unshare", "--net", "--pid", "--fork", "--kill-child", path, "600"},
		"another user's, who is root in there": {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "--user", "--map-root-user", path, "600"},
	} {
		t.Logf("%d is %s", run(t, name, command[0], command[1:]...), what)
	}
	want := fmt.Sprintf("native: %d <nil>", real)
	for _, look := range []struct{ name, caps string }{
		{"all capabilities", "+all"},
		{"the unit's", "-all,+net_admin,+bpf,+perfmon,+sys_admin"},
		{"NET_ADMIN", "-all,+net_admin"},
		{"none", "-all"},
	} {
		cmd := exec.Command("setpriv", "--bounding-set="+look.caps, "--inh-caps=-all", "--no-new-privs", exe, "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "NFGUARD_TEST_LOOK=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got, _, _ := strings.Cut(string(out), "\n"); got != want {
			t.Errorf("with %s: %q, want %q", look.name, got, want)
		}
	}
}

// If procfs hides processes, an empty list is not an answer.
func TestHiddenProcesses(t *testing.T) {
	if os.Getenv("NFGUARD_TEST_LOOK") != "" {
		got, err := NewNames([]string{"kube-proxy"}).Native("/proc")
		fmt.Printf("native: %d %t\n", len(got), errors.Is(err, ErrUncertain))
		return
	}
	lab.Need(t, lab.Root)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ option, caps, want string }{
		{"hidepid=0", "-all,+net_admin", "native: 0 false"},
		{"hidepid=2", "-all,+net_admin", "native: 0 false"}, // the group of gid= is root's
		{"hidepid=1,gid=7", "-all,+net_admin", "native: 0 true"},
		{"hidepid=2,gid=7", "-all,+net_admin", "native: 0 true"},
		{"hidepid=2,gid=7", "-all,+sys_ptrace,+net_admin", "native: 0 false"},
		{"hidepid=2,gid=7", "+all", "native: 0 false"},
	} {
		cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c",
			`mount -t proc -o "$1" proc /proc && setpriv --bounding-set="$2" --inh-caps=-all "$3" -test.run "^TestHiddenProcesses$"; exit $?`,
			"sh", tt.option, tt.caps, exe)
		cmd.Env = append(os.Environ(), "NFGUARD_TEST_LOOK=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got, _, _ := strings.Cut(string(out), "\n"); got != tt.want {
			t.Errorf("%s with %s: %q, want %q", tt.option, tt.caps, got, tt.want)
		}
	}
}

// run starts a program and returns the PID of the process with that name: the one
// that was started, or a child of it.
func run(t *testing.T, name, program string, args ...string) int {
	t.Helper()
	before := named(name)
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
		for pid := range named(name) {
			if !before[pid] {
				return pid
			}
		}
	}
	t.Fatalf("%s %v does not run as %s", program, args, name)
	return 0
}

func named(name string) map[int]bool {
	found := make(map[int]bool)
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d", &pid); err == nil && ReadComm(pid) == name {
			found[pid] = true
		}
	}
	return found
}

func copyOf(t *testing.T, tool, name string) string {
	t.Helper()
	text, err := os.ReadFile(lab.Tool(t, lab.Root, tool))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "nfguard-native-") // a directory that other users can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRootsOwn(t *testing.T) {
	for _, tt := range []struct {
		name, status string
		want         bool
	}{
		{"root", "Name:\ta\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n", true},
		{"root in another effective group", "Uid:\t0\t0\t0\t0\nGid:\t0\t7\t7\t7\n", true},
		{"a set-user-ID file", "Uid:\t1000\t0\t0\t0\nGid:\t1000\t1000\t1000\t1000\n", false},
		{"sudo at its prompt", "Uid:\t0\t0\t0\t0\nGid:\t1000\t0\t0\t0\n", false},
		{"one that has given up root for a while", "Uid:\t0\t1000\t0\t1000\nGid:\t0\t0\t0\t0\n", false},
		{"a name cannot lie, because it is escaped", "Name:\tUid:\\n\nUid:\t5\t5\t5\t5\nGid:\t0\t0\t0\t0\n", false},
		{"cut off", "Uid:\t0\t0\t0\t0\n", false},
		{"nothing", "", false},
	} {
		if got := rootsOwn(tt.status); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
