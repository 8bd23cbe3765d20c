package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/test/lab"
)

// TestJournald has the host's own systemd-journald take, keep and find the
// records, in a mount namespace where /run, /var and the catalog are empty.
func TestJournald(t *testing.T) {
	j := startJournald(t)
	w := Open(Options{Socket: j.file("run/systemd/journal/socket"), Synchronize: func(ctx context.Context) error {
		return synchronize(ctx, j.file("run/systemd/journal/io.systemd.journal"))
	}, Sync: true, Fallback: new(buffer)})
	synced := make(chan error, 10)
	call := w.syncer.call
	w.syncer.call = func(ctx context.Context) error {
		err := call(ctx)
		synced <- err
		return err
	}
	start(t, w)

	event := drift()
	event.Time = time.Now()
	event.Writer.PID = endedProcess(t)
	w.Record(event)
	if err := <-synced; err != nil {
		t.Fatalf("Synchronize: %v", err)
	}

	t.Run("drift, synchronized", func(t *testing.T) {
		entries := j.entries(t, "NFGUARD_EVENT=drift")
		if len(entries) != 1 {
			t.Fatalf("want one entry, got %v", entries)
		}
		for _, f := range Fields(event) {
			if diff := cmp.Diff(any(f.Value), entries[0][f.Name]); diff != "" {
				t.Errorf("%s: %s", f.Name, diff)
			}
		}
	})
	for _, match := range []string{
		fmt.Sprint("OBJECT_PID=", event.Writer.PID),
		"OBJECT_SYSTEMD_UNIT=tuned.service",
		"SYSCTL=/proc/sys/net/bridge/bridge-nf-call-iptables",
		"SYSLOG_IDENTIFIER=nfguard",
		"MESSAGE_ID=" + messageID(record.KindDrift),
	} {
		t.Run("found by "+match, func(t *testing.T) {
			if n := len(j.entries(t, match)); n != 1 {
				t.Errorf("want one entry, got %d", n)
			}
		})
	}
	t.Run("large", func(t *testing.T) {
		large := numbered(1)
		large.Kind = record.KindDropin
		large.Err = errors.New(strings.Repeat("a long story\n", 1<<16))
		w.Record(large)
		got := j.wait(t, "NFGUARD_EVENT=dropin")
		if got[FieldError] != large.Err.Error() {
			t.Errorf("the long story is not kept: %.80v", got[FieldError])
		}
	})
	t.Run("names that hide", func(t *testing.T) {
		for comm, shown := range map[string]string{"\x01": `\x01`, "\xff": `\xff`, "\x1b]0;x\a": `\x1b]0;x\a`, "two\nlines": `two\nlines`} {
			e := drift()
			e.Kind, e.Subject = record.KindModule, "m"
			e.Writer.PID, e.Writer.Comm = endedProcess(t), comm
			e.Message = "m was absent (written by " + comm + "[812])"
			w.Record(e)
			j.wait(t, fmt.Sprint("OBJECT_PID=", e.Writer.PID))
			out := j.run(t, "journalctl", "-o", "cat", "--no-pager", fmt.Sprint("OBJECT_PID=", e.Writer.PID))
			if want := "m was absent (written by " + shown + "[812])\n"; out != want {
				t.Errorf("%q: journalctl shows %q, want %q", comm, out, want)
			}
		}
	})
	t.Run("a line of the log", func(t *testing.T) {
		slog.New(w.Handler(nil)).Warn("source lost", "source", "link")
		got := j.wait(t, "NFGUARD_LOG_SOURCE=link")
		if got[FieldMessage] != "source lost source=link" || got[FieldPriority] != "4" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("a writer that still runs", func(t *testing.T) {
		// The reason for the warning at FieldObjectPID.
		e := drift()
		e.Kind = record.KindContention
		e.Writer = record.Process{PID: os.Getpid(), Comm: "ours"}
		w.Record(e)
		got := j.wait(t, "NFGUARD_EVENT=contention")
		comms, ok := got[FieldObjectComm].([]any)
		if !ok || len(comms) != 2 || comms[0] != "ours" {
			t.Errorf("want our OBJECT_COMM before journald's own, got %v", got[FieldObjectComm])
		}
		if got["OBJECT_CMDLINE"] == nil {
			t.Error("journald no longer adds OBJECT_CMDLINE: correct the comment")
		}
	})
	t.Run("explained by the catalog", func(t *testing.T) {
		installCatalog(t, j.file("usr/lib/systemd/catalog"))
		j.run(t, "journalctl", "--update-catalog")
		out := j.run(t, "journalctl", "-x", "--no-pager", "NFGUARD_EVENT=drift")
		for _, want := range []string{
			"Subject: Guarded setting net.bridge.bridge-nf-call-iptables had a foreign value",
			"net.bridge.bridge-nf-call-iptables was not 1, the value that",
			"Outcome: reverted.",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("want %q in:\n%s", want, out)
			}
		}
	})
}

// realJournald is a systemd-journald in a mount namespace of its own.
type realJournald struct{ pid int }

func startJournald(t *testing.T) realJournald {
	lab.Need(t, lab.Root)
	// Audit= leaves the kernel's auditing as it is.
	const script = `set -e
		for dir in /run /var/log /var/lib/systemd/catalog /usr/lib/systemd/catalog; do mount -t tmpfs tmpfs $dir; done
		mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d
		printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nAudit=\nReadKMsg=no\n' >/run/systemd/journald.conf.d/test.conf
		exec "$1"`
	cmd := exec.Command(lab.Tool(t, lab.Root, "unshare"), "--mount", "--propagation", "private",
		"sh", "-c", script, "sh", lab.Tool(t, lab.Root, "systemd-journald"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
	})
	j := realJournald{cmd.Process.Pid}
	for {
		if _, err := os.Stat(j.file("run/systemd/journal/io.systemd.journal")); err == nil {
			return j
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("systemd-journald ended: %v\n%s", err, &out)
		case <-t.Context().Done():
			t.Fatal("systemd-journald made no sockets")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// file names a file as journald sees it.
func (j realJournald) file(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", j.pid), path)
}

// run runs a program where journald runs and returns its output.
func (j realJournald) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("nsenter", slices.Concat([]string{"--mount=" + fmt.Sprintf("/proc/%d/ns/mnt", j.pid), "--"}, args)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// entries returns what journalctl finds.
func (j realJournald) entries(t *testing.T, match string) []map[string]any {
	t.Helper()
	var entries []map[string]any
	d := json.NewDecoder(strings.NewReader(j.run(t, "journalctl", "--quiet", "--all", "--output=json", match)))
	for d.More() {
		var e map[string]any
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// wait waits for the first entry that journalctl finds.
func (j realJournald) wait(t *testing.T, match string) map[string]any {
	t.Helper()
	for range 100 {
		if es := j.entries(t, match); len(es) > 0 {
			return es[0]
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no entry with %s", match)
	return nil
}

// endedProcess returns a pid that nobody has any more.
func endedProcess(t *testing.T) int {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
