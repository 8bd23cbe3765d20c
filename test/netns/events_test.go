package netns_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// withJournal runs nfguard with its own systemd-journald, in a mount namespace in which
// /run and /var/log are empty.
func (n *node) withJournal() {
	n.t.Helper()
	// Audit= leaves the kernel's auditing as it is.
	const script = `set -e
		mount -t tmpfs tmpfs /run
		mount -t tmpfs tmpfs /var/log
		mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d
		printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nAudit=\nReadKMsg=no\n' >/run/systemd/journald.conf.d/test.conf
		exec "$1"`
	journald := exec.Command(lab.Tool(n.t, lab.Root, "unshare"), "--mount", "--propagation", "private",
		"sh", "-c", script, "sh", lab.Tool(n.t, lab.Root, "systemd-journald"))
	if err := journald.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		journald.Process.Kill()
		journald.Wait()
	})
	mounts := fmt.Sprintf("/proc/%d", journald.Process.Pid)
	for end := time.Now().Add(atMost); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(filepath.Join(mounts, "root/run/systemd/journal/io.systemd.journal"))
		if err == nil {
			break
		}
		if time.Now().After(end) {
			n.t.Fatalf("systemd-journald does not listen: %v", err)
		}
	}
	n.command = func(args ...string) *exec.Cmd {
		cmd := n.nfguard(args...)
		in := n.Command("nsenter", append([]string{"--mount=" + mounts + "/ns/mnt", "--"}, cmd.Args...)...)
		in.Env = cmd.Env
		return in
	}
}

// events runs nfguard events until its output is as wanted.
func (n *node) events(want func(out string) bool, args ...string) (out string) {
	n.t.Helper()
	for end := time.Now().Add(atMost); ; time.Sleep(50 * time.Millisecond) {
		cmd := n.command(append([]string{"events"}, args...)...)
		text, err := cmd.Output()
		if err == nil && want(string(text)) {
			return string(text)
		}
		if time.Now().After(end) {
			n.t.Fatalf("nfguard events %v: %v\n%s", args, err, text)
		}
	}
}

// TestEvents: a real program changes a key, once and in a fight; the real daemon records
// that in a real journal, and events reads it back.
func TestEvents(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	lab.Tool(t, lab.Root, "journalctl")
	sysctl := lab.Tool(t, lab.Root, "sysctl")
	n := newNode(t, "[contention]\nlimit = 5\nwindow = \"1s\"\n")
	n.withJournal()
	n.start()
	n.awaitReady()

	write := func(key string) {
		n.Run(t, sysctl, "-qw", "net.bridge.bridge-nf-call-"+key+"=0")
		n.becomes("1 1 1", atMost)
	}
	write("arptables")
	n.events(func(out string) bool {
		return strings.Contains(out, "  sysctl[") || strings.Contains(out, "  process[")
	})
	for range 12 {
		write("iptables")
	}
	text := n.events(func(out string) bool { return strings.Contains(out, "fight        over") })
	for _, want := range []string{
		"start        observed   started (",
		"drift        corrected  net.bridge.bridge-nf-call-arptables  0 → 1 ",
		"fight        over       net.bridge.bridge-nf-call-iptables   13 times in ", // including the one at the start
		"\nBY CULPRIT",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}

	n.stop()
	var doc struct {
		Events []struct {
			Event   string `json:"event"`
			Outcome string `json:"outcome"`
			Subject string `json:"subject"`
			Source  string `json:"source"`
			Object  struct {
				Comm string `json:"comm"`
			} `json:"object"`
			RecordedBy struct {
				Comm string `json:"comm"`
				UID  string `json:"uid"`
			} `json:"recorded_by"`
		} `json:"events"`
		Totals struct {
			Changes   int `json:"changes"`
			Corrected int `json:"corrected"`
			Hosts     []struct {
				On bool `json:"on_guard"`
			} `json:"hosts"`
		} `json:"totals"`
	}
	out := n.events(func(out string) bool { return strings.Contains(out, `"event":"stop"`) }, "-o", "json")
	lab.Schema(t, "events", []byte(out))
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, e := range doc.Events {
		if e.RecordedBy.Comm != "nfguard" || e.RecordedBy.UID != "0" {
			t.Errorf("%s was recorded by %+v", e.Event, e.RecordedBy)
		}
		if e.Event == "drift" && e.Source == "sysctl" && (e.Outcome == "corrected" || e.Outcome == "rewritten") && e.Object.Comm == "sysctl" {
			named++
		}
	}
	// Three keys and two files were found at the start, one key was written once,
	// one twelve times; the daemon's own count is the same.
	if !strings.Contains(out, "; 18 corrected, 0 attempts failed") {
		t.Errorf("the daemon has corrected another number than 18\n%s", out)
	}
	if tot := doc.Totals; tot.Changes != 18 || tot.Corrected != 18 || len(tot.Hosts) != 1 || tot.Hosts[0].On {
		t.Errorf("totals: %+v\n%s", tot, out)
	}
	if named < 3 { // of a process that runs for less than a millisecond, only the PID may be known
		t.Errorf("sysctl is named in %d drifts only\n%s", named, out)
	}

	// The next daemon goes on with the chain of the last one.
	if err := os.Remove(n.file("notify")); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.awaitReady()
	n.stop()
	var verified struct {
		Complete bool `json:"complete"`
		Records  int  `json:"records"`
		Unlinked int  `json:"unlinked"`
		Chains   []struct {
			First int `json:"first"`
			Last  int `json:"last"`
		} `json:"chains"`
	}
	out = n.events(func(out string) bool {
		err := json.Unmarshal([]byte(out), &verified)
		return err == nil && verified.Records > len(doc.Events)+1 // with the start and the stop
	}, "--verify", "-o", "json")
	lab.Schema(t, "events-verify", []byte(out))
	if v := verified; !v.Complete || v.Unlinked != 0 || len(v.Chains) != 1 || v.Chains[0].First != 1 || v.Chains[0].Last != v.Records {
		t.Errorf("the record is complete, and it says\n%s", out)
	}
}
