package netns_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// unlimited makes each reversal a record: no fight has so many.
const unlimited = "[contention]\nlimit = 1000\nwindow = \"1s\"\n"

// TestEveryWriterIsNamed: a thousand writes, by different writers and through different
// mounts of procfs, are each corrected or kept out, with a record that names the writer
// by its PID.
func TestEveryWriterIsNamed(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	t.Parallel() // with another test that mostly waits
	static := buildStatic(t)
	for _, mode := range []string{"enforce", "lock"} {
		t.Run(mode, func(t *testing.T) {
			n := newNode(t, fmt.Sprintf("mode = %q\n", mode)+unlimited)
			n.write("hostile.conf", "net.bridge.bridge-nf-call-iptables = 0\n")
			n.start()
			n.awaitReady()
			n.recorded("start", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "start" })
			writers := []struct {
				comm string
				args []string
			}{
				{"sh", []string{"sh", "-c", "echo 0 >" + keyFile("iptables")}},
				{"sysctl", []string{"sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"}},
				{"systemd-sysctl", []string{lab.Tool(t, lab.Netns, "systemd-sysctl"), n.file("hostile.conf")}},
				{"sh", []string{"unshare", "-pf", "--mount-proc", "sh", "-c", "echo 0 >" + keyFile("iptables")}},
				{"sh", inContainer(t, "echo 0 >"+keyFile("iptables"))},
				{"static", []string{static, keyFile("iptables")}},
			}
			type write struct{ comm, pid string } // pid "": not known to us
			var wrote []write
			for range 1000/len(writers) + 1 {
				for _, w := range writers {
					cmd := n.Command(w.args[0], w.args[1:]...)
					_ = cmd.Run() // refused, in mode lock
					pid := strconv.Itoa(cmd.Process.Pid)
					if w.args[0] == "unshare" || w.args[0] == "env" {
						pid = ""
					}
					wrote = append(wrote, write{w.comm, pid})
					n.becomes("1 1 1", atMost)
					time.Sleep(8 * time.Millisecond) // slow enough that each write has its own event and answer
				}
			}
			n.stop()
			n.mu.Lock()
			defer n.mu.Unlock()
			event := map[string]string{"enforce": "drift", "lock": "denied"}[mode]
			i, named := 0, 0
			for _, r := range n.records {
				if r["NFGUARD_EVENT"] != event || r["NFGUARD_SOURCE"] == "start" {
					continue
				}
				if i < len(wrote) && r["OBJECT_COMM"] == wrote[i].comm && (wrote[i].pid == "" || r["OBJECT_PID"] == wrote[i].pid) {
					named++
				} else if i < len(wrote) && i-named < 5 {
					t.Errorf("write %d was by %+v, the record says: %s", i, wrote[i], r["MESSAGE"])
				}
				i++
			}
			t.Logf("%d writes, %d records, %d name the writer", len(wrote), i, named)
			if i != len(wrote) || named != len(wrote) {
				t.Errorf("%d writes, %d records, %d name the writer", len(wrote), i, named)
			}
		})
	}
}

