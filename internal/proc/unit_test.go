package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOldest(t *testing.T) {
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
	if p, ok := Oldest(group); ok {
		t.Errorf("a group that is not there has %+v", p)
	}
	list()
	if p, ok := Oldest(group); ok {
		t.Errorf("an empty group has %+v", p)
	}
	a := standIn(t, "nfguard-test-a")
	time.Sleep(20 * time.Millisecond) // two ticks: one is the oldest
	b := standIn(t, "nfguard-test-b")
	list(1<<29, b.Process.Pid, a.Process.Pid)
	if p, ok := Oldest(group); !ok || p.PID != a.Process.Pid || p.Comm != "nfguard-test-a" {
		t.Errorf("the oldest is %+v, %t", p, ok)
	}
}
