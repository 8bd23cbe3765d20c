package kernel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// childVariable has the test's binary trace instead of testing, so that it can
// be killed.
const childVariable = "NFGUARD_TEST_TRACE"

func TestMain(m *testing.M) {
	if server := os.Getenv(childVariable); server != "" {
		q, err := trace.ParseQuery("10.244.0.31", server)
		if err == nil {
			_, err = Follow(context.Background(), q, Options{For: time.Minute, Packets: 1000, Ready: func() { fmt.Println("ready") }})
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestKilled kills a tracer a hundred times, at random moments from its start
// on, while there is traffic: nothing of it is left.
func TestKilled(t *testing.T) {
	const runs = 100
	w := newWorker(t, true)
	w.load("table ip t {\n chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 53 dnat to 10.244.0.1:8080;\n}\n}\n")
	before := w.ruleset()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	service := netip.MustParseAddrPort("10.96.0.1:53")
	stop := make(chan struct{})
	requests := make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				requests <- n
				return
			default:
				_ = w.get(w.client, service) // what it comes to is not the point here
			}
		}
	}()
	marked := 0
	// How long one takes to be ready tells when others are at work on that.
	first := w.Command(exe)
	first.Env = append(os.Environ(), childVariable+"=10.96.0.1:53")
	said, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 16)); err != nil {
		t.Errorf("it is never ready: %v", err)
	}
	start := time.Since(begin)
	_ = first.Process.Kill()
	_ = first.Wait() // killed
	for range runs {
		cmd := w.Command(exe)
		cmd.Env = append(os.Environ(), childVariable+"=10.96.0.1:53")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(2 * start))
		if strings.Contains(w.ruleset(), namePrefix) {
			marked++
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		if diff := cmp.Diff(before, w.ruleset()); diff != "" {
			t.Errorf("it left (-before +after):\n%s", diff)
			break
		}
	}
	close(stop)
	n := <-requests
	t.Logf("of %d tracers that were killed %d had their tables; there were %d requests meanwhile", runs, marked, n)
	if n < runs {
		t.Errorf("only %d requests", n)
	}
	if marked < runs/10 {
		t.Errorf("only %d of %d had their tables when they were killed: that shows nothing", marked, runs)
	}
}

// TestKilledWithLegacy: the kernel does not take back who it logs the rules of
// iptables-legacy to. The next run finds that, and has it as before.
func TestKilledWithLegacy(t *testing.T) {
	w := newWorker(t, true)
	const file = "/proc/sys/net/netfilter/nf_log/2"
	logger := func() string { return w.Run(t, "cat", file) }
	w.Run(t, "iptables-legacy", "-A", "FORWARD", "-m", "comment", "--comment", "mine", "-j", "ACCEPT")
	before := logger()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"=10.96.0.1:53")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = out.Read(make([]byte, 1)) // it is ready
	if killed := cmd.Process.Kill(); err != nil || killed != nil {
		t.Fatal(err, killed)
	}
	_ = cmd.Wait() // killed
	if got := logger(); got != nflog+"\n" {
		t.Fatalf("the logger is %q, so this shows nothing", got)
	}
	r := w.follow("10.244.0.31", "10.96.0.1:53", func() {})
	if got := logger(); got != before || len(r.Notes) > 0 {
		t.Errorf("the logger is %q, was %q before; notes %q", got, before, r.Notes)
	}
}

// TestLeftovers: a kernel before 5.12 knows no owner of tables, and keeps what
// a killed tracer had. The next run removes that, and not what is another's.
func TestLeftovers(t *testing.T) {
	w := newWorker(t, true)
	dead := w.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	running := w.Command("sleep", "60")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = running.Process.Kill()
		_ = running.Wait() // killed
	}()
	others := fmt.Sprintf("table ip nfguard-tracer-1 {\n}\ntable bridge %s%d {\n}\n", namePrefix, running.Process.Pid)
	w.load(others)
	before := w.ruleset()
	// Our own number was somebody's before us, as in a container.
	for _, pid := range []int{dead.Process.Pid, os.Getpid()} {
		w.load(fmt.Sprintf("table ip %[1]s%[2]d {\n}\ntable bridge %[1]s%[2]d {\n}\n", namePrefix, pid))
	}
	w.Do(func() {
		if err := sweep(); err != nil {
			t.Error(err)
		}
	})
	if diff := cmp.Diff(before, w.ruleset()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOlderKernels makes and removes the tables as where the kernel knows no
// owner of tables, or has no nf_tables for bridges.
func TestOlderKernels(t *testing.T) {
	w := newWorker(t, true)
	before := w.ruleset()
	q, err := trace.ParseQuery("10.244.0.31", "10.96.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*marks{
		"no owner":            {bridge: true},
		"no bridge":           {owned: true},
		"no owner, no bridge": {},
	} {
		t.Run(name, func(t *testing.T) {
			m.name, m.ip = namePrefix+"1", unix.NFPROTO_IPV4
			w.Do(func() {
				if m.c, err = nfnl.Dial(); err == nil {
					err = m.c.Commit(m.messages(q, false)...)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			with := w.ruleset()
			for part, want := range map[string]bool{"table ip " + m.name: true, "table bridge " + m.name: m.bridge, "flags owner": m.owned} {
				if strings.Contains(with, part) != want {
					t.Errorf("%q is there: %t, want %t", part, !want, want)
				}
			}
			if err := m.quiet(); err != nil {
				t.Error(err)
			}
			if still := w.ruleset(); strings.Contains(still, "nftrace") || !strings.Contains(still, "table ip "+m.name) {
				t.Errorf("it still marks packets, or has no chains:\n%s", still)
			}
			if m.bridge { // one that somebody else removes does not keep the other
				if err := w.removeTable(m, unix.NFPROTO_BRIDGE); err != nil {
					t.Error(err)
				}
				want := "somebody has removed the table bridge nfguard-trace-1: what came by since then is missing"
				if err := m.quiet(); fmt.Sprint(err) != want {
					t.Errorf("error %v, want %s", err, want)
				}
			}
			if err := m.close(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, w.ruleset()); diff != "" {
				t.Errorf("it left (-before +after):\n%s", diff)
			}
		})
	}
}

// removeTable removes a table by the connection that owns it.
func (w *worker) removeTable(m *marks, family byte) (err error) {
	w.Do(func() { err = m.c.Commit(m.table(family).Delete()) })
	return err
}