// inContainer returns a command that runs a script in a container of systemd-nspawn with
// its own PIDs, procfs and root directory, and the network namespace of its caller.
func inContainer(t *testing.T, script string) []string {
	t.Helper()
	lab.RemoveGroups(t)
	root := t.TempDir()
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr/lib"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile(lab.Tool(t, lab.Netns, "busybox")) // Debian's busybox-static
	if err := errors.Join(err, os.WriteFile(root+"/bin/sh", busybox, 0o755), os.WriteFile(root+"/usr/lib/os-release", []byte("ID=test\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return []string{
		"env", "SYSTEMD_NSPAWN_LOCK=0", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network", // or /proc/sys is read-only
		lab.Tool(t, lab.Netns, "systemd-nspawn"), "--quiet", "--as-pid2", "--pipe", "--directory=" + root, fmt.Sprint("--machine=nfguard-", os.Getpid()),
		"--network-namespace-path=/proc/self/ns/net", "--register=no", "--keep-unit", "--link-journal=no", "--settings=no",
		"/bin/sh", "-c", script,
	}
}

// buildStatic builds the shortest-lived writer possible.
func buildStatic(t *testing.T) string {
	t.Helper()
	const program = `#include <fcntl.h>
#include <unistd.h>
int main(int n, char **a) { int f = open(a[1], O_WRONLY); return write(f, "0", 1) != 1; }
`
	path := t.TempDir() + "/static"
	cmd := exec.Command(lab.Tool(t, lab.Netns, "gcc"), "-x", "c", "-O", "-static", "-o", path, "-")
	cmd.Stdin = strings.NewReader(program)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the writer: %v\n%s", err, out)
	}
	return path
}

// TestKeptOut: what the writers of foreign values see, and what is recorded, if the
// kernel keeps the values from being stored.
func TestKeptOut(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	for _, tt := range []struct {
		mode, event, outcome string
		exit                 int // of sysctl
	}{
		{"lock", "denied", "denied", 1},
		{"enforce", "drift", "rewritten", 0},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			n := newNode(t, fmt.Sprintf("mode = %q\n", tt.mode))
			// Read by sysctl --system's way of reading: the hostile line does not
			// keep it from the next one.
			n.write("hostile.conf", "net.bridge.bridge-nf-call-iptables = 0\nnet.ipv4.conf.lo.accept_local = 1\n")
			n.start()
			n.awaitReady()
			n.needRewrite(tt.mode == "enforce")
			out, err := n.Command("sysctl", "-p", n.file("hostile.conf")).CombinedOutput()
			if code(err) != tt.exit {
				t.Errorf("sysctl -p: exit %d, want %d\n%s", code(err), tt.exit, out)
			}
			if got := strings.TrimSpace(n.Run(t, "sysctl", "-n", "net.ipv4.conf.lo.accept_local")); got != "1" {
				t.Errorf("the line after the hostile one was not set: %s", got)
			}
			if got := n.values(); got != "1 1 1" {
				t.Errorf("the keys are %s", got)
			}
			r := n.recorded("what the kernel did", func(r map[string]string) bool {
				return r["NFGUARD_EVENT"] == tt.event && r["NFGUARD_SOURCE"] != "start"
			})
			for field, want := range map[string]string{
				"NFGUARD_OUTCOME": tt.outcome, "OBJECT_COMM": "sysctl", "OLDVALUE": "1", "NEWVALUE": "0", "OURVALUE": "1", "PRIORITY": "4",
				"NFGUARD_DURATION_USEC": map[string]string{"enforce": "0"}[tt.mode],
			} {
				if r[field] != want {
					t.Errorf("%s is %q, want %q", field, r[field], want)
				}
			}
			n.set("1", "1", "1") // everybody can write the right value
			if v := n.check(); len(v.Findings) > 0 && strings.Contains(v.Findings[0].Subject, "lock") {
				t.Errorf("the lock is said not to be in force: %+v", v.Findings[0])
			}
		})
	}
}

// needRewrite skips the test if the daemon has found that this kernel drops what a
// program puts in place of a value.
func (n *node) needRewrite(yes bool) {
	n.t.Helper()
	if !yes {
		return
	}
	out, _ := n.nfguard("status", "-o", "json").Output() // degraded or not
	if !strings.Contains(string(out), "BPF cgroup/sysctl") {
		n.t.Fatalf("the hook is missing: %s", out)
	}
	if strings.Contains(string(out), "rewrites nothing") {
		n.t.Skip("this kernel drops what a program puts in place of a value")
	}
}

// TestEnforceStoresOtherLengths: only a text of the same length is rewritten; any
// other is stored and put right, and no writer is refused.
func TestEnforceStoresOtherLengths(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	n.needRewrite(true)
	for i, text := range []string{"0x0", "0 1", "\t0\n"} {
		n.Run(t, "sh", "-c", `printf "$1" >`+keyFile("iptables")+" || true", "sh", text) // 0 1 is a short write
		n.becomes("1 1 1", atMost)
		seen := map[string]bool{}
		n.recorded(text, func(r map[string]string) bool {
			if r["NFGUARD_EVENT"] == "drift" && r["NFGUARD_OUTCOME"] == "corrected" && r["OBJECT_COMM"] == "sh" {
				seen[r["OBJECT_PID"]] = true
			}
			return len(seen) > i
		})
	}
}

// TestLockEndsWithItsOwner: if the lock outlived the daemon, it would lock people out.
func TestLockEndsWithItsOwner(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "mode = \"lock\"\n")
	n.start()
	n.awaitReady()
	if err := n.Command("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0").Run(); code(err) != 1 {
		t.Fatalf("it is not locked: exit %d", code(err))
	}
	_ = n.cmd.Process.Signal(syscall.SIGKILL)
	<-n.ended
	n.cmd = nil
	n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	if got := n.values(); got != "0 1 1" {
		t.Errorf("the keys are %s", got)
	}
}

// TestLockByReload: the mode is changed while the daemon runs.
func TestLockByReload(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	text, err := os.ReadFile(n.file("nfguard.toml"))
	if err != nil {
		t.Fatal(err)
	}
	try := func() int { return code(n.Command("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0").Run()) }
	if got := try(); got != 0 {
		t.Errorf("mode enforce: exit %d", got)
	}
	n.write("nfguard.toml", "mode = \"lock\"\n"+string(text))
	n.recorded("reload", func(r map[string]string) bool { return r["MESSAGE"] == "the configuration was reloaded" })
	if got := try(); got != 1 {
		t.Errorf("mode lock: exit %d", got)
	}
}

