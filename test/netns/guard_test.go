package netns_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

func TestReadyOnlyWhenRight(t *testing.T) {
	for range 20 {
		n := newNode(t, "")
		n.start()
		n.awaitReady()
		if got := n.values(); got != "1 1 1" {
			t.Fatalf("at READY the keys are %s", got)
		}
		n.stop()
		if got := n.values(); got != "1 1 1" {
			t.Errorf("after a clean stop the keys are %s", got)
		}
	}
}

// Each of 1,000 foreign writes is put right, with its own record or, in a fight, one
// that counts it. Without BPF, writes through the same mount of procfs are put right at
// once, others within one second.
func TestThousandForeignWrites(t *testing.T) {
	t.Parallel() // with other tests that mostly wait
	seen := []struct {
		name  string
		comm  string
		write func(n *node)
	}{
		{"sysctl -w", "sysctl", func(n *node) { n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0") }},
		{"echo", "sh", func(n *node) { n.Run(t, "sh", "-c", "echo 0 > "+keyFile("iptables")) }},
		{"systemd-sysctl", "systemd-sysctl", func(n *node) {
			n.Run(t, lab.Tool(t, lab.Netns, "systemd-sysctl"), n.file("hostile.conf"))
		}},
	}
	for _, tt := range seen {
		t.Run(tt.name, func(t *testing.T) {
			const writes = 300
			n := newNode(t, "")
			n.write("hostile.conf", "net.bridge.bridge-nf-call-iptables = 0\n")
			n.start()
			n.awaitReady()
			n.recorded("start", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "start" })
			before, _ := n.tally()
			var longest time.Duration
			for range writes {
				tt.write(n)
				longest = max(longest, n.becomes("1 1 1", atMost))
			}
			n.stop()
			records, counted := n.tally()
			t.Logf("%d writes put right, the longest %v after the writer had ended; %d records and %d counted", writes, longest, records-before, counted)
			if got := records - before + counted; got != writes {
				t.Errorf("%d writes, but the records stand for %d", writes, got)
			}
			n.named(tt.comm)
		})
	}
	t.Run("without BPF, another PID namespace with its own procfs", func(t *testing.T) {
		const nodes, writes = 10, 10
		var wg sync.WaitGroup
		var longest atomic.Int64
		for range nodes {
			n := newNode(t, "")
			n.withoutBPF = true
			n.start()
			n.awaitReady()
			n.recorded("start", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "start" })
			before, _ := n.tally()
			wg.Go(func() {
				for range writes {
					n.Run(t, "unshare", "-p", "-f", "--mount-proc", "sh", "-c", "echo 0 > "+keyFile("iptables"))
					// Within one second on a machine with time to spare; this
					// one runs ten daemons and the race detector.
					took := n.becomes("1 1 1", atMost)
					for was := longest.Load(); int64(took) > was && !longest.CompareAndSwap(was, int64(took)); was = longest.Load() {
					}
				}
				n.stop()
				records, counted := n.tally()
				if got := records - before + counted; got != writes {
					t.Errorf("%d writes, but the records stand for %d", writes, got)
				}
			})
		}
		wg.Wait()
		t.Logf("%d writes put right, the longest %v after the writer had ended", nodes*writes, time.Duration(longest.Load()))
	})
}

// named checks that the records name the writer; a writer that ended before
// it could be looked at has only a PID.
func (n *node) named(comm string) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	asked, named := 0, 0
	for _, r := range n.records {
		if r["NFGUARD_EVENT"] != "drift" || r["NFGUARD_SOURCE"] != "sysctl" {
			continue
		}
		asked++
		if r["OBJECT_COMM"] == comm && r["OBJECT_PID"] != "" {
			named++
		} else if r["OBJECT_COMM"] != "" {
			n.t.Errorf("written by %s, but the record says %s[%s]", comm, r["OBJECT_COMM"], r["OBJECT_PID"])
		}
	}
	n.t.Logf("%d of %d records name %s", named, asked, comm)
	if named == 0 {
		n.t.Errorf("no record of %d names %s", asked, comm)
	}
}

