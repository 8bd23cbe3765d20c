package exec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/internal/kernel/hook"
	"github.com/nfguard/nfguard/internal/kernel/proc"
	"github.com/nfguard/nfguard/test/lab"
)

// standIn is looked for by the tests, and named by nothing else on a machine
// that may have a kube-proxy.
const standIn = "kube-proxy-test"

// bpf is the way by the program that is loaded here.
var bpf = byBPF(hook.LoadExec)

// ways runs a test with each way to subscribe.
func ways(t *testing.T, f func(t *testing.T, w way)) {
	lab.Need(t, lab.Root)
	for _, w := range []way{bpf, connector} {
		t.Run(w.short, func(t *testing.T) { need(t, w); f(t, w) })
	}
}

// need skips the test where the machine does not allow w to root, unless
// NFGUARD_TEST_REQUIRE asks for the layer root.
func need(t testing.TB, w way) {
	t.Helper()
	f, err := w.open([]string{standIn})
	switch {
	case err == nil:
		f.close()
	case never(err) && !strings.Contains(os.Getenv("NFGUARD_TEST_REQUIRE"), string(lab.Root)):
		t.Skipf("%s: %v", w.name, err)
	default:
		t.Fatalf("%s: %v", w.name, err)
	}
}

// subscription is a source that runs, as its tests ask it.
type subscription struct{ sourcetest.Subscription }

// subscribe runs s until the test ends or the subscription's End is called.
// The hints after the first are the caller's to receive, or the source waits.
func subscribe(t *testing.T, s *Source) subscription {
	t.Helper()
	sub := subscription{sourcetest.Run(t, s, nil)}
	sub.First(t, "subscribed: "+s.ways[0].name)
	return sub
}

// want receives a hint, which must be of reason and w.
func (s subscription) want(t *testing.T, reason string, w record.Process) {
	t.Helper()
	got := s.Next(t)
	if time.Since(got.Time) > sourcetest.Patience {
		t.Errorf("hint %+v", got)
	}
	kind := source.Appeared
	if strings.HasSuffix(reason, " ended") {
		kind = source.Removed
	}
	want := source.Hint{Source: "exec", About: source.Processes, Kind: kind, Reason: reason, Time: got.Time, Writer: w}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("hint (-want +got):\n%s", diff)
	}
}

func only(w way, names ...string) *Source {
	s := New(Options{Names: names})
	s.ways = []way{w}
	return s
}

// sleeper puts an executable that runs for ten minutes into a directory of
// its own, under name.
func sleeper(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(lab.Tool(t, lab.Root, "sleep"))
	if err != nil {
		t.Fatal(err)
	}
	return install(t, name, text)
}

