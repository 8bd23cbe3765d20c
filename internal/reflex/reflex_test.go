package reflex_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/reflex"
	"github.com/nfguard/nfguard/test/lab"
)

func newReflex(t *testing.T) *reflex.Reflex {
	t.Helper()
	r, err := reflex.New()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// key is an ordinary file that stands for a sysctl.
func key(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "key"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

func answers(r *reflex.Reflex) (all []reflex.Answer) {
	r.Answers(func(a reflex.Answer) { all = append(all, a) })
	return all
}

func TestRing(t *testing.T) {
	r := newReflex(t)
	time.AfterFunc(50*time.Millisecond, r.Ring)
	start := time.Now()
	if r.Wait(-1, 10*time.Second, time.Second) {
		t.Error("news, where there is none")
	}
	if took := time.Since(start); took < 40*time.Millisecond || took > 5*time.Second {
		t.Errorf("rung after 50 ms, back after %v", took)
	}
	r.Ring()
	r.Ring() // twice is once
	r.Wait(-1, 10*time.Second, time.Second)
	start = time.Now()
	r.Wait(-1, 30*time.Millisecond, time.Second)
	if took := time.Since(start); took < 30*time.Millisecond {
		t.Errorf("not rung, and back after %v", took)
	}
}

func TestNews(t *testing.T) {
	r := newReflex(t)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	if _, err := out.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if !r.Wait(int(in.Fd()), 10*time.Second, time.Second) {
		t.Error("no news, where there is some")
	}
}

func TestPutsBack(t *testing.T) {
	r := newReflex(t)
	right, wrong := key(t, "1\n"), key(t, "0\n")
	r.Arm(int(right.Fd()), "1")
	r.Arm(int(wrong.Fd()), "1")
	start := time.Now()
	r.Wait(-1, 10*time.Second, 20*time.Millisecond)
	got := answers(r)
	if len(got) != 1 || got[0].Index != 1 || got[0].Have != "0" || got[0].Stood < 0 || got[0].Stood > time.Second ||
		got[0].At.Before(start) || got[0].At.After(time.Now()) {
		t.Errorf("answers: %+v", got)
	}
	if text, _ := os.ReadFile(wrong.Name()); string(text) != "1\n" {
		t.Errorf("the file holds %q", text)
	}
	// Right from now on: nothing is written, and the whole time is waited.
	before, _ := os.Stat(wrong.Name())
	start = time.Now()
	r.Wait(-1, 100*time.Millisecond, 10*time.Millisecond)
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("nothing to do, and back after %v", took)
	}
	after, _ := os.Stat(wrong.Name())
	if diff := cmp.Diff([]reflex.Answer(nil), answers(r)); diff != "" || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("what is right was written to: %s", diff)
	}
}

func TestTrouble(t *testing.T) {
	r := newReflex(t)
	f := key(t, "0\n")
	readOnly, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	r.Arm(int(readOnly.Fd()), "1")
	start := time.Now()
	r.Wait(-1, 10*time.Second, 10*time.Millisecond)
	if len(answers(r)) != 0 || time.Since(start) > 5*time.Second {
		t.Errorf("a write that failed is an answer: %+v, after %v", answers(r), time.Since(start))
	}
	r.Disarm()
	r.Wait(-1, 20*time.Millisecond, 10*time.Millisecond)
	if r.Arm(-1, "1") || r.Arm(3, string(make([]byte, 64))) {
		t.Error("armed with what it can't do")
	}
	for range 16 {
		r.Arm(int(f.Fd()), "0")
	}
	if r.Arm(int(f.Fd()), "0") {
		t.Error("a seventeenth key was armed")
	}
}

// The collector, stack growth and other goroutines go on while it stands.
func TestRuntimeGoesOn(t *testing.T) {
	r := newReflex(t)
	f := key(t, "1\n")
	r.Arm(int(f.Fd()), "1")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var grow func(int) int
		grow = func(n int) int {
			var pad [1024]byte
			if n == 0 {
				return int(pad[0])
			}
			return grow(n-1) + int(pad[1])
		}
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				debug.FreeOSMemory()
				grow(200)
				r.Ring()
			}
		}
	}()
	defer runtime.UnlockOSThread()
	runtime.LockOSThread()
	for i, start := 0, time.Now(); time.Since(start) < 2*time.Second; i++ {
		if i%100 == 0 {
			if _, err := f.WriteAt([]byte("0\n"), 0); err != nil {
				t.Fatal(err)
			}
		}
		r.Wait(-1, 5*time.Millisecond, time.Millisecond)
	}
	close(stop)
	<-done
	if text, _ := os.ReadFile(f.Name()); string(text) != "1\n" {
		t.Errorf("the file holds %q", text)
	}
}

// The real thing: a sysctl of a namespace, written by another process.
func TestSysctl(t *testing.T) {
	ns := lab.NewNamespace(t)
	var f *os.File
	var err error
	ns.Do(func() { f, err = os.OpenFile("/proc/sys/net/bridge/bridge-nf-call-iptables", os.O_RDWR, 0) })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newReflex(t)
	r.Arm(int(f.Fd()), "1")
	cmd := ns.Command("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	r.Wait(-1, 10*time.Second, time.Millisecond)
	if got := answers(r); len(got) != 1 || got[0].Have != "0" {
		t.Errorf("answers: %+v", got)
	}
}

func TestShortSlice(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with its slice
		err := reflex.ShortSlice()
		if err == nil {
			var attr *unix.SchedAttr
			if attr, err = unix.SchedGetAttr(0, 0); err == nil && attr.Policy != unix.SCHED_NORMAL {
				err = fmt.Errorf("policy %d", attr.Policy)
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