// Ten thousand writes in a row cost ten records, and the last value is ours.
func TestFightDoesNotFloodTheJournal(t *testing.T) {
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	n.Run(t, "sh", "-c", "i=0; while [ $i -lt 10000 ]; do echo 0 > "+keyFile("iptables")+"; i=$((i+1)); done")
	n.becomes("1 1 1", atMost)
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.records) > 20 {
		t.Errorf("%d records", len(n.records))
	}
}

func TestBridgeAppears(t *testing.T) {
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	n.Run(t, "ip", "link", "add", "cbr0", "type", "bridge")
	r := n.recorded("cbr0 appeared", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "bridge" && r["NFGUARD_SUBJECT"] == "cbr0"
	})
	if want := "bridge cbr0 appeared; br_netfilter loaded, 3 of 3 keys as wanted"; r["MESSAGE"] != want {
		t.Errorf("got  %s\nwant %s", r["MESSAGE"], want)
	}
	n.Run(t, "ip", "link", "del", "cbr0")
	n.recorded("cbr0 went", func(r map[string]string) bool { return r["MESSAGE"] == "bridge cbr0 was removed" })
}

func TestDropinIsPutBack(t *testing.T) {
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	path := n.file("99-zz-nfguard.conf")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As an editor does it: a new file over the old one.
	n.write("edit", strings.ReplaceAll(string(want), "= 1", "= 0"))
	if err := os.Rename(n.file("edit"), path); err != nil {
		t.Fatal(err)
	}
	r := n.recorded("the drop-in", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "dropin" && r["NFGUARD_HAVE"] == "changed"
	})
	if got, _ := os.ReadFile(path); string(got) != string(want) || r["MESSAGE"] != path+" was changed, written again" {
		t.Errorf("%s\n%s", r["MESSAGE"], got)
	}
}

func TestReload(t *testing.T) {
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	good, err := os.ReadFile(n.file("nfguard.toml"))
	if err != nil {
		t.Fatal(err)
	}
	n.write("nfguard.toml", "mod = 1\n")
	_ = n.cmd.Process.Signal(syscall.SIGHUP)
	r := n.recorded("a bad file", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "config" && r["NFGUARD_OUTCOME"] == "failed"
	})
	if !strings.Contains(r["MESSAGE"], n.file("nfguard.toml")+":1: mod: ") {
		t.Errorf("message: %s", r["MESSAGE"])
	}
	n.set("0")
	n.becomes("1 1 1", atMost)
	// A good one, in a drop-in that appears: no signal is needed.
	n.write("nfguard.toml", string(good))
	if err := os.Mkdir(n.file("conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.write("conf.d/10-arp.toml", "[sysctl]\n\"net.bridge.bridge-nf-call-arptables\" = \"ignore\"\n")
	n.recorded("a good file", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "config" && r["MESSAGE"] == "the configuration was reloaded"
	})
	n.set("0", "0", "0")
	n.becomes("1 1 0", atMost)
}

func TestObserveChangesNothing(t *testing.T) {
	n := newNode(t, "mode = \"observe\"\n")
	n.start()
	n.awaitReady()
	if got := n.values(); got != "0 0 0" {
		t.Errorf("the keys are %s", got)
	}
	r := n.recorded("observed", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "drift" })
	if want := "net.bridge.bridge-nf-call-iptables is 0, wanted 1; left so in mode observe"; r["MESSAGE"] != want {
		t.Errorf("got  %s\nwant %s", r["MESSAGE"], want)
	}
	if left, _ := filepath.Glob(n.file("*.conf")); len(left) > 0 {
		t.Errorf("files were written: %v", left)
	}
}

