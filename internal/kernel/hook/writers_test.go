package hook

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

const victim = "/proc/sys/" + ipTables

// short is a writer that ends before anybody can look it up.
const short = `
#include <fcntl.h>
#include <unistd.h>
int main(void) { int fd = open("` + victim + `", O_WRONLY); return write(fd, "0\n", 2) != 2; }
`

// start starts a program in the room: a child inherits the namespace of the thread
// that starts it.
func (r *room) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var err error
	r.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
}

func TestWritersAreNamed(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	dir := t.TempDir()
	conf := filepath.Join(dir, "hostile.conf")
	if err := os.WriteFile(conf, []byte("net.bridge.bridge-nf-call-iptables = 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	static := filepath.Join(dir, "short-lived")
	for _, writer := range []struct {
		name, comm string
		args       []string
		child      bool // a child of the process that we start writes, and waits
	}{
		{"echo", "sh", []string{"sh", "-c", "echo 0 > " + victim}, false},
		{"sysctl", "sysctl", []string{"sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"}, false},
		{"systemd-sysctl", "systemd-sysctl", []string{"systemd-sysctl", conf}, false},
		{"own PID namespace and procfs", "sh", []string{"unshare", "-pf", "--mount-proc", "sh", "-c", "echo 0 > " + victim + "; read wait"}, true},
		{"short-lived static binary", "short-lived", []string{static}, false},
	} {
		t.Run(writer.name, func(t *testing.T) {
			if writer.args[0] == static {
				compile(t, static)
			} else {
				writer.args[0] = lab.Tool(t, lab.Netns, writer.args[0])
			}
			r := locked(t, nil, Use{Limit: 1e6, ExemptSelf: true}, Observe)
			fd := r.open(ipTables)
			n, right, began := 200, 0, time.Now()
			for i := range n {
				if _, err := put(fd, "1"); err != nil { // systemd-sysctl writes only values that differ
					t.Fatal(err)
				}
				cmd := exec.Command(writer.args[0], writer.args[1:]...)
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				r.start(t, cmd)
				if !writer.child {
					if err := cmd.Wait(); err != nil {
						t.Fatal(err)
					}
				}
				ws := r.news(5 * time.Second)
				if i == 0 {
					t.Logf("%+v", ws)
				}
				if len(ws) == 1 && named(ws[0], writer.comm, cmd.Process.Pid, writer.child) {
					right++
				} else {
					t.Errorf("write %d by %d: %+v", i, cmd.Process.Pid, ws)
				}
				if writer.child {
					in.Close()
					_ = cmd.Wait() // read finds no line
				}
				if t.Failed() {
					break
				}
			}
			t.Logf("%d of %d named rightly, %v each", right, n, time.Since(began)/time.Duration(n))
		})
	}
}

func compile(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path+".c", []byte(short), 0o644); err != nil {
		t.Fatal(err)
	}
	cc := exec.Command(lab.Tool(t, lab.Netns, "gcc"), "-static", "-O2", "-o", path, path+".c")
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("compile the writer: %v\n%s", err, out)
	}
}

func named(w Write, comm string, pid int, child bool) bool {
	if child {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", pid)) ||
			!strings.Contains(string(status), fmt.Sprintf("\nNSpid:\t%d\t1\n", w.PID)) {
			return false
		}
		pid = w.PID
	}
	return w.Path == ipTables && w.Old == "1" && w.New == "0" && w.Verdict == Allowed && !w.Uncertain &&
		w.PID == pid && w.Comm == comm && w.UID == 0 && w.CgroupID != 0 &&
		time.Since(w.At) > 0 && time.Since(w.At) < 10*time.Second
}

// A thread's name is its own, its process is the group.
func TestOwnWrites(t *testing.T) {
	for _, exempt := range []bool{true, false} {
		r := locked(t, nil, Use{ExemptSelf: exempt}, Refuse)
		fd := r.open(ipTables)
		_, err := put(fd, "0")
		ws := r.news(100 * time.Millisecond)
		if exempt && (err != nil || len(ws) != 0 || get(t, fd) != "0") {
			t.Errorf("exempt: %v, %+v", err, ws)
		}
		if !exempt && (err == nil || len(ws) != 1 || ws[0].PID != os.Getpid() || get(t, fd) != "1") {
			t.Errorf("not exempt: %v, %+v", err, ws)
		}
	}
}

