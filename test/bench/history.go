package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/record"
)

// manyRecords is a drift every six seconds, for a week.
const manyRecords = 100_000

// told is how long nfguard events takes to sum up a long journal, and its peak memory: its
// own, and that of journalctl, which runs at the same time, without the journal's files
// that it maps.
type told struct {
	records int
	took    []time.Duration // in order
	own     int             // KiB, everything that is resident
	child   int             // KiB of journalctl, without the files
	disk    int64           // bytes of the journal
	err     error
}

func (b *bench) history(ctx context.Context) (h told) {
	h.records = manyRecords
	if b.looks < 10 { // -quick
		h.records = 1000
	}
	progress("events: a journal of %d drifts", h.records)
	dir, err := os.MkdirTemp("", "nfguard-bench-")
	if err != nil {
		return told{err: err}
	}
	defer os.RemoveAll(dir)
	if h.err = makeJournal(ctx, dir, h.records); h.err != nil {
		return h
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.journal"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			h.disk += info.Size()
		}
	}
	for range min(b.looks, 10) {
		if h.err = h.tell(ctx, b.nfguard, dir); h.err != nil {
			return h
		}
	}
	slices.Sort(h.took)
	return h
}

// tell runs nfguard events once, and measures its memory meanwhile.
func (h *told) tell(ctx context.Context, nfguard, dir string) error {
	cmd := exec.CommandContext(ctx, nfguard, "events", "--journal", dir, "--totals")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			h.took = append(h.took, time.Since(began))
			if want := strconv.Itoa(h.records) + " events, "; err != nil || !strings.HasPrefix(out.String(), want) {
				return fmt.Errorf("events: want %q: %w\n%s", want, errors.Join(err, errors.New("it said")), &out)
			}
			return nil
		case <-time.After(20 * time.Millisecond):
			h.own = max(h.own, memory(cmd.Process.Pid, "VmHWM:"))
			h.child = max(h.child, memory(child(cmd.Process.Pid), "RssAnon:"))
		}
	}
}

// memory reads a line of /proc/PID/status, in KiB; 0 if the process has ended.
func memory(pid int, name string) int {
	line := firstLine(fmt.Sprintf("/proc/%d/status", pid), name)
	kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(line, name)), " kB"))
	return kib
}

// child returns the first child of a process; 0 if there is none.
func child(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		if f := strings.Fields(string(text)); len(f) > 0 {
			n, _ := strconv.Atoi(f[0])
			return n
		}
	}
	return 0
}

// makeJournal has systemd create the journal, with records like those of a worker.
func makeJournal(ctx context.Context, dir string, records int) error {
	path, err := exec.LookPath("systemd-journal-remote")
	if err != nil {
		path = "/lib/systemd/systemd-journal-remote"
	}
	cmd := exec.CommandContext(ctx, path, "--output="+filepath.Join(dir, "remote-bench.journal"), "-")
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make a journal: %w", err)
	}
	w := bufio.NewWriter(in)
	for i := range records {
		writeDrift(w, i)
	}
	written := errors.Join(w.Flush(), in.Close())
	if err := errors.Join(written, cmd.Wait()); err != nil {
		return fmt.Errorf("make a journal: %w\n%s", err, &said)
	}
	return nil
}

// writeDrift writes a record in export format, with the fields that journald adds.
func writeDrift(w io.Writer, i int) {
	writers := []record.Process{
		{Comm: "tuned", Exe: "/usr/bin/python3.11", Unit: "tuned.service", Cgroup: "/system.slice/tuned.service"},
		{Comm: "sysctl", Exe: "/usr/sbin/sysctl", Unit: "session-3.scope", Cgroup: "/user.slice/user-0.slice/session-3.scope"},
		{Comm: "systemd-sysctl", Exe: "/usr/lib/systemd/systemd-sysctl", Unit: "systemd-sysctl.service", Cgroup: "/system.slice/systemd-sysctl.service"},
	}
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * 6 * time.Second)
	keys := []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables}
	e := record.Event{
		Kind: record.KindDrift, Outcome: record.Corrected, Time: at, Subject: string(keys[i%len(keys)]),
		Want: "1", Old: "1", Have: "0", Now: "1", Duration: time.Duration(20+i%3000) * time.Microsecond, Source: "sysctl", Pass: uint64(i + 1),
		Writer: writers[i/7%len(writers)],
	}
	e.Writer.PID = 300 + i%30000
	e.Message = fmt.Sprintf("%s was 0, set back to 1 after %v (written by %s[%d], %s)", e.Subject, e.Duration, e.Writer.Comm, e.Writer.PID, e.Writer.Unit)
	fmt.Fprintf(w, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=a8d8acd91e7543c3b811f8678c969a83\n", at.UnixMicro(), i*6_000_000+1)
	for _, f := range journal.Fields(e) {
		fmt.Fprintf(w, "%s=%s\n", f.Name, f.Value)
	}
	fmt.Fprint(w, "_TRANSPORT=journal\n_UID=0\n_GID=0\n_PID=399\n_COMM=nfguard\n_EXE=/usr/bin/nfguard\n_CMDLINE=/usr/bin/nfguard run\n"+
		"_CAP_EFFECTIVE=c000201000\n_SELINUX_CONTEXT=unconfined\n_SYSTEMD_CGROUP=/system.slice/nfguard.service\n_SYSTEMD_UNIT=nfguard.service\n"+
		"_SYSTEMD_SLICE=system.slice\n_SYSTEMD_INVOCATION_ID=0e51edd2d3f149a7a43c6e398573908d\n_MACHINE_ID=6e6667756172640000000000000000ab\n"+
		"_HOSTNAME=guard\n_RUNTIME_SCOPE=system\n\n")
}
