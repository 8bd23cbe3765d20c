package exec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// A hundred starts and kills in a second are a handful of hints for who looks,
// and leave nothing.
func TestStorm(t *testing.T) {
	path := sleeper(t, standIn)
	ways(t, func(t *testing.T, w way) {
		var started, ended int
		in := source.NewInbox(func() {})
		sub := subscribe(t, only(w, standIn))
		before, goroutines := sourcetest.Descriptors(t), runtime.NumGoroutine()
		stormed := make(chan struct{})
		go func() {
			defer close(stormed)
			for range 100 {
				cmd := exec.Command(path, "600")
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				for proc.ReadComm(cmd.Process.Pid) != standIn {
					runtime.Gosched() // see start
				}
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
		}()
		for over := false; !over; {
			select {
			case h := <-sub.Hints:
				in.Put(h)
				switch {
				case strings.HasSuffix(h.Reason, " started"):
					started++
				case strings.HasSuffix(h.Reason, " ended"):
					ended++
				}
			case <-stormed:
				stormed = nil // and what is on its way
			case <-time.After(300 * time.Millisecond):
				over = stormed == nil
			}
		}
		t.Logf("%d started, %d ended", started, ended)
		if started != ended || w.short == bpf.short && started != 100 {
			t.Errorf("100 started and were killed; hints: %d started, %d ended", started, ended)
		}
		if n := len(in.Take()); n > 16 {
			t.Errorf("%d hints wait for the look", n)
		}
		if after := sourcetest.Descriptors(t); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
		if after := runtime.NumGoroutine(); after > goroutines {
			t.Errorf("%d goroutines before, %d after", goroutines, after)
		}
	})
}

// The same source is run again and again, and leaves nothing.
func TestRunLeavesNothing(t *testing.T) {
	path := sleeper(t, standIn)
	start(t, path, "600")
	ways(t, func(t *testing.T, w way) {
		s := only(w, standIn)
		sourcetest.LeavesNothing(t, func() {
			sub := subscribe(t, s)
			who, end := start(t, path, "600")
			sub.want(t, fmt.Sprintf("%s[%d] started", standIn, who.PID), who)
			sub.End()
			if err := <-sub.Done; err != nil {
				t.Error(err)
			}
			end()
		})
	})
}

// More than 64 processes are not watched for their end, and all are seen to
// start.
func TestMany(t *testing.T) {
	path := sleeper(t, standIn)
	ways(t, func(t *testing.T, w way) {
		sub := subscribe(t, only(w, standIn))
		var ends []func()
		for range most + 6 {
			who, end := start(t, path, "600")
			ends = append(ends, end)
			sub.want(t, fmt.Sprintf("%s[%d] started", standIn, who.PID), who)
		}
		go func() {
			for _, end := range ends {
				end()
			}
		}()
		n := 0
		for over := false; !over; {
			select {
			case <-sub.Hints:
				n++
			case <-time.After(300 * time.Millisecond):
				over = n >= most
			}
		}
		if n != most {
			t.Errorf("%d of %d ends were seen, want %d", n, len(ends), most)
		}
	})
}

// Where the kernel has no pidfd_open, starts are told all the same.
func TestNoEnds(t *testing.T) {
	var got []string
	p, err := newPoller(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	e := newEnds(p, proc.NewNames(nil), func(_ source.Kind, reason string, w record.Process) { got = append(got, reason+" "+w.Comm) })
	if how := e.how(); how != "" {
		t.Errorf("on this kernel: %q", how)
	}
	e.refuse = unix.ENOSYS
	if how := e.how(); how != ", ends are not seen (function not implemented)" {
		t.Errorf("how: %q", how)
	}
	who := source.ReadWriter(os.Getpid())
	e.started(who.PID, who.Comm)
	want := []string{fmt.Sprintf("%s[%d] started %s", who.Comm, who.PID, who.Comm)}
	if diff := cmp.Diff(want, got); diff != "" || len(e.byPID) != 0 {
		t.Errorf("%d are watched; hints (-want +got):\n%s", len(e.byPID), diff)
	}
}

// News can come late: of a process that is gone, or is another by now.
func TestLateNews(t *testing.T) {
	var got []source.Hint
	p, err := newPoller(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	e := newEnds(p, proc.NewNames(nil), func(k source.Kind, reason string, w record.Process) {
		got = append(got, source.Hint{Kind: k, Reason: reason, Writer: w})
	})
	defer e.close()

	who, end := start(t, sleeper(t, standIn), "600")
	pid := who.PID
	e.started(pid, "renamed")
	e.started(pid, standIn)
	e.started(pid, standIn)
	end()
	e.started(pid, standIn)
	e.ended(-1, pid)

	little := func(comm string) record.Process { return record.Process{PID: pid, Comm: comm} }
	say := func(comm, what string, w record.Process) source.Hint {
		kind := source.Appeared
		if what == "ended" {
			kind = source.Removed
		}
		return source.Hint{Kind: kind, Reason: fmt.Sprintf("%s[%d] %s", comm, pid, what), Writer: w}
	}
	want := []source.Hint{
		say("renamed", "started", little("renamed")), // and not watched
		say(standIn, "started", who),
		say(standIn, "started", who),
		say(standIn, "ended", who), // of the one before
		say(standIn, "started", little(standIn)),
		say(standIn, "ended", little(standIn)),
	}
	if diff := cmp.Diff(want, got); diff != "" || len(e.byPID) != 0 {
		t.Errorf("%d are watched; hints (-want +got):\n%s", len(e.byPID), diff)
	}
}

// Who cannot keep up says so. Nothing is read while the news comes in.
func TestLost(t *testing.T) {
	path := sleeper(t, standIn)
	ways(t, func(t *testing.T, w way) {
		f, err := w.open([]string{standIn})
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		if l, ok := f.(*listener); ok { // the least: room for some
			if err := unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1); err != nil {
				t.Fatal(err)
			}
		}
		for range 150 {
			if err := exec.Command(path, "0").Run(); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for range 10 {
			if _, err = f.read(func(int, string) { n++ }); err != nil {
				break
			}
		}
		if !errors.Is(err, errLost) {
			t.Errorf("%d hints, then %v", n, err)
		}
	})
}
