package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/test/lab"
)

// start runs the source of patterns until the test ends. The hints after
// "subscribed" are the caller's to receive, or the source waits.
func start(t *testing.T, patterns ...string) sourcetest.Subscription {
	t.Helper()
	s, err := New("file", source.Files, patterns...)
	if err != nil {
		t.Fatal(err)
	}
	sub := sourcetest.Run(t, s, nil)
	sub.First(t, "subscribed")
	return sub
}

// TestHints does what administrators and packages do, one after the other,
// on the tree of nfguard's files.
func TestHints(t *testing.T) {
	root := t.TempDir()
	etc := filepath.Join(root, "etc")
	write := func(path, text string) error { return os.WriteFile(filepath.Join(etc, path), []byte(text), 0o600) }
	mkdir := func(path string) error { return os.MkdirAll(filepath.Join(etc, path), 0o700) }
	rename := func(from, to string) error { return os.Rename(filepath.Join(etc, from), filepath.Join(etc, to)) }
	remove := func(path string) error { return os.RemoveAll(filepath.Join(etc, path)) }
	if err := mkdir("modules-load.d"); err != nil {
		t.Fatal(err)
	}
	sub := start(t,
		filepath.Join(etc, "nfguard/nfguard.toml"),
		filepath.Join(etc, "nfguard/conf.d/*.toml"),
		filepath.Join(etc, "modules-load.d/nfguard.conf"),
		filepath.Join(etc, "end"),
	)

	for _, tt := range []struct {
		name string
		do   func() error
		want []string // without repetitions
	}{
		{"drop-in created", func() error { return write("modules-load.d/nfguard.conf", "br_netfilter\n") }, []string{
			"modules-load.d/nfguard.conf appeared",
			"modules-load.d/nfguard.conf changed",
		}},
		{"drop-in of another", func() error { return write("modules-load.d/k8s.conf", "overlay\n") }, nil},
		{"drop-in deleted", func() error { return remove("modules-load.d/nfguard.conf") }, []string{
			"modules-load.d/nfguard.conf was removed",
		}},
		{"first directory created later", func() error { return mkdir("nfguard") }, []string{
			"nfguard appeared",
		}},
		{"configuration written", func() error { return write("nfguard/nfguard.toml", "mode = 'observe'\n") }, []string{
			"nfguard/nfguard.toml appeared",
			"nfguard/nfguard.toml changed",
		}},
		{"attributes only", func() error { return os.Chmod(filepath.Join(etc, "nfguard/nfguard.toml"), 0o644) }, nil},
		{"second directory created later", func() error { return mkdir("nfguard/conf.d") }, []string{
			"nfguard/conf.d appeared",
		}},
		{"fragment written", func() error { return write("nfguard/conf.d/10-a.toml", "") }, []string{
			"nfguard/conf.d/10-a.toml appeared",
		}},
		{"an editor's other files", func() error { return write("nfguard/conf.d/.10-a.toml.swp", "vim") }, nil},
		{"an editor saves by renaming", func() error {
			if err := write("nfguard/4913", "mode = 'lock'\n"); err != nil {
				return err
			}
			return rename("nfguard/4913", "nfguard/nfguard.toml")
		}, []string{
			"nfguard/nfguard.toml appeared",
		}},
		{"fragment disabled by its name", func() error { return rename("nfguard/conf.d/10-a.toml", "nfguard/conf.d/10-a.toml.off") }, []string{
			"nfguard/conf.d/10-a.toml was removed",
		}},
		{"directory renamed away", func() error { return rename("nfguard", "nfguard.old") }, []string{
			"nfguard was removed",
		}},
		{"files where it was removed", func() error { return write("nfguard.old/conf.d/20-b.toml", "x") }, nil},
		{"directory renamed back, full", func() error { return rename("nfguard.old", "nfguard") }, []string{
			"nfguard appeared",
		}},
		{"fragment changed there", func() error { return write("nfguard/conf.d/20-b.toml", "y") }, []string{
			"nfguard/conf.d/20-b.toml changed",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, until(t, sub, etc, write)); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
		})
	}

	// Outside of what is watched, the library loses track of it first.
	gone := filepath.Join(t.TempDir(), "gone")
	t.Run("moved out, deleted and made again, two levels at once", func(t *testing.T) {
		for i := range 300 {
			if i%2 == 0 {
				if err := os.Rename(filepath.Join(etc, "nfguard"), gone); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(os.RemoveAll(gone), remove("nfguard")); err != nil {
				t.Fatal(err)
			}
			if err := mkdir("nfguard/conf.d"); err != nil {
				t.Fatal(err)
			}
			until(t, sub, etc, write)
			if err := write("nfguard/conf.d/30-c.toml", "x"); err != nil {
				t.Fatal(err)
			}
			want := []string{"nfguard/conf.d/30-c.toml appeared", "nfguard/conf.d/30-c.toml changed"}
			if diff := cmp.Diff(want, until(t, sub, etc, write)); diff != "" {
				t.Fatalf("hints (-want +got):\n%s", diff)
			}
		}
	})
}

