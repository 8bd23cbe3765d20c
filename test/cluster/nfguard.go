package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// StartJournal starts the node's own journald.
func (w *Worker) StartJournal(t testing.TB) {
	t.Helper()
	w.Run("sh", "-c", `mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d
		printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nRateLimitBurst=0\nAudit=\nReadKMsg=no\n' >/run/systemd/journald.conf.d/test.conf`)
	w.Start(t, "/lib/systemd/systemd-journald")
	await(t, "journald of "+w.Name, func() string {
		if _, err := os.Stat(w.Path("/run/systemd/journal/io.systemd.journal")); err != nil {
			return err.Error()
		}
		return ""
	})
}

// Guard starts nfguard with a configuration, and returns when it is ready.
func (w *Worker) Guard(t testing.TB, config string) *Process {
	t.Helper()
	w.Run("mkdir", "-p", "/etc/nfguard", "/run/nfguard", "/etc/modules-load.d", "/etc/sysctl.d")
	w.Run("cp", w.file("nfguard.toml", config), "/etc/nfguard/nfguard.toml")
	p := w.start(t, w.nfguard("run"), "nfguard")
	w.recorded(t, time.Time{}, "the start of nfguard", func(r map[string]string) bool {
		select {
		case <-p.ended:
			t.Fatal("nfguard has ended")
		default:
		}
		return r["NFGUARD_EVENT"] == "start" && r["_PID"] == strconv.Itoa(p.PID())
	})
	return p
}

// nfguard returns a command of nfguard on the node.
func (w *Worker) nfguard(args ...string) *exec.Cmd {
	unit := "test.service"
	if args[0] == "run" {
		unit = "nfguard.service"
	}
	// Only at the root of cgroup v2 do BPF programs see all writers.
	cmd := w.onHost(unit, append([]string{filepath.Join(dir, "nfguard")}, args...)...)
	cmd.Env = append(cmd.Env, "RUNTIME_DIRECTORY=/run/nfguard")
	return cmd
}

// Ask runs a command of nfguard, and returns its output and exit code.
func (w *Worker) Ask(args ...string) (string, int) {
	cmd := w.nfguard(args...)
	out, _ := cmd.CombinedOutput() // the exit code tells
	return string(out), cmd.ProcessState.ExitCode()
}

// records returns the matching records that nfguard has written to the journal since a
// time, oldest first.
func (w *Worker) records(since time.Time, match func(map[string]string) bool) (list []map[string]string) {
	out := w.Run("journalctl", "-o", "json", "--no-pager", "-q")
	for line := range strings.Lines(out) {
		var all map[string]any
		if json.Unmarshal([]byte(line), &all) != nil {
			continue
		}
		r := map[string]string{}
		for k, v := range all {
			r[k] = fmt.Sprint(v)
		}
		found, err := time.Parse(time.RFC3339, r["NFGUARD_TIME"])
		if err == nil && found.After(since) && match(r) {
			list = append(list, r)
		}
	}
	return list
}

// recorded waits for a record.
func (w *Worker) recorded(t testing.TB, since time.Time, what string, match func(map[string]string) bool) (r map[string]string) {
	t.Helper()
	await(t, "a record on "+w.Name, func() string {
		list := w.records(since, match)
		if len(list) == 0 {
			return what
		}
		r = list[0]
		return ""
	})
	return r
}

// buildGuard builds nfguard as it is shipped.
func buildGuard(t testing.TB) {
	t.Helper()
	build := exec.Command("go", "build", "-ldflags", lab.Own, "-o", filepath.Join(dir, "nfguard"), "github.com/nfguard/nfguard/cmd/nfguard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nfguard: %v\n%s", err, out)
	}
}