// If the files are watched too, a write through our own mount of procfs wakes
// nobody; its event waits for the next reader. All other writes wake the reader.
func TestWakes(t *testing.T) {
	for _, c := range []struct {
		name    string
		watched bool
		answer  Answer
		mount   string
		wakes   bool
	}{
		{"not watched", false, Observe, "own", true},
		{"watched", true, Observe, "own", false},
		{"another mount", true, Observe, "other", true},
		{"refused", true, Refuse, "own", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t, nil, Use{Watched: c.watched, Answer: c.answer}, Load)
			if r.found.mount == 0 {
				t.Fatal("the rehearsal did not find our mount of procfs: ", r.How())
			}
			// The test asks who was woken, not what is in the ring.
			woken, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(woken)
			if err := unix.EpollCtl(woken, unix.EPOLL_CTL_ADD, r.FD(), &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
				t.Fatal(err)
			}
			fd := map[string]func(string) int{"own": r.open, "other": r.openElsewhere}[c.mount](ipTables)
			for range 2 { // the second finds the first in the ring
				_, _ = put(fd, "0") // may be refused
				n, err := unix.EpollWait(woken, make([]unix.EpollEvent, 1), map[bool]int{true: 5000, false: 0}[c.wakes])
				if err != nil || (n > 0) != c.wakes {
					t.Errorf("woken: %v, want %v (%v)", n > 0, c.wakes, err)
				}
			}
			if all := r.news(time.Second); len(all) != 2 {
				t.Errorf("told of %v", told(all))
			}
		})
	}
}

// openElsewhere opens a sysctl of the room through a separate mount of procfs.
func (r *room) openElsewhere(path string) int {
	r.t.Helper()
	fd, err := -1, error(nil)
	r.Do(func() {
		var fs, mount int
		if fs, err = unix.Fsopen("proc", unix.FSOPEN_CLOEXEC); err != nil {
			return
		}
		defer unix.Close(fs)
		if err = unix.FsconfigCreate(fs); err != nil {
			return
		}
		if mount, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(mount)
		fd, err = unix.Openat(mount, "sys/"+path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		r.t.Fatalf("open %s through another mount: %v", path, err)
	}
	r.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// Every write is either reported or counted as missed.
func TestLimit(t *testing.T) {
	for _, c := range []struct {
		name    string
		limit   int
		n, told int // at least
	}{
		{"too many in a second", 5, 100, 5},
		{"the ring is full", 1e6, 1000, ringSize / 256},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := locked(t, nil, Use{Limit: c.limit}, Refuse)
			fd := r.open(ipTables)
			for range c.n {
				if _, err := put(fd, "0"); err == nil {
					t.Fatal("not refused")
				}
			}
			told, missed := 0, uint64(0)
			count := func() {
				t.Helper()
				if err := r.Read(func(w Write) { told++ }); err != nil {
					t.Fatal(err)
				}
				r.Missed(func(m Missed) {
					missed += m.N
					if m.Path != ipTables || m.PID != os.Getpid() || m.Comm != "hook.test" || m.CgroupID == 0 {
						t.Errorf("missed %+v", m)
					}
				})
			}
			count()
			if told < c.told || told > c.n/2 || told+int(missed) != c.n {
				t.Errorf("%d told and %d missed of %d", told, missed, c.n)
			}
			for range c.n {
				_, _ = put(fd, "00")
			}
			count()
			if total := told + int(missed); total != 2*c.n {
				t.Errorf("%d told and %d missed of %d", told, missed, 2*c.n)
			}
			t.Logf("%d told, %d counted", told, missed)
		})
	}
}

// Events beyond the limit are counted by writer, and a writer that has stopped
// gives up its place in the table.
func TestMissedKeepsWriters(t *testing.T) {
	r := locked(t, nil, Use{Limit: 1, ExemptSelf: true}, Observe)
	total := map[string]uint64{}
	add := func(pid int, n uint64) { total[fmt.Sprint(pid)] += n }
	count := func() {
		t.Helper()
		if err := r.Read(func(w Write) { add(w.PID, 1) }); err != nil {
			t.Fatal(err)
		}
		r.Missed(func(m Missed) {
			if m.PID != 0 && m.Comm != "sh" {
				t.Errorf("missed %+v", m)
			}
			add(m.PID, m.N)
		})
	}
	want := map[string]uint64{}
	for i := range 5 {
		n := uint64(10 * (i + 1))
		cmd := r.Command("sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo 0 >%s; i=$((i+1)); done", n, victim))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want[fmt.Sprint(cmd.Process.Pid)] = n
	}
	count()
	if diff := cmp.Diff(want, total); diff != "" {
		t.Errorf("writes by process (-want +got):\n%s", diff)
	}
	r.Missed(func(m Missed) { t.Errorf("missed once more: %+v", m) })
	for i := range r.writers {
		if r.writers[i].Id != 0 {
			t.Errorf("place %d is still taken", i)
		}
	}
}
