package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

func TestGroups(t *testing.T) {
	lab.Need(t, lab.Root)
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/unified"
	}
	path := fmt.Sprintf("/nfguard-test-groups-%d.slice", os.Getpid())
	if err := os.MkdirAll(filepath.Join(root, path, "a.service"), 0o755); err != nil {
		t.Skipf("control groups of version 2 can't be made here: %v", err)
	}
	defer os.Remove(filepath.Join(root, path))
	defer os.Remove(filepath.Join(root, path, "a.service"))
	info, err := os.Stat(filepath.Join(root, path, "a.service"))
	if err != nil {
		t.Fatal(err)
	}
	id := info.Sys().(*syscall.Stat_t).Ino
	var g Groups
	began := time.Now()
	if got, want := g.Path(id), path+"/a.service"; got != want {
		t.Errorf("group %d is %q, want %q", id, got, want)
	}
	t.Logf("%d groups in %v", len(g.paths), time.Since(began))
	if got := g.Path(1); got != "/" {
		t.Errorf("the root is %q", got)
	}
	for _, id := range []uint64{0, 1 << 60} {
		if got := g.Path(id); got != "" {
			t.Errorf("group %d is %q", id, got)
		}
	}
}
