package hook

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// copyOf returns a copy of true(1) under another name.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755) // other users execute it too
	}
	binary, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Only processes that root starts under one of the names are reported.
func TestExecs(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	l, err := LoadExec([]string{"nfg-one", "nfg-two"})
	if err != nil {
		t.Fatal(err)
	}
	_, says := user(t, "exec", l, 0)
	if got := line(t, says); got != "ready" {
		t.Fatal(got)
	}
	run := func(path string, uid uint32) int {
		t.Helper()
		cmd := exec.Command(path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		return cmd.Process.Pid
	}
	one, two, three := copyOf(t, "nfg-one"), copyOf(t, "nfg-two"), copyOf(t, "nfg-three")
	run(one, 65534)
	run(three, 0)
	for _, path := range []string{two, one} {
		want := fmt.Sprintf("%d %s", run(path, 0), filepath.Base(path))
		if got := line(t, says); got != want {
			t.Errorf("told of %q, want %q", got, want)
		}
	}
}

// What does not fit into the ring is an error, not silence.
func TestExecsAreLost(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	l, err := LoadExec([]string{"nfg-one"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := OpenExec(l)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	path := copyOf(t, "nfg-one")
	room := os.Getpagesize() / 32 // bytes of a record with its header
	for range room + 10 {
		if err := exec.Command(path).Run(); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	if err := e.Read(func(int, string) { n++ }); !errors.Is(err, ErrLost) || n < room-1 {
		t.Errorf("%d of %d told of, %v", n, room+10, err)
	}
}
