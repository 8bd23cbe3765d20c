package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/helper"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/source/exec"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// How long the helper waits for the next request: a drift has the journal
// written to disk for two seconds.
const helperIdle = 5 * time.Second

// Helper serves the requests that come in on the socket of nfguard-helper.socket,
// until none has come for a while or ctx is cancelled.
func Helper(ctx context.Context, o Options) error {
	socket, err := passedSocket()
	if err != nil {
		return err
	}
	work := &helping{config: o.Config, host: host.New(host.Options{}), left: leftBehind}
	return helper.Serve(ctx, socket, helper.Options{
		Work: work.do, Busy: work.busy, Idle: helperIdle,
		Refused: func(err error) { fmt.Fprintf(o.Err, "nfguard: refused: %v\n", err) },
	})
}

// passedSocket is the one that systemd passes: see sd_listen_fds(3).
func passedSocket() (*os.File, error) {
	const first = 3
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return nil, &hintError{errors.New("it has no socket to serve"), "systemctl start nfguard-helper.socket; nothing else starts it"}
	}
	unix.CloseOnExec(first)
	if err := unix.SetNonblock(first, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(first, "nfguard-helper.socket"), nil
}

// helping is what the helper does. All of it is decided by root's configuration,
// which is read again for each request.
type helping struct {
	config string
	host   *host.Linux

	left func() (pid int) // a modprobe of a helper before this one; 0: there is none

	mu sync.Mutex // held while the module is loaded
}

// leftBehind looks for a modprobe that a former helper has left behind in the
// control group of the unit: in the kernel it could not be killed.
func leftBehind() (pid int) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0
	}
	for _, name := range names {
		if comm, err := os.ReadFile(name); err != nil || string(comm) != "modprobe\n" {
			continue
		}
		dir := filepath.Dir(name)
		if group, err := os.ReadFile(dir + "/cgroup"); err != nil || !bytes.Equal(group, own) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			return pid
		}
	}
	return 0
}

func (h *helping) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.host.Hung()
}

func (h *helping) do(ctx context.Context, r helper.Request) (facts any, files []*os.File, err error) {
	if r == helper.SyncJournal {
		return nil, nil, journal.Synchronize(ctx)
	}
	c, err := load(h.config)
	if err != nil {
		return nil, nil, &hintError{fmt.Errorf("the configuration is wrong: %w", err), "nfguard config check tells all that is"}
	}
	s := Settings(c)
	switch r {
	case helper.LoadModule, helper.WriteModules, helper.WriteSysctls:
		if s.Policy.Mode == guard.Observe {
			return nil, nil, &hintError{errors.New(`with mode = "observe" nothing is changed`), `set mode = "enforce"`}
		}
		if r == helper.LoadModule {
			return nil, nil, h.load(ctx, &s.Policy)
		}
		return nil, nil, h.write(ctx, &s.Policy, r == helper.WriteModules)
	case helper.LoadHook:
		return sent(hook.Load(hook.Options{Keys: hookKeys(s)}))
	case helper.LoadExecHook:
		return sent(hook.LoadExec(exec.Names(s.Policy.Programs)))
	case helper.SyncJournal:
	}
	return nil, nil, fmt.Errorf("%s: no such request", r)
}

// sent is a loaded program as the helper hands it over.
func sent(l *hook.Loaded, err error) (any, []*os.File, error) {
	switch {
	case errors.Is(err, hook.ErrNotSupported), errors.Is(err, unix.EPERM):
		return nil, nil, unsupportedError{err}
	case err != nil:
		return nil, nil, err
	}
	return l.Facts, l.Files, nil
}

// unsupportedError is an error that will be the same another time.
type unsupportedError struct{ error }

func (e unsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }
func (e unsupportedError) Unwrap() error        { return e.error }

func (h *helping) load(ctx context.Context, p *guard.Policy) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pid := h.left(); pid != 0 && !h.host.Hung() {
		return &hintError{
			fmt.Errorf("load %s: modprobe[%d] still hangs in the kernel", p.Module, pid),
			fmt.Sprintf("see what it waits for: cat /proc/%d/stack; a reboot ends it", pid),
		}
	}
	return h.host.Do(ctx, guard.Action{Op: guard.LoadModule, Subject: p.Module, Force: p.Override})
}

// write writes one drop-in, if it is not as it should be. The other one is written
// when the daemon has seen that it is wrong: otherwise there would be no record.
func (h *helping) write(ctx context.Context, p *guard.Policy, modules bool) error {
	dropins := *p
	dropins.Bridges = nil // no drop-in depends on what bridges carry
	if modules {
		dropins.SysctlD = ""
	} else {
		dropins.ModulesLoad = ""
	}
	seen := h.host.Survey(ctx, &dropins, 0)
	var errs []error
	for _, it := range guard.PlanDropins(&dropins, &seen) {
		switch {
		case it.Err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", it.Subject, it.Err))
		case it.Action != nil:
			err := h.host.Do(ctx, *it.Action)
			if errors.Is(err, unix.EROFS) {
				err = &hintError{err, "the disk is writable? then name its directory: systemctl edit nfguard-helper.service, and there ReadWritePaths= under [Service]"}
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