func install(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts a program, which ends with the test or by the function that it
// returns, and says who it is.
func start(t testing.TB, path string, args ...string) (who record.Process, end func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	// Start returns in the middle of the exec, before the process has its name.
	for began := time.Now(); who.Comm != proc.Comm(filepath.Base(path)); time.Sleep(100 * time.Microsecond) {
		if who = source.ReadWriter(cmd.Process.Pid); time.Since(began) > sourcetest.Patience {
			t.Fatalf("%s was started and is %+v", path, who)
		}
	}
	return source.ReadWriter(cmd.Process.Pid), end
}

func TestStartsAndEnds(t *testing.T) {
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	sleep := sleeper(t, standIn)
	long := sleeper(t, "kubernetes-proxy-of-the-test")
	script := install(t, "script-"+standIn, []byte("#!/bin/sh\nkill -STOP $$\n"))
	alias := filepath.Join(t.TempDir(), "alias-"+standIn)
	if err := os.Symlink(sleep, alias); err != nil {
		t.Fatal(err)
	}
	other := sleeper(t, standIn[:len(standIn)-1])
	ways(t, func(t *testing.T, w way) {
		sub := subscribe(t, only(w, standIn, "kubernetes-proxy-of-the-test", "script-"+standIn, "alias-"+standIn))
		for _, tt := range []struct{ name, path, comm, exe string }{
			{"a program", sleep, standIn, sleep},
			{"a name longer than the kernel's", long, "kubernetes-prox", long},
			{"a script", script, "script-kube-pro", sh},
			{"a symbolic link", alias, "alias-kube-prox", sleep},
		} {
			t.Run(tt.name, func(t *testing.T) {
				start(t, other, "600") // gives no hint
				began := time.Now()
				who, end := start(t, tt.path, "600")
				if who.Comm != tt.comm || who.Exe != tt.exe {
					t.Fatalf("the stand-in is %+v, want comm %q and exe %q", who, tt.comm, tt.exe)
				}
				sub.want(t, fmt.Sprintf("%s[%d] started", tt.comm, who.PID), who)
				t.Logf("seen to start %v after the start began", time.Since(began))
				end()
				sub.want(t, fmt.Sprintf("%s[%d] ended", tt.comm, who.PID), who)
			})
		}
	})
}

// A kube-proxy in a pod has a PID namespace of its own.
func TestOtherPIDNamespace(t *testing.T) {
	path := sleeper(t, standIn)
	ways(t, func(t *testing.T, w way) {
		sub := subscribe(t, only(w, standIn))
		_, end := start(t, lab.Tool(t, lab.Root, "unshare"), "-p", "-f", "--kill-child", path, "600")
		h := sub.Next(t)
		pid := h.Writer.PID
		if h.Reason != fmt.Sprintf("%s[%d] started", standIn, pid) || h.Writer.Exe != path {
			t.Errorf("hint %+v", h)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nNSpid:\t%d\t1\n", pid)) {
			t.Errorf("%d is not pid 1 of another PID namespace: %v\n%s", pid, err, status)
		}
		end()
		sub.want(t, fmt.Sprintf("%s[%d] ended", standIn, pid), h.Writer)
	})
}

// What ran before is not news; that it ends is.
func TestRanBefore(t *testing.T) {
	path := sleeper(t, standIn)
	ways(t, func(t *testing.T, w way) {
		who, end := start(t, path, "600")
		time.Sleep(50 * time.Millisecond) // the kernel tells of an exec when it is done
		sub := subscribe(t, only(w, standIn))
		end()
		sub.want(t, fmt.Sprintf("%s[%d] ended", standIn, who.PID), who)
	})
}

// A process that executes one of the names after another goes on under the
// new one. With the connector the first name may have gone when it is read.
func TestExecutesAnother(t *testing.T) {
	lab.Need(t, lab.Root)
	need(t, bpf)
	second := sleeper(t, standIn)
	first := install(t, "first-"+standIn, []byte("#!/bin/sh\nexec "+second+" 600\n"))
	sub := subscribe(t, only(bpf, standIn, "first-"+standIn))
	cmd := exec.Command(first)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if want, got := fmt.Sprintf("first-kube-prox[%d] started", pid), sub.Next(t).Reason; got != want {
		t.Errorf("first hint %q, want %q", got, want)
	}
	h := sub.Next(t)
	if want := fmt.Sprintf("%s[%d] started", standIn, pid); h.Reason != want || h.Writer.Exe != second {
		t.Errorf("second hint %+v, want %q", h, want)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	sub.want(t, fmt.Sprintf("%s[%d] ended", standIn, pid), h.Writer)
}

func TestNoNames(t *testing.T) {
	err := New(Options{Names: []string{""}}).Run(t.Context(), nil)
	if err == nil || err.Error() != "no names of processes to look for" {
		t.Errorf("error %v", err)
	}
	if errors.Is(err, ErrNotSupported) {
		t.Error("the kernel is blamed")
	}
}

func TestNames(t *testing.T) {
	s := New(Options{Names: []string{"kube-proxy", "", "averyveryverylongname", "averyveryverylo", "kube-proxy"}})
	if diff := cmp.Diff([]string{"kube-proxy", "averyveryverylo"}, s.names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
