package source_test

import (
	"os"
	"testing"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

func TestReadWriter(t *testing.T) {
	w := source.ReadWriter(os.Getpid())
	exe, _ := os.Executable()
	if w.PID != os.Getpid() || w.Exe != exe || w.Comm == "" || w.Cgroup == "" {
		t.Errorf("this process is %+v", w)
	}
	if w := source.ReadWriter(0); w != (record.Process{}) {
		t.Errorf("pid 0 is %+v", w)
	}
	w = source.Located(w, "/system.slice/tuned.service/worker")
	if w.Unit != "tuned.service" || w.PID != os.Getpid() {
		t.Errorf("%s is %+v", w.Cgroup, w)
	}
}