// until writes the file "end" and collects the reasons before the hint of
// it, without repetitions and without etc, which must be the hint's path.
func until(t *testing.T, sub sourcetest.Subscription, etc string, write func(path, text string) error) []string {
	t.Helper()
	if err := os.Remove(filepath.Join(etc, "end")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := write("end", ""); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		h := sub.Next(t)
		path, change, _ := strings.Cut(h.Reason, " ")
		rel, err := filepath.Rel(etc, path)
		if err != nil || h.Path != path {
			t.Errorf("path of %+v: %v", h, err)
		}
		reason := rel + " " + change
		switch {
		case reason == "end appeared":
			return got
		case rel == "end", len(got) > 0 && got[len(got)-1] == reason:
		default:
			got = append(got, reason)
		}
	}
}

// TestOverflow fills the kernel's queue (fs.inotify.max_queued_events) while
// nobody reads, with events that mean nothing. The source says so, and hears
// what comes after.
func TestOverflow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nfguard.toml")
	sub := start(t, path)
	if err := os.WriteFile(path, nil, 0o600); err != nil { // its hint waits for us
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 10_000 { // twice as many events as the queue and the library hold
		for _, f := range []string{dir, other, path, other} {
			if err := os.Chmod(f, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	for sub.Next(t).Reason != "news lost" {
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for sub.Next(t).Reason != path+" was removed" {
	}
}

func TestNewRefuses(t *testing.T) {
	for pattern, want := range map[string]string{
		"nfguard.toml":      "watch nfguard.toml: not an absolute path",
		"/etc/nfguard/[a-z": "watch /etc/nfguard/[a-z: syntax error in pattern",
	} {
		if _, err := New("file", source.Files, pattern); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", pattern, err, want)
		}
	}
}

// TestNoDescriptors provokes EMFILE by the process's own limit: the other one
// that gives it, of inotify instances, is shared with the host.
func TestNoDescriptors(t *testing.T) {
	s, err := New("file", source.Files, "/etc/nfguard/nfguard.toml")
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context(), func(source.Hint) {})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	want := "watch files: couldn't initialize inotify: too many open files: raise fs.inotify.max_user_instances, or the limit of open files"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	s, err := New("file", source.Files, filepath.Join(t.TempDir(), "nfguard.toml"))
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.LeavesNothing(t, func() {
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.Run(ctx, func(source.Hint) { cancel() }); err != nil {
			t.Error(err)
		}
	})
}

// TestControlGroup: systemd makes and removes a unit's group with ordinary
// system calls, so they are news as in any file system.
func TestControlGroup(t *testing.T) {
	lab.Need(t, lab.Root)
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/unified"
	}
	slice := filepath.Join(root, fmt.Sprintf("nfguard-test-%d.slice", os.Getpid()))
	unit := filepath.Join(slice, "kube-proxy.service")
	if err := os.Mkdir(slice, 0o755); err != nil {
		t.Skipf("control groups of version 2 can't be made here: %v", err)
	}
	defer os.Remove(slice)
	sub := start(t, unit)
	for range 2 {
		if err := os.Mkdir(unit, 0o755); err != nil {
			t.Fatal(err)
		}
		if h := sub.Next(t); h.Reason != unit+" appeared" {
			t.Errorf("hint %q", h.Reason)
		}
		if err := os.Remove(unit); err != nil {
			t.Fatal(err)
		}
		if h := sub.Next(t); h.Reason != unit+" was removed" {
			t.Errorf("hint %q", h.Reason)
		}
	}
}
