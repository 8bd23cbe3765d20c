package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/cli"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/test/lab"
)

// worker is a host whose journal is exported.
type worker struct {
	name, machine, boot string
	export              strings.Builder
	n                   int
}

var epoch = time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)

// record adds an entry by uid, with the fields that journald adds.
func (w *worker) record(sec int, uid string, e record.Event, added ...journal.Field) {
	w.n++
	e.Time = epoch.Add(time.Duration(sec) * time.Second)
	fmt.Fprintf(&w.export, "__CURSOR=s=%s;i=%x\n__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n",
		w.boot, w.n, e.Time.UnixMicro(), sec*1e6+w.n, w.boot)
	fields := append(journal.Fields(e), added...)
	fields = append(fields, journal.Field{Name: "_UID", Value: uid}, journal.Field{Name: "_COMM", Value: "nfguard"}, journal.Field{Name: "_PID", Value: "399"},
		journal.Field{Name: "_HOSTNAME", Value: w.name}, journal.Field{Name: "_MACHINE_ID", Value: w.machine}, journal.Field{Name: "_TRANSPORT", Value: "journal"})
	for _, f := range fields {
		fmt.Fprintf(&w.export, "%s=%s\n", f.Name, f.Value)
	}
	w.export.WriteByte('\n')
}

func drift(comm string, pid int) record.Event {
	return record.Event{
		Kind: record.KindDrift, Outcome: record.Corrected, Subject: string(guard.IPTables), Want: "1", Have: "0", Now: "1",
		Message:  fmt.Sprintf("it was 0, set back to 1 (written by %s[%d])", comm, pid),
		Duration: time.Millisecond, Source: "sysctl", Writer: record.Process{PID: pid, Comm: comm},
	}
}

// receiver is a systemd-journal-remote that listens on the loopback device and stores
// what it receives in a directory.
type receiver struct {
	dir, address string
	cmd          *exec.Cmd
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{dir: t.TempDir(), address: l.Addr().String()}
	l.Close()
	r.cmd = exec.Command(lab.Tool(t, lab.Root, "systemd-journal-remote"), "--listen-http="+r.address, "--output="+r.dir, "--split-mode=host")
	var said bytes.Buffer
	r.cmd.Stderr = &said
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Logf("systemd-journal-remote: %s", &said)
		}
	})
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", r.address); err == nil {
			c.Close()
			return r
		}
	}
	t.Fatalf("systemd-journal-remote does not listen: %s", &said)
	return nil
}

// upload sends an export as systemd-journal-upload does.
func (r *receiver) upload(t *testing.T, export string) {
	t.Helper()
	resp, err := http.Post("http://"+r.address+"/upload", "application/vnd.fdo.journal", strings.NewReader(export))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("upload: %s: %s", resp.Status, text)
	}
}

// run runs a command and returns its exit code and output.
func run(t *testing.T, args ...string) (code int, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Main(t.Context(), args, cli.Streams{Out: &o, Err: &e}, nil)
	return code, o.String(), e.String()
}

// makeFile has systemd turn an export into a journal file.
func makeFile(t *testing.T, file, export string) {
	t.Helper()
	cmd := exec.Command(lab.Tool(t, lab.Root, "systemd-journal-remote"), "--output="+file, "-")
	cmd.Stdin = strings.NewReader(export)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("systemd-journal-remote: %v\n%s", err, out)
	}
}

type seen struct {
	Host    string `json:"hostname"`
	Machine string `json:"machine_id"`
	Event   string `json:"event"`
	Object  struct {
		Comm string `json:"comm"`
	} `json:"object"`
}

