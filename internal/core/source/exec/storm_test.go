package exec

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/internal/kernel/proc"
	"github.com/nfguard/nfguard/test/lab"
)

// Whoever is not the host's root may take the name, and gives no hint: neither
// when it starts, nor where it is found to run, nor when it ends.
func TestOthersOfTheName(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	dir, err := os.MkdirTemp("", "nfguard-exec-") // a directory that others can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, standIn)
	text, err := os.ReadFile(lab.Tool(t, lab.Root, "sleep"))
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(path, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	foreign := func(t *testing.T) (end func()) {
		var ends []func()
		for _, command := range [][]string{
			{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", path, "600"},
			{"setpriv", "--ruid=65534", path, "600"},
			{"unshare", "--net", path, "600"},
			{"unshare", "--user", "--map-root-user", path, "600"},
		} {
			cmd := exec.Command(command[0], command[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			end := sync.OnceFunc(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			t.Cleanup(end)
			ends = append(ends, end)
			for began := time.Now(); proc.ReadComm(cmd.Process.Pid) != standIn; time.Sleep(time.Millisecond) {
				if time.Since(began) > sourcetest.Patience {
					t.Fatalf("%v does not run", command)
				}
			}
		}
		return func() {
			for _, end := range ends {
				end()
			}
		}
	}
	ways(t, func(t *testing.T, w way) {
		before := foreign(t)
		sub := subscribe(t, only(w, standIn))
		before()
		foreign(t)()
		who, end := start(t, path, "600") // the first hint is of this one
		sub.want(t, standIn+"["+itoa(who.PID)+"] started", who)
		end()
		sub.want(t, standIn+"["+itoa(who.PID)+"] ended", who)
	})
}

// stormy is a feed that is told of so many starts at once.
type stormy struct{ event, starts int }

func (f *stormy) fd() int { return f.event }

func (f *stormy) read(func(int, string)) (int, error) {
	var b [8]byte
	if _, err := unix.Read(f.event, b[:]); err != nil {
		return 0, err
	}
	return f.starts, nil
}

func (f *stormy) close() { unix.Close(f.event) }

// Beyond its budget the source does not listen, and finds afterwards what has
// started. What it watches is seen to end meanwhile.
func TestStormIsNotListenedTo(t *testing.T) {
	lab.Need(t, lab.Root)
	path := sleeper(t, standIn)
	who, end := start(t, path, "600")
	opened := 0
	s := New(Options{Names: []string{standIn}})
	s.pause = 200 * time.Millisecond
	notes := make(chan int, 100)
	s.noted = func(pid int) { notes <- pid }
	s.ways = []way{{"storm", "storm", func([]string) (feed, error) {
		opened++
		fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if opened > 1 { // it is over
			fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		}
		return &stormy{fd, burst + 1}, err
	}}}
	sub := subscription{sourcetest.Run(t, s, nil)}
	sub.First(t, "subscribed: storm")
	began := time.Now()
	end()
	sub.want(t, standIn+"["+itoa(who.PID)+"] ended", who)
	if h := sub.Next(t); h.Reason != "subscribed: storm" {
		t.Errorf("after the pause: %+v", h)
	}
	if took := time.Since(began); took < s.pause/2 {
		t.Errorf("listens again after %v", took)
	}
	for _, want := range []int{0, who.PID, 0} {
		if got := <-notes; got != want {
			t.Errorf("%d was noted, want %d", got, want)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func TestBudget(t *testing.T) {
	now := time.Now()
	b := budget{left: burst, at: now}
	for i := range 60 { // a busy node
		if now = now.Add(time.Second); !b.take(perSecond/2, now) {
			t.Fatalf("spent after %d s of half of it", i)
		}
	}
	if now = now.Add(time.Second); !b.take(burst, now) || b.take(1, now) {
		t.Error("a burst is not what is there at once")
	}
	b = budget{left: burst, at: now}
	for i := 1; ; i++ {
		now = now.Add(time.Millisecond)
		if !b.take(1, now) {
			if i < 2000 || i > 2500 {
				t.Errorf("a thousand a second are listened to for %d ms", i)
			}
			break
		}
	}
}

// Starts and ends are told with the capabilities of the packaged unit, and with
// CAP_NET_ADMIN alone, which the proc connector is enough for.
func TestWithFewCapabilities(t *testing.T) {
	if os.Getenv("NFGUARD_TEST_LISTEN") != "" {
		err := New(Options{Names: []string{standIn}}).Run(t.Context(), func(h source.Hint) { fmt.Println("hint:", h.Reason) })
		fmt.Println("ended:", err)
		return
	}
	lab.Need(t, lab.Root, lab.Netns)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := sleeper(t, standIn)
	for _, tt := range []struct {
		caps string
		way  way
		how  string
	}{
		{"-all,+net_admin,+bpf,+perfmon,+sys_admin", bpf, "subscribed: BPF raw tracepoint"},
		{"-all,+net_admin", connector, "subscribed: proc connector (BPF: operation not permitted)"},
	} {
		t.Run(tt.caps, func(t *testing.T) {
			need(t, tt.way)
			cmd := exec.Command("setpriv", "--bounding-set="+tt.caps, "--inh-caps=-all", "--no-new-privs", exe, "-test.run", "^TestWithFewCapabilities$")
			cmd.Env = append(os.Environ(), "NFGUARD_TEST_LISTEN=1")
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			t.Cleanup(func() {
				stop.Stop()
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			lines := bufio.NewScanner(out)
			want := func(what string) {
				t.Helper()
				if !lines.Scan() || lines.Text() != "hint: "+what {
					t.Fatalf("it says %q, want %q", lines.Text(), what)
				}
			}
			want(tt.how)
			foreign := exec.Command("unshare", "--net", path, "600")
			if err := foreign.Start(); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); proc.ReadComm(foreign.Process.Pid) != standIn && time.Since(began) < sourcetest.Patience; {
				time.Sleep(time.Millisecond)
			}
			who, end := start(t, path, "600")
			want(fmt.Sprintf("%s[%d] started", standIn, who.PID))
			_ = foreign.Process.Kill()
			_ = foreign.Wait()
			end()
			want(fmt.Sprintf("%s[%d] ended", standIn, who.PID))
		})
	}
}