// TestLockCannotBe: if the lock is not possible, nfguard enforces and reports an error.
func TestLockCannotBe(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "mode = \"lock\"\n")
	n.withoutBPF = true
	n.start()
	n.awaitReady()
	const sentence = `mode = "lock" is not in force: foreign values are put right and not kept out: BPF: `
	r := n.recorded("why it does not lock", func(r map[string]string) bool { return strings.HasPrefix(r["MESSAGE"], sentence) })
	if r["PRIORITY"] != "3" || r["NFGUARD_NEXT"] == "" {
		t.Errorf("the record: %v", r)
	}
	v := n.check()
	if len(v.Findings) == 0 || !strings.HasPrefix(v.Findings[0].Sentence, sentence) {
		t.Errorf("check finds %+v", v.Findings)
	}
	n.set("0")
	n.becomes("1 1 1", atMost)
	n.stop()
	if v := n.check(); len(v.Findings) == 0 || !strings.Contains(v.Findings[0].Sentence, "nfguard is not running") {
		t.Errorf("without the daemon check finds %+v", v.Findings)
	}
}

// TestM7CgroupIsNotMounted: on a host of cgroup v1 alone the daemon mounts
// version 2 for itself, and locks.
func TestM7CgroupIsNotMounted(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "mode = \"lock\"\n")
	n.withoutCgroup = true
	n.start()
	n.awaitReady()
	if err := n.Command("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0").Run(); code(err) != 1 {
		t.Errorf("it is not locked: exit %d", code(err))
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", n.cmd.Process.Pid))
	if err != nil || strings.Contains(string(mounts), "cgroup2") {
		t.Errorf("a mount is left: %v\n%s", err, mounts)
	}
}

// TestStormAgainstTheLock: a million refusals make a handful of records that count all
// of them, and no read ever sees the 0.
func TestStormAgainstTheLock(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	const writes = 1_000_000
	n := newNode(t, "mode = \"lock\"\n")
	n.start()
	n.awaitReady()
	stop, read := make(chan struct{}), make(chan int)
	n.Go(func() {
		f, err := os.Open(keyFile("iptables"))
		if err != nil {
			close(read)
			return
		}
		defer f.Close()
		var b [8]byte
		reads := 0
		for {
			select {
			case <-stop:
				read <- reads
				return
			default:
			}
			if _, err := f.ReadAt(b[:1], 0); err != nil || b[0] != '1' {
				t.Errorf("a read found %q, %v", b[:1], err)
			}
			reads++
		}
	})
	n.Do(func() {
		f, err := os.OpenFile(keyFile("iptables"), os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for range writes {
			if _, err := f.WriteAt([]byte("0\n"), 0); err == nil {
				t.Error("a write was not refused")
				return
			}
		}
	})
	close(stop)
	t.Logf("%d reads meanwhile", <-read)
	time.Sleep(2500 * time.Millisecond) // the last ones are counted a second after the storm
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	records, counted := 0, 0
	for _, r := range n.records {
		switch r["NFGUARD_EVENT"] {
		case "denied":
			records++
			counted++
		case "contention":
			records++
		}
		if s, err := strconv.Atoi(r["NFGUARD_SUPPRESSED"]); err == nil {
			counted += s
		}
	}
	t.Logf("%d records stand for %d refusals", records, counted)
	if records > 15 || counted != writes {
		t.Errorf("%d records stand for %d refusals, want at most 15 for %d", records, counted, writes)
	}
}

// TestStormOfStoredWritesHasItsWriter: of writes that come faster than they are told
// of one by one, none is nobody's, and a value that others write again and again is
// not one that the kernel does not keep.
func TestStormOfStoredWritesHasItsWriter(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "")
	n.start()
	n.awaitReady()
	n.needRewrite(true)
	const script = `import os, time
fd = os.open("/proc/sys/net/bridge/bridge-nf-call-iptables", os.O_WRONLY)
end = time.monotonic() + 3
while time.monotonic() < end:
    os.pwrite(fd, b"0x0\n", 0)`
	n.Run(t, "python3", "-c", script)
	n.becomes("1 1 1", atMost)
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	drifts := 0
	for _, r := range n.records {
		switch r["NFGUARD_EVENT"] {
		case "drift":
			if r["NFGUARD_SOURCE"] == "start" {
				continue
			}
			drifts++
			if r["NFGUARD_OUTCOME"] == "failed" || r["OBJECT_COMM"] != "python3" {
				t.Errorf("%s, by %q: %s", r["NFGUARD_OUTCOME"], r["OBJECT_COMM"], r["MESSAGE"])
			}
		case "contention":
			if r["OBJECT_COMM"] != "python3" {
				t.Errorf("a fight with %q: %s", r["OBJECT_COMM"], r["MESSAGE"])
			}
		}
	}
	if drifts == 0 {
		t.Error("no drift is on record")
	}
}