// TestEventsOfManyHosts has the journals of two hosts received by the real
// systemd-journal-remote, over HTTP, and read by the real journalctl.
func TestEventsOfManyHosts(t *testing.T) {
	lab.Tool(t, lab.Root, "journalctl")
	one := &worker{name: "worker-1", machine: strings.Repeat("a1", 16), boot: strings.Repeat("b1", 16)}
	two := &worker{name: "worker-2", machine: strings.Repeat("a2", 16), boot: strings.Repeat("b2", 16)}
	// journald found another name of the process, which is in the file before ours,
	// so journalctl prints it first.
	one.record(0, "0", drift("python3", 1))
	one.record(60, "0", drift("tuned", 812), journal.Field{Name: "OBJECT_COMM", Value: "python3"})
	one.record(70, "1000", drift("mallory", 666))
	two.record(30, "0", drift("sysctl", 4711))

	r := startReceiver(t)
	r.upload(t, one.export.String())
	r.upload(t, two.export.String())
	saw := func(w *worker, comm string) seen {
		s := seen{Host: w.name, Machine: w.machine, Event: "drift"}
		s.Object.Comm = comm
		return s
	}
	// Within a file the order is that of arrival; files are read in the order
	// of time.
	arrived := []seen{saw(one, "python3"), saw(one, "tuned"), saw(two, "sysctl")}
	happened := []seen{arrived[0], arrived[2], arrived[1]}
	received, err := filepath.Glob(r.dir + "/*.journal")
	if err != nil || len(received) != 1 {
		t.Fatalf("want one file, because both come from one address: %v, %v", received, err)
	}
	files := t.TempDir()
	makeFile(t, filepath.Join(files, "remote-1.journal"), one.export.String())
	makeFile(t, filepath.Join(files, "remote-2.journal"), two.export.String())
	for _, tt := range []struct {
		name   string
		places []string
		want   []seen
	}{
		{"a directory", []string{r.dir}, arrived},
		{"a file", received, arrived},
		{"a directory of two files", []string{files}, happened},
		{"two files", []string{files + "/remote-1.journal", files + "/remote-2.journal"}, happened},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"events", "-o", "json"}
			for _, p := range tt.places {
				args = append(args, "--journal", p)
			}
			code, out, talk := run(t, args...)
			if code != 0 || !strings.Contains(talk, "1 entry that claims to be nfguard's is left out: not written by root; the last one by nfguard[399] with uid 1000 on worker-1") {
				t.Errorf("exit %d, %s", code, talk)
			}
			var doc struct {
				Schema int    `json:"schema"`
				Events []seen `json:"events"`
				Totals struct {
					Complete bool `json:"complete"`
					Ignored  int  `json:"ignored"`
					Changes  int  `json:"changes"`
					Hosts    []struct {
						Host    string `json:"hostname"`
						Changes int    `json:"changes"`
					} `json:"hosts"`
				} `json:"totals"`
			}
			if err := json.Unmarshal([]byte(out), &doc); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, doc.Events); diff != "" {
				t.Error(diff)
			}
			if tot := doc.Totals; doc.Schema != 1 || !tot.Complete || tot.Ignored != 1 || tot.Changes != 3 || len(tot.Hosts) != 2 || tot.Hosts[0].Changes != 2 {
				t.Errorf("schema %d, totals %+v", doc.Schema, tot)
			}
		})
	}
	t.Run("matches of journalctl and of ours agree", func(t *testing.T) {
		code, out, _ := run(t, "events", "--journal", r.dir, "--event", "stop,drift", "--outcome", "corrected", "--since", "2026-11-23T04:00:30Z", "--totals")
		if code != 0 || !strings.HasPrefix(out, "2 events, 2 changes") {
			t.Errorf("exit %d, %s", code, out)
		}
		code, out, _ = run(t, "events", "--journal", r.dir, "--event", "denied")
		if code != 0 || out != "nothing is on record; asked for: event denied\n" {
			t.Errorf("exit %d, %s", code, out)
		}
	})
}

// TestEventsInterrupted: the output has what was read until then, and says that it is
// not everything.
func TestEventsInterrupted(t *testing.T) {
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	defer pw.Close()
	w := &worker{name: "worker-1", machine: "a1", boot: "b1"}
	w.record(0, "0", drift("tuned", 812))
	if _, err := io.WriteString(pw, w.export.String()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer cancel()
		for ; t.Context().Err() == nil; time.Sleep(time.Millisecond) {
			if left, err := unix.IoctlGetInt(int(pr.Fd()), unix.TIOCINQ); left == 0 || err != nil {
				return
			}
		}
	}()
	defer func() { <-read }()
	var o, e bytes.Buffer
	code := cli.Main(ctx, []string{"events", "--journal", fmt.Sprintf("/proc/self/fd/%d", pr.Fd())}, cli.Streams{Out: &o, Err: &e}, nil)
	talk := "nfguard: error: interrupted: not everything was read\nnfguard: hint: ask for less: --since, --event, --subject\n"
	if code != 2 || !strings.Contains(o.String(), "1 event, 1 change: 1 put right") || e.String() != talk {
		t.Errorf("exit %d\n%s\n%s", code, &o, &e)
	}
}

