package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// usage are the resources that a process uses.
type usage struct {
	rss, files, threads int // rss in KiB
}

func (u usage) String() string {
	return fmt.Sprintf("%d KiB, %d files, %d threads", u.rss, u.files, u.threads)
}

func used(pid int) (u usage, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "VmRSS":
			u.rss, err = strconv.Atoi(strings.Fields(value)[0])
		case "Threads":
			u.threads, err = strconv.Atoi(strings.TrimSpace(value))
		}
		if err != nil {
			return u, err
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.files = len(files)
	return u, err
}

// judge waits until the host is right, now that the trouble has stopped, and returns what
// is wrong.
func (w *worker) judge(ctx context.Context, early usage) []string {
	faults := slices.Clone(w.odd)
	err := w.in.Do(func() error {
		_ = os.Remove("/run/full")
		for _, path := range []string{sysctlD, modules} { // a link in its place is left as it is
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
		return errors.Join(os.MkdirAll("/run/conf.d", 0o755), os.MkdirAll("/run/sysctl.d", 0o755),
			os.MkdirAll("/run/modules-load.d", 0o755), replace(extra, "mode = \"enforce\"\n"))
	})
	if err == nil {
		err = syscall.Kill(w.pid, syscall.SIGHUP)
	}
	if err != nil {
		return append(faults, "the daemon has ended, or its configuration cannot be written: "+err.Error())
	}
	w.do(func() error {
		if text, err := os.ReadFile("/run/decoy"); err != nil || string(text) != untouched {
			faults = append(faults, fmt.Sprintf("it wrote through a link: %q, %v", text, err))
		}
		return nil
	})
	var out string
	for deadline := time.Now().Add(2 * time.Minute); ; pause(ctx, time.Second) {
		var failed error
		if out, failed = w.in.Run(ctx, "", w.nfguard, "check", "--config", box.Config); failed == nil {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			faults = append(faults, fmt.Sprintf("two minutes after the last trouble the host is not right: %v\n%s", failed, out))
			break
		}
	}
	// The fights are not over yet, so status says degraded: exit code 1.
	var exit *exec.ExitError
	if out, failed := w.in.Run(ctx, "", w.nfguard, "status", "--config", box.Config); failed != nil && (!errors.As(failed, &exit) || exit.ExitCode() != 1) {
		faults = append(faults, fmt.Sprintf("nfguard status: %v\n%s", failed, out))
	}
	late, err := used(w.pid)
	if err != nil {
		return append(faults, "the daemon has ended: "+err.Error())
	}
	fmt.Fprintf(os.Stderr, "soak: after a quarter of the time: %v; in the end: %v\n", early, late)
	if late.files > early.files+16 {
		faults = append(faults, fmt.Sprintf("it has %d files open, and had %d", late.files, early.files))
	}
	if late.threads > early.threads+16 {
		faults = append(faults, fmt.Sprintf("it has %d threads, and had %d", late.threads, early.threads))
	}
	if late.rss > early.rss*3/2+32<<10 {
		faults = append(faults, fmt.Sprintf("it has %d KiB, and had %d", late.rss, early.rss))
	}
	return faults
}

// judgeLog returns what the daemon has written to stderr that is neither a record nor a
// log line.
func judgeLog(path string) (faults []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	records := 0
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		switch {
		case json.Valid(line):
			records++
			continue
		case bytes.HasPrefix(line, []byte("time=")): // a line of its log
			continue
		}
		faults = append(faults, "on stderr: "+string(line))
		if len(faults) == 60 { // a race or a panic has its report at the beginning
			break
		}
	}
	fmt.Fprintf(os.Stderr, "soak: %d records in %d KiB\n", records, len(text)>>10)
	if records == 0 {
		faults = append(faults, "there is not one record")
	}
	return faults, nil
}
