package source_test

import (
	"os"
	"testing"

	"github.com/nfguard/nfguard/internal/core/source"
)

func TestReadWriter(t *testing.T) {
	w := source.ReadWriter(os.Getpid())
	exe, _ := os.Executable()
	if w.PID != os.Getpid() || w.Exe != exe || w.Comm == "" || w.Cgroup == "" {
		t.Errorf("this process is %+v", w)
	}
	if w := source.ReadWriter(0); w != (source.Writer{}) {
		t.Errorf("pid 0 is %+v", w)
	}
	w = source.Writer{Cgroup: "/system.slice/tuned.service/worker"}
	if got := w.Unit(); got != "tuned.service" {
		t.Errorf("%s is of unit %q", w.Cgroup, got)
	}
}
