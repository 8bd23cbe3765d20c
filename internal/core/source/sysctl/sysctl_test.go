package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/test/lab"
)

var keys = []string{
	"/proc/sys/net/bridge/bridge-nf-call-iptables",
	"/proc/sys/net/bridge/bridge-nf-call-ip6tables",
}

// news waits until the watch is readable and returns what it tells, without
// times, as "written FILE COMM".
func news(t *testing.T, w *Watch, wait time.Duration) (lines []string) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(w.FD()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(wait); ; {
		n, err := unix.Poll(fds, max(0, int(time.Until(deadline).Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		if n == 0 {
			return lines
		}
		if err := w.Read(func(r record.Write) {
			line := "written"
			if r.File != "" {
				line += " " + filepath.Base(r.File) + " " + r.Writer.Comm
			}
			if len(lines) == 0 || lines[len(lines)-1] != line {
				lines = append(lines, line)
			}
		}); err != nil {
			t.Fatal(err)
		}
		wait = 50 * time.Millisecond // what belongs together comes together
		deadline = time.Now().Add(wait)
	}
}

// start opens a watch in a namespace of its own, by one mechanism.
func start(t *testing.T, m mechanism) (*lab.Namespace, *Watch) {
	t.Helper()
	ns := lab.NewNamespace(t)
	var w *Watch
	ns.Do(func() {
		var err error
		if w, _, err = open(keys, nil, "", m); err != nil {
			t.Error(err)
		}
	})
	if w == nil {
		t.FailNow()
	}
	t.Cleanup(w.Close)
	return ns, w
}

func TestWritersAreNamed(t *testing.T) {
	ns, w := start(t, fanotify)
	// A process, and one in a PID namespace of its own, by the same mount.
	for _, pre := range [][]string{nil, {"unshare", "-p", "-f"}} {
		args := append(pre, "sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables; read wait")
		cmd := ns.Command(args[0], args[1:]...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		want := []string{"written bridge-nf-call-ip6tables sh"}
		if diff := cmp.Diff(want, news(t, w, 5*time.Second)); diff != "" {
			t.Errorf("%v: news (-want +got):\n%s", pre, diff)
		}
		in.Close()
		_ = cmd.Wait() // read finds no line
	}
	// The same file of another network namespace is another file.
	lab.NewNamespace(t).Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	if got := news(t, w, 100*time.Millisecond); got != nil {
		t.Errorf("news of another namespace: %q", got)
	}
}

func TestOwnWritesAreNoNews(t *testing.T) {
	ns, w := start(t, fanotify)
	ns.Do(func() {
		if err := os.WriteFile(keys[0], []byte("0\n"), 0); err != nil {
			t.Error(err)
		}
	})
	if got := news(t, w, 100*time.Millisecond); got != nil {
		t.Errorf("news: %q", got)
	}
}

func TestInotify(t *testing.T) {
	ns, w := start(t, inotify)
	ns.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	if diff := cmp.Diff([]string{"written"}, news(t, w, 2*time.Second)); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}
}

// Memory pressure drops inodes, and a watch that sits on one dies in silence
// unless the file is kept open.
func TestWatchOutlivesDroppedCaches(t *testing.T) {
	for _, m := range []mechanism{fanotify, inotify} {
		t.Run(m.name, func(t *testing.T) {
			ns, w := start(t, m)
			if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0); err != nil {
				t.Fatal(err)
			}
			ns.Do(func() {
				if w.Stale() {
					t.Error("the same files are taken for others")
				}
			})
			ns.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
			if got := news(t, w, 2*time.Second); len(got) == 0 {
				t.Error("no news after the caches were dropped")
			}
		})
	}
}

// The files of a module that comes and goes are other files each time.
func TestStale(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	lab.Need(t, lab.Root)
	if _, _, err := Open(paths, nil, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without any file: %v", err)
	}
	if err := os.WriteFile(paths[0], nil, 0o644); err != nil {
		t.Fatal(err)
	}
	opened := func() *Watch {
		t.Helper()
		w, how, err := Open(paths, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		if want := "subscribed: fanotify, which tells who writes"; how != want {
			t.Errorf("how: got %q, want %q", how, want)
		}
		if w.Stale() {
			t.Error("nothing has changed, and it is stale")
		}
		return w
	}
	w := opened()
	if err := os.WriteFile(paths[1], nil, 0o644); err != nil { // the module was loaded
		t.Fatal(err)
	}
	if !w.Stale() {
		t.Error("a file appeared, and it is not stale")
	}
	w = opened()
	os.Remove(paths[0])
	if !w.Stale() {
		t.Error("a file was removed, and it is not stale")
	}
}

func TestFanotifyRefused(t *testing.T) {
	lab.Need(t, lab.Root)
	ns := lab.NewNamespace(t)
	how := make(chan string, 1)
	ns.Go(func() {
		// On this thread only, which dies with the function.
		if err := dropSysAdmin(); err != nil {
			how <- err.Error()
			return
		}
		w, said, err := Open(keys, nil, "")
		if err != nil {
			how <- err.Error()
			return
		}
		w.Close()
		how <- said
	})
	want := "subscribed: inotify, which does not tell who writes (fanotify: operation not permitted)"
	if got := <-how; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// dropSysAdmin takes CAP_SYS_ADMIN from the calling thread.
func dropSysAdmin() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	return unix.Capset(&hdr, &data[0])
}