// TestEventsFullDisk: a write error is reported once, in any format.
func TestEventsFullDisk(t *testing.T) {
	w := &worker{name: "worker-1", machine: "a1", boot: "b1"}
	w.record(0, "0", drift("tuned", 812))
	export := filepath.Join(t.TempDir(), "export")
	if err := os.WriteFile(export, []byte(w.export.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"text", "json", "html"} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var e bytes.Buffer
		code := cli.Main(t.Context(), []string{"events", "--journal", export, "-o", form}, cli.Streams{Out: full, Err: &e}, nil)
		full.Close()
		if want := "nfguard: error: write /dev/full: no space left on device\n"; code != 2 || e.String() != want {
			t.Errorf("%s: want exit 2 and %q, got %d and %q", form, want, code, &e)
		}
	}
}

// TestEventsFollowed: a record that arrives later is printed, and the command ends when
// it is told to.
func TestEventsFollowed(t *testing.T) {
	lab.Tool(t, lab.Root, "journalctl")
	dir := t.TempDir()
	file := filepath.Join(dir, "remote-test.journal")
	cmd := exec.Command(lab.Tool(t, lab.Root, "systemd-journal-remote"), "--output="+file, "-")
	entries, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		entries.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	w := &worker{name: "worker-1", machine: strings.Repeat("a1", 16), boot: strings.Repeat("b1", 16)}
	add := func(comm string) {
		w.export.Reset()
		w.record(int(time.Since(epoch).Seconds()), "0", drift(comm, 5))
		if _, err := io.WriteString(entries, w.export.String()); err != nil {
			t.Fatal(err)
		}
	}
	add("early")
	for n := 0; n == 0; time.Sleep(20 * time.Millisecond) { // until it is in the file
		_, out, _ := run(t, "events", "--journal", dir, "-o", "json")
		n = strings.Count(out, `"early"`)
	}

	t.Run("until journalctl ends", func(t *testing.T) {
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte("#!/bin/sh\nprintf '_UID=0\\nNFGUARD_EVENT=drift\\nNFGUARD_SUBJECT=a\\n\\n'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin)
		code, out, talk := run(t, "events", "--journal", dir, "--follow", "-o", "json")
		want := "nfguard: error: journalctl ended, so no more events follow\nnfguard: hint: start again with --since now, or with the time of the last event\n"
		if code != 2 || strings.Count(out, `"subject":"a"`) != 1 || talk != want {
			t.Errorf("exit %d\n%s\n%s", code, out, talk)
		}
	})
	t.Run("until nobody reads it any more", func(t *testing.T) {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pw.Close()
		go func() { // it goes when it has read what there is
			defer pr.Close()
			for b, n := make([]byte, 4096), 0; !strings.Contains(string(b[:n]), "early") || b[n-1] != '\n'; {
				m, err := pr.Read(b[n:])
				if err != nil {
					t.Errorf("%v after %q", err, b[:n])
					return
				}
				n += m
			}
		}()
		if code := cli.Main(t.Context(), []string{"events", "--journal", dir, "--follow"}, cli.Streams{Out: pw, Err: io.Discard}, nil); code != 0 {
			t.Errorf("exit %d", code)
		}
	})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pr, pw := io.Pipe()
	var talk bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(ctx, []string{"events", "--journal", dir, "--follow", "-o", "json"}, cli.Streams{Out: pw, Err: &talk}, nil)
		pw.Close()
	}()
	lines := bufio.NewScanner(pr)
	next := func() (line struct {
		Schema int `json:"schema"`
		seen
	},
	) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("it ended: %v, %s", lines.Err(), &talk)
		}
		lab.Schema(t, "events-follow", lines.Bytes())
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		return line
	}
	for _, comm := range []string{"early", "late"} {
		if got := next(); got.Schema != 1 || got.Object.Comm != comm || got.Host != "worker-1" {
			t.Errorf("want %s, got %+v", comm, got)
		}
		if comm == "early" {
			add("late")
		}
	}
	cancel()
	for lines.Scan() {
		t.Errorf("it goes on: %s", lines.Text())
	}
	if got := <-code; got != 0 || talk.Len() > 0 {
		t.Errorf("exit %d, %s", got, &talk)
	}
}
