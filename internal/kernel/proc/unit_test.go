package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

func TestOldestNative(t *testing.T) {
	lab.Need(t, lab.Root)
	group := t.TempDir()
	list := func(pids ...int) {
		text := ""
		for _, pid := range pids {
			text += fmt.Sprintln(pid)
		}
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p, ok, err := OldestNative(group); ok || err != nil {
		t.Errorf("a group that is not there has %+v", p)
	}
	list()
	if p, ok, err := OldestNative(group); ok || err != nil {
		t.Errorf("an empty group has %+v", p)
	}
	a := standIn(t, "nfguard-test-a")
	time.Sleep(20 * time.Millisecond) // two ticks: one is the oldest
	b := standIn(t, "nfguard-test-b")
	list(1<<29, b.Process.Pid, a.Process.Pid)
	if p, ok, err := OldestNative(group); err != nil || !ok || p.PID != a.Process.Pid || p.Comm != "nfguard-test-a" {
		t.Errorf("the oldest is %+v, %t", p, ok)
	}
}
