package metrics

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/test/lab"
)

// TestFullDisk: the file that is there stays whole, and nothing lies beside it.
func TestFullDisk(t *testing.T) {
	lab.Need(t, lab.Root)
	dir := t.TempDir()
	path := filepath.Join(dir, "nfguard.prom")
	const old = "# HELP nfguard_up\n"
	type result struct {
		full, read error
		text       string
		names      []string
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the mount goes with the thread
		var r result
		defer func() { done <- r }()
		for _, step := range []func() error{
			func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) },
			func() error { return unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "") },
			func() error { return unix.Mount("small", dir, "tmpfs", 0, "size=16k") },
			func() error { return files.Replace(path, []byte(old), ours) },
		} {
			if r.full = step(); r.full != nil {
				return
			}
		}
		r.full = files.Replace(path, make([]byte, 64<<10), ours)
		text, err := os.ReadFile(path)
		r.text, r.read = string(text), err
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			r.names = append(r.names, e.Name())
		}
	}()
	r := <-done
	if !errors.Is(r.full, syscall.ENOSPC) || r.read != nil {
		t.Errorf("want a full disk, got %v, %v", r.full, r.read)
	}
	if r.text != old {
		t.Errorf("want the old file, got %q", r.text)
	}
	if diff := cmp.Diff([]string{"nfguard.prom"}, r.names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := next(r.full, path); got != "the disk is full: make room" {
		t.Errorf("next: %s", got)
	}
}

// stuck is a log that takes nothing, in the place of a disk that hangs.
type stuck struct {
	slog.Handler
	gate chan struct{}
}

func (s stuck) Handle(context.Context, slog.Record) error { <-s.gate; return nil }

// TestHangingDisk: the loop does not wait, and a stop not for long.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		m := New(slog.New(stuck{slog.NewTextHandler(os.Stderr, nil), gate}))
		s := worker()
		s.Textfile = filepath.Join(t.TempDir(), "missing", "nfguard.prom")
		start := time.Now()
		for range 10 {
			m.Publish(s)
			synctest.Wait()
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the loop waited for %v", took)
		}
		m.Stop()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		close(gate)
	})
}
