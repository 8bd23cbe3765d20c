package proc

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// standIn starts a program under a name that the test chooses. It runs until it is
// killed.
func standIn(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// Start returns in the middle of the exec, before the process has its name.
	for began := time.Now(); ReadComm(cmd.Process.Pid) != Comm(name); time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s was started and is %+v", path, Read(cmd.Process.Pid))
		}
	}
	return cmd
}

func TestRead(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := Read(os.Getpid())
	if p.PID != os.Getpid() || p.Exe != exe || p.Comm != Comm(filepath.Base(exe)) || p.Cgroup == "" {
		t.Errorf("this process is %+v", p)
	}
	if p := Read(0); p != (Process{}) {
		t.Errorf("pid 0 is %+v", p)
	}
	if p := Read(1 << 29); p != (Process{PID: 1 << 29}) {
		t.Errorf("a process that is gone is %+v", p)
	}
}

func TestRunning(t *testing.T) {
	const rest = " 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 250 1 1\n"
	for _, tt := range []struct {
		name, stat string
		want       bool
	}{
		{"sleeps", "7 (a) S" + rest, true},
		{"has a name that looks like more fields", "7 (a) Z 1 (b) S" + rest, true},
		{"has ended", "7 (a) Z" + rest, false},
		{"is about to have ended", "7 (a) R 1 1 1 0 -1 4194564 1 0 0 0 0 0 0 0 20 0 1 0 250 1 1\n", false},
		{"is cut off", "7 (a) S 1 1", false},
		{"is gone", "", false},
		{"began in the future of the format", "7 (a) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 x 1 1\n", false},
	} {
		parent, since, ok := running(tt.stat)
		if ok != tt.want {
			t.Errorf("a process that %s runs: %t", tt.name, ok)
		}
		if ok && (since != 2500*time.Millisecond || parent != 1) {
			t.Errorf("%s: began %v after the boot, by %d", tt.name, since, parent)
		}
	}
}

func uptime() (time.Duration, error) {
	f, err := os.Open("/proc/uptime")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return 0, err
	}
	for i, c := range b {
		if c == ' ' {
			return time.ParseDuration(string(b[:i]) + "s")
		}
	}
	return 0, io.ErrUnexpectedEOF
}
