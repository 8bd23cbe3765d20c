package instance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

func TestParseStat(t *testing.T) {
	const rest = " 1 812 812 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 9 0 4711 1 2 3"
	tests := map[string]struct {
		text string
		want stat
		ok   bool
	}{
		"plain":              {"812 (nfguard) S" + rest, stat{"nfguard", 'S', 4711}, true},
		"a name like a line": {"812 (a) T 1 (b) R" + rest, stat{"a) T 1 (b", 'R', 4711}, true},
		"cut off":            {"812 (nfguard) S 1 2", stat{}, false},
		"no name":            {"812", stat{}, false},
		"empty":              {"", stat{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := parseStat([]byte(tt.text))
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("%+v, %v; want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestStateOfAProcess(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	p := self
	p.PID, p.Comm = cmd.Process.Pid, "sleep"
	for p.Ticks = 0; p.Ticks == 0; {
		if s, err := readStat(p.PID); err != nil {
			t.Fatal(err)
		} else if s.comm == "sleep" { // it was executed
			p.Ticks = s.ticks
		}
	}
	becomes := func(p Process, want State) {
		t.Helper()
		var got State
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			var err error
			if got, err = p.State(); got == want && (err != nil) == (want == Hidden) {
				return
			}
		}
		t.Errorf("the state is %s, want %s", got, want)
	}
	becomes(self, Running)
	becomes(p, Running)
	for what, change := range map[string]func(*Process){
		"another process with its PID": func(p *Process) { p.Ticks-- },
		"another program":              func(p *Process) { p.Comm = "nfguard" },
		"an earlier boot":              func(p *Process) { p.Boot = "a" },
	} {
		q := p
		change(&q)
		if got, err := q.State(); got != Gone || err != nil {
			t.Errorf("%s: %s, %v; want gone", what, got, err)
		}
	}
	q := p
	q.PIDNamespace++
	becomes(q, Hidden)
	cmd.Process.Signal(syscall.SIGSTOP)
	becomes(p, Stopped)
	cmd.Process.Signal(syscall.SIGCONT)
	becomes(p, Running)
	cmd.Process.Kill()
	becomes(p, Gone) // a zombie: nobody has waited for it
	cmd.Wait()
	becomes(p, Gone)
}

func TestCheckDir(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		mode os.FileMode
		uid  int
		want string
	}{
		{"ours", 0o755, os.Geteuid(), ""},
		{"anybody may write", 0o777, os.Geteuid(), "trust %s: others than its owner can write to it (mode 0777)"},
		{"another user's", 0o755, 65534, "trust %s: it belongs to uid 65534, not to root"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.uid != os.Geteuid() && os.Geteuid() != 0 {
				lab.Need(t, lab.Root)
			}
			if err := errors.Join(os.Chmod(dir, tt.mode), os.Chown(dir, tt.uid, -1)); err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := CheckDir(dir); err != nil {
				got = err.Error()
			}
			if want := strings.Replace(tt.want, "%s", dir, 1); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestLockClosesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil { // of an earlier version, and of a PID that is no nfguard's
		t.Fatal(err)
	}
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, want 0600: %v", info.Mode(), err)
	}
	out, err := exec.Command("cat", path).Output() // reading it here would give the lock up
	if want := fmt.Sprintln(os.Getpid()); string(out) != want || err != nil {
		t.Errorf("in the file is %q, want %q: %v", out, want, err)
	}
}

func TestLockFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("x"), 0o644), os.Symlink(victim, filepath.Join(dir, "lock"))); err != nil {
		t.Fatal(err)
	}
	if unlock, err := Lock(dir); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("want ELOOP, got %v", err)
		if err == nil {
			unlock()
		}
	}
	if text, _ := os.ReadFile(victim); string(text) != "x" {
		t.Errorf("the file that the link names holds %q", text)
	}
}

func TestFrozenIsNotRunning(t *testing.T) {
	lab.Need(t, lab.Root)
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		root += "/unified"
	}
	group, err := os.MkdirTemp(root, "nfguard-test-")
	if err != nil {
		t.Skipf("no group can be made: %v", err)
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(group, file), []byte(text), 0); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		write("cgroup.freeze", "0")
		cmd.Process.Kill()
		cmd.Wait()
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	write("cgroup.procs", strconv.Itoa(cmd.Process.Pid))
	for _, tt := range []struct {
		freeze string
		want   bool
	}{{"0", false}, {"1", true}, {"0", false}} {
		write("cgroup.freeze", tt.freeze)
		got := !tt.want
		for deadline := time.Now().Add(time.Minute); got != tt.want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			got = frozen(cmd.Process.Pid)
		}
		if got != tt.want {
			t.Errorf("cgroup.freeze is %s, frozen %v", tt.freeze, got)
		}
	}
}
