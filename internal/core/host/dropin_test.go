package host_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/test/lab"
)

// mark begins a file of ours.
const mark = "# Written by nfguard\n"

func TestDropin(t *testing.T) {
	m := newMachine(t, host.Options{})
	o := m.Survey(t.Context(), &m.p, guard.LookAll)
	want := []guard.Dropin{{Path: m.p.ModulesLoad, State: guard.Absent}, {Path: m.p.SysctlD, State: guard.Absent}}
	if diff := cmp.Diff(want, o.Dropins); diff != "" {
		t.Errorf("drop-ins of an empty tree (-want +got):\n%s", diff)
	}
	const text = mark + "a = 1\n"
	m.write("etc/sysctl.d/.99-zz-nfguard.conf.nfguard-new", "what a killed run left")
	m.write("etc/sysctl.d/.99-zz-nfguard.conf123", "somebody's")
	m.write("etc/sysctl.d/99-zz-nfguard.conf.bak", "somebody's copy")
	write := guard.Action{Op: guard.WriteFile, Subject: m.p.SysctlD, Value: text}
	if err := m.Do(t.Context(), write); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(guard.Dropin{Path: m.p.SysctlD, State: guard.Present, Have: text}, m.Survey(t.Context(), &m.p, guard.LookAll).Dropins[1]); diff != "" {
		t.Errorf("drop-in (-want +got):\n%s", diff)
	}
	var names []string
	entries, _ := os.ReadDir(filepath.Join(m.root, "etc/sysctl.d"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{".99-zz-nfguard.conf123", "99-zz-nfguard.conf", "99-zz-nfguard.conf.bak"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	st, err := os.Stat(filepath.Join(m.root, m.p.SysctlD))
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// Two paths that a link makes one file are not written in turns: the second one
// says so.
func TestDropinsThatAreOne(t *testing.T) {
	for name, tree := range map[string]bool{"a host": false, "a tree": true} {
		m := newMachine(t, host.Options{})
		m.write("etc/own/x", "")
		os.Symlink("own", filepath.Join(m.root, "etc/linked"))
		m.p.ModulesLoad, m.p.SysctlD = "/etc/own/nfguard.conf", "/etc/linked/nfguard.conf"
		survey := func() guard.Observation { return m.Survey(t.Context(), &m.p, guard.LookAll) }
		if tree {
			survey = func() guard.Observation { return host.NewTree(m.root).Survey(&m.p) }
		}
		for range 3 {
			o := survey()
			for _, it := range guard.PlanDropins(&m.p, &o) {
				if it.Action == nil {
					continue
				}
				if it.Subject != m.p.ModulesLoad {
					t.Errorf("%s: %s is written to %s", name, it.Action.Op, it.Subject)
				}
				if err := m.Do(t.Context(), *it.Action); err != nil {
					t.Error(err)
				}
			}
		}
		o := survey()
		items := guard.PlanDropins(&m.p, &o)
		want := guard.Obstacle{
			Reason: "it is the same file as /etc/own/nfguard.conf, through a link",
			Next:   "give each a file of its own: sysctl under [persist]",
		}
		if got := (guard.Obstacle{Reason: items[1].Reason, Next: items[1].Next}); items[0].Verdict != guard.Right || items[1].Verdict != guard.Blocked || got != want {
			t.Errorf("%s: %+v", name, items)
		}
	}
}

// On a full or read-only file system the old file stays intact, and no other file is
// left.
func TestDropinBadDisks(t *testing.T) {
	lab.Need(t, lab.Root)
	if os.Getenv("NFGUARD_TEST_DISKS") == "" {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", os.Args[0], "-test.run", "^TestDropinBadDisks$", "-test.v")
		cmd.Env = append(os.Environ(), "NFGUARD_TEST_DISKS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	m := newMachine(t, host.Options{})
	etc := filepath.Join(m.root, "etc/sysctl.d")
	os.MkdirAll(etc, 0o755)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", etc)
	defer exec.Command("umount", etc).Run()
	old := guard.Action{Op: guard.WriteFile, Subject: m.p.SysctlD, Value: mark + "old = 1\n"}
	if err := m.Do(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	filler := make([]byte, 128<<10)
	_ = os.WriteFile(filepath.Join(etc, "filler"), filler, 0o644) // until it is full

	check := func(what, why string) {
		t.Helper()
		err := m.Do(t.Context(), guard.Action{Op: guard.WriteFile, Subject: m.p.SysctlD, Value: mark + strings.Repeat("new = 1\n", 1024)})
		if err == nil || !strings.HasPrefix(err.Error(), "write /etc/sysctl.d/99-zz-nfguard.conf: ") || !strings.HasSuffix(err.Error(), why) {
			t.Errorf("%s: %v", what, err)
		}
		if d := m.Survey(t.Context(), &m.p, guard.LookAll).Dropins[1]; d.Have != mark+"old = 1\n" {
			t.Errorf("%s: the old file is %+v", what, d)
		}
		if left, _ := filepath.Glob(filepath.Join(etc, ".*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", what, left)
		}
	}
	check("full", "no space left on device")
	os.Remove(filepath.Join(etc, "filler"))
	run("mount", "-o", "remount,ro", etc)
	check("read-only", "read-only file system")
}

// If nfguard is killed while it writes, the file has the old content or the new.
func TestDropinKilled(t *testing.T) {
	old, now := mark+strings.Repeat("old = 1\n", 500), mark+strings.Repeat("new = 1\n", 700)
	if root := os.Getenv("NFGUARD_TEST_KILL"); root != "" {
		l := host.NewAt(root, host.Options{})
		for {
			for _, text := range []string{now, old} {
				if err := l.Do(t.Context(), guard.Action{Op: guard.WriteFile, Subject: "/etc/d/x.conf", Value: text}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	root := t.TempDir()
	seen := make(map[string]int)
	for range 60 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestDropinKilled$")
		cmd.Env = append(os.Environ(), "NFGUARD_TEST_KILL="+root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(root, "etc/d/x.conf")); err == nil {
				break
			}
		}
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		cmd.Process.Kill()
		_ = cmd.Wait()
		text, err := os.ReadFile(filepath.Join(root, "etc/d/x.conf"))
		if err != nil {
			t.Fatal(err)
		}
		switch string(text) {
		case old:
			seen["old"]++
		case now:
			seen["new"]++
		default:
			t.Fatalf("half a file: %d bytes", len(text))
		}
	}
	t.Logf("after 60 kills: %v", seen)
	// The next write takes away what the killed ones left.
	l := host.NewAt(root, host.Options{})
	if err := l.Do(t.Context(), guard.Action{Op: guard.WriteFile, Subject: "/etc/d/x.conf", Value: now}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "etc/d/.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Anything but a file of ours stays, and the error says what it is.
func TestDropinOfOthers(t *testing.T) {
	tests := []struct {
		name string
		make func(m *machine, path string)
		have string // in the look; "": its content
		err  string
	}{
		{"another's file", func(m *machine, path string) { m.write(m.p.SysctlD, "kernel.panic = 10\n") }, "", "it is somebody else's file"},
		{"an empty file", func(m *machine, path string) { m.write(m.p.SysctlD, "") }, "", "it is somebody else's file"},
		{"a directory", func(_ *machine, path string) { os.Mkdir(path, 0o755) }, "a directory", "is a directory, not a regular file"},
		{"a FIFO", func(_ *machine, path string) { syscall.Mkfifo(path, 0o644) }, "a FIFO", "is a FIFO, not a regular file"},
		{"a link to a file of ours", func(m *machine, path string) {
			os.Symlink(m.write("etc/other.conf", mark), path)
		}, "a symbolic link", "is a symbolic link, not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, host.Options{})
			path := filepath.Join(m.root, m.p.SysctlD)
			os.MkdirAll(filepath.Dir(path), 0o755)
			tt.make(m, path)
			before, _ := os.Lstat(path)
			d := m.Survey(t.Context(), &m.p, 0).Dropins[1]
			if d.State != guard.Present || (d.Obstacle != nil) != (tt.have != "") || tt.have != "" && d.Have != tt.have {
				t.Errorf("it looks like %+v", d)
			}
			err := m.Do(t.Context(), guard.Action{Op: guard.WriteFile, Subject: m.p.SysctlD, Value: mark})
			if want := "write " + m.p.SysctlD + ": " + tt.err; err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was replaced: %v", err)
			}
			entries, _ := os.ReadDir(filepath.Dir(path))
			if len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}
