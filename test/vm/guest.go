package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// Result is how a program in the guest ended.
type Result struct {
	Code           int // the exit code; 128 and the signal's number if one killed it
	Stdout, Stderr string
}

// Run runs a program as root in the guest, and waits for it and for processes that have
// inherited its output: use systemd-run to start something that keeps running. The caller
// has to check the exit code. A program that cannot be started, or that does not end
// within runLimit, fails the test.
func (m *Machine) Run(t testing.TB, name string, args ...string) Result {
	t.Helper()
	return m.run(t, nil, name, args...)
}

// Sh runs a script with sh -eu in the guest and returns its stdout without the last
// newlines, like $(...). If the exit code is not 0, the test fails with all output.
func (m *Machine) Sh(t testing.TB, script string) string {
	t.Helper()
	r := m.Run(t, "sh", "-euc", script)
	if r.Code != 0 {
		t.Fatalf("%s\nexit status %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimRight(r.Stdout, "\n")
}

// Until repeats [Machine.Sh] until the script exits 0. After 30 seconds and 100 tries, it
// fails the test with the last output; both have to pass, because a guest that gets
// little processor time makes few tries per second.
func (m *Machine) Until(t testing.TB, script string) string {
	t.Helper()
	const again = `end=$(($(date +%s) + 30)) tries=100
until out=$(sh -euc "$0" 2>&1); do
	tries=$((tries - 1))
	[ "$(date +%s)" -lt $end ] || [ $tries -gt 0 ] || { echo "in 30s and 100 tries still: $out"; exit 1; }
	sleep 0.1
done
echo "$out"`
	r := m.Run(t, "sh", "-c", again, script)
	if r.Code != 0 {
		t.Fatalf("%s\n%s", script, r.Stdout)
	}
	return strings.TrimRight(r.Stdout, "\n")
}

// Push copies a file of the host to a path in the guest. It creates missing directories,
// and replaces existing files, even running programs.
func (m *Machine) Push(t testing.TB, local, path string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(local)
	if err != nil {
		t.Fatal(err)
	}
	m.Write(t, path, data, mode)
}

// Write is [Machine.Push] of bytes.
func (m *Machine) Write(t testing.TB, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	// install(1) gives the path a new inode.
	r := m.run(t, data, "sh", "-euc", `install -D -m "$0" /dev/stdin "$1"`, fmt.Sprintf("%o", mode.Perm()), path)
	if r.Code != 0 {
		t.Fatalf("write %s: %s", path, r.Stderr)
	}
}

// Read returns a file of the guest. One that cannot be read fails the test.
func (m *Machine) Read(t testing.TB, path string) []byte {
	t.Helper()
	r := m.Run(t, "cat", path)
	if r.Code != 0 {
		t.Fatalf("read: %s", r.Stderr)
	}
	return []byte(r.Stdout)
}

// Journal returns the entries that journalctl finds with args, oldest first
// if args do not ask otherwise. A value is as in journalctl -o json: a string,
// or a []any of numbers (bytes) or of strings (a field given twice).
func (m *Machine) Journal(t testing.TB, args ...string) []map[string]any {
	t.Helper()
	r := m.Run(t, "journalctl", append([]string{"--quiet", "--no-pager", "--all", "--output=json"}, args...)...)
	if r.Code != 0 && r.Stderr != "" { // 1 without a message means that there is no such entry
		t.Fatalf("journalctl %q: exit status %d\n%s", args, r.Code, r.Stderr)
	}
	var entries []map[string]any
	for d := json.NewDecoder(strings.NewReader(r.Stdout)); d.More(); {
		var e map[string]any
		if err := d.Decode(&e); err != nil {
			t.Fatalf("journalctl %q: %v", args, err)
		}
		entries = append(entries, e)
	}
	return entries
}

func (m *Machine) run(t testing.TB, stdin []byte, name string, args ...string) Result {
	t.Helper()
	ctx, cancel := m.qemu.bounded(t.Context(), runLimit)
	defer cancel()
	r, err := m.exec(ctx, stdin, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return r
}

// exec runs a program in the guest until the end of ctx.
func (m *Machine) exec(ctx context.Context, stdin []byte, name string, args ...string) (Result, error) {
	request := struct {
		Path    string   `json:"path"`
		Args    []string `json:"arg,omitempty"`
		Stdin   []byte   `json:"input-data,omitempty"` // absent: /dev/null
		Capture bool     `json:"capture-output"`
	}{name, args, stdin, true}
	var started struct{ PID int }
	if err := m.agent.call(ctx, "guest-exec", request, &started); err != nil {
		return Result{}, err
	}
	// The agent does not report the end by itself. Asking takes processor time in the
	// guest, so a long-running program is asked about less often.
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		var status struct {
			Exited       bool
			Exitcode     int
			Signal       int
			OutData      []byte `json:"out-data"`
			ErrData      []byte `json:"err-data"`
			OutTruncated bool   `json:"out-truncated"`
		}
		if err := m.agent.call(ctx, "guest-exec-status", map[string]any{"pid": started.PID}, &status); err != nil {
			return Result{}, err
		}
		switch {
		case status.OutTruncated:
			return Result{}, errors.New("more output than the guest agent keeps")
		case status.Exited && status.Signal != 0:
			status.Exitcode = 128 + status.Signal
			fallthrough
		case status.Exited:
			return Result{status.Exitcode, string(status.OutData), string(bytes.TrimSpace(status.ErrData))}, nil
		}
		select {
		case <-ctx.Done():
			return Result{}, fmt.Errorf("%w before it ended", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