func TestStatus(t *testing.T) {
	n := newNode(t, "")
	out, err := n.nfguard("status").CombinedOutput()
	if code(err) != 2 || string(out) != "nfguard: error: nfguard is not running\nnfguard: hint: systemctl start nfguard; nfguard check looks without a daemon\n" {
		t.Errorf("without a daemon: exit %d, %s", code(err), out)
	}
	n.start()
	n.awaitReady()
	out, err = n.nfguard("status", "-o", "json").Output()
	lab.Schema(t, "status", out)
	var s struct {
		Schema  int
		State   string
		Sources []struct {
			Name string
			Up   bool
			How  string
		}
	}
	if jsonErr := json.Unmarshal(out, &s); err != nil || jsonErr != nil || s.Schema != 1 || s.State != "healthy" || len(s.Sources) != 7 {
		t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	for _, src := range s.Sources {
		if !src.Up || !strings.HasPrefix(src.How, "subscribed") {
			t.Errorf("source %+v", src)
		}
	}
	out, err = n.nfguard("run").CombinedOutput()
	want := fmt.Sprintf("nfguard: error: another nfguard[%d] holds %s\nnfguard: hint: see nfguard status\n", n.cmd.Process.Pid, n.file("run/lock"))
	if code(err) != 2 || string(out) != want {
		t.Errorf("a second daemon: exit %d\ngot  %swant %s", code(err), out, want)
	}
	n.stop()
	if err := n.nfguard("status").Run(); code(err) != 2 {
		t.Errorf("status after the end: exit %d", code(err))
	}
}

// A read-only procfs is reported, with the next step; the daemon runs, degraded.
func TestReadOnlyProc(t *testing.T) {
	n := newNode(t, "")
	cmd := n.Command("unshare", "-m", "--propagation", "private", "sh", "-c",
		`mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"`, "sh",
		binary, "apply", "--config", n.file("nfguard.toml"))
	out, err := cmd.CombinedOutput()
	for _, want := range []string{
		"blocked  net.bridge.bridge-nf-call-iptables   0, wanted 1\n" +
			"         set net.bridge.bridge-nf-call-iptables: open /proc/sys/net/bridge/bridge-nf-call-iptables: read-only file system\n" +
			"         it is mounted read-only: give nfguard's unit write access to it, or run nfguard on the host and not in a container\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("exit %d, and not said: %s\n%s", code(err), want, out)
		}
	}
	if code(err) != 1 {
		t.Errorf("exit %d, want 1", code(err))
	}
	cmd = n.Command("unshare", "-m", "--propagation", "private", "sh", "-c",
		`mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"`, "sh",
		binary, "check", "--config", n.file("nfguard.toml"))
	out, err = cmd.CombinedOutput()
	want := "         set it on the host: sysctl -w net.bridge.bridge-nf-call-iptables=1\n"
	if live, _, _ := strings.Cut(string(out), "NEXT BOOT"); code(err) != 1 || !strings.Contains(live, want) || strings.Contains(live, "nfguard apply") {
		t.Errorf("check: exit %d, want %q, and nothing of apply, in:\n%s", code(err), want, live)
	}
}

func TestApplyAndCheck(t *testing.T) {
	n := newNode(t, "")
	if err := n.nfguard("check").Run(); code(err) != 1 {
		t.Errorf("check of a host that is wrong: exit %d", code(err))
	}
	out, err := n.nfguard("apply", "--dry-run").Output()
	if code(err) != 1 || !strings.Contains(string(out), "would set net.bridge.bridge-nf-call-iptables: 0 → 1") || n.values() != "0 0 0" {
		t.Errorf("dry run: exit %d, keys %s\n%s", code(err), n.values(), out)
	}
	var d struct {
		Schema  int
		Verdict string
		Changed bool
		Changes []struct{ Op, Subject string }
	}
	out, err = n.nfguard("apply", "-o", "json").Output()
	lab.Schema(t, "check", out)
	if jsonErr := json.Unmarshal(out, &d); err != nil || jsonErr != nil || d.Verdict != "right" || !d.Changed || len(d.Changes) != 5 {
		t.Errorf("apply: %v, %v\n%s", err, jsonErr, out)
	}
	out, err = n.nfguard("apply", "-o", "json").Output()
	if jsonErr := json.Unmarshal(out, &d); err != nil || jsonErr != nil || d.Changed {
		t.Errorf("a second apply: %v, %v\n%s", err, jsonErr, out)
	}
	if out, err := n.nfguard("check").CombinedOutput(); err != nil {
		t.Errorf("check of a host that is right: %v\n%s", err, out)
	}
}

func code(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}
