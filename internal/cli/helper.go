package cli

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

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/helper"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/source/exec"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// helped reports whether the helper makes the changes for which this process
// lacks the rights. Started by hand, root has them; the unit of the daemon takes
// them away. A tree has no helper: whoever works on it may write to it or not.
func (a *app) helped() bool { return a.root == "" && os.Geteuid() == 0 && !host.MayLoad() }

// helpful is the helper as a host knows it.
type helpful struct{ *helper.Client }

// Do is as [host.Helper] has it.
func (h helpful) Do(ctx context.Context, a guard.Action) error {
	r := helper.WriteSysctls
	switch {
	case a.Op == guard.LoadModule:
		r = helper.LoadModule
	case a.Modules:
		r = helper.WriteModules
	}
	_, err := h.Ask(ctx, r, nil)
	if errors.Is(err, helper.ErrAbsent) {
		return fmt.Errorf("%w: %w", err, host.ErrNoHelper)
	}
	return err
}

// loadHook is what loads the program for the sysctls.
func (a *app) loadHook() loader {
	if !a.helped() {
		return hook.Load
	}
	return func(o hook.Options) (*hook.Loaded, error) {
		return a.loaded(helper.LoadHook, func() (*hook.Loaded, error) { return hook.Load(o) })
	}
}

// loadExecHook is what loads the program for the starts of processes.
func (a *app) loadExecHook() func(names []string) (*hook.Loaded, error) {
	if !a.helped() {
		return hook.LoadExec
	}
	return func(names []string) (*hook.Loaded, error) {
		return a.loaded(helper.LoadExecHook, func() (*hook.Loaded, error) { return hook.LoadExec(names) })
	}
}

// loaded is a program that the helper has loaded, or where there is no helper
// what itself returns.
func (a *app) loaded(r helper.Request, itself func() (*hook.Loaded, error)) (*hook.Loaded, error) {
	l := &hook.Loaded{}
	var err error
	l.Files, err = a.client.Ask(a.ctx, r, &l.Facts)
	switch {
	case errors.Is(err, helper.ErrAbsent):
		return itself()
	case errors.Is(err, errors.ErrUnsupported):
		return nil, neverError{err}
	case err != nil:
		return nil, err
	}
	return l, nil
}

// neverError is an error of the helper that will be the same another time.
type neverError struct{ error }

func (e neverError) Is(target error) bool { return target == hook.ErrNotSupported }
func (e neverError) Unwrap() error        { return e.error }

// synchronize is what has journald write to disk what it has.
func (a *app) synchronize() func(context.Context) error {
	if !a.helped() {
		return journal.Synchronize
	}
	return func(ctx context.Context) error {
		_, err := a.client.Ask(ctx, helper.SyncJournal, nil)
		if errors.Is(err, helper.ErrAbsent) {
			return journal.Synchronize(ctx)
		}
		return err
	}
}

// weak says what of the settings can't be kept on this host.
func (a *app) weak(s daemon.Settings) []guard.Finding {
	list := a.hook.weak(s)
	if !a.helped() || a.client.There() {
		return list
	}
	return append(list, guard.Finding{
		Subject:  "nfguard-helper.socket",
		Sentence: "nfguard-helper.socket is not there: the module, if it is unloaded, and the drop-ins, if they are changed, are not put right",
		Next:     "systemctl unmask nfguard-helper.socket, then systemctl restart nfguard; in a container, the host has to do it",
	})
}

// rights says who makes the changes that take more rights than others.
func (a *app) rights() string {
	switch {
	case !a.helped():
		return daemon.RightsItself
	case a.client.There():
		return "nfguard-helper"
	}
	return "nobody"
}

// How long the helper waits for the next request: a drift has the journal
// written to disk for two seconds.
const helperIdle = 5 * time.Second

func (a *app) helperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "helper",
		Hidden: true,
		Short:  "Make the changes that the daemon has no rights for; started by nfguard-helper.socket",
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return a.helper() },
	}
}

// helper serves the requests that come in on the socket of nfguard-helper.socket.
func (a *app) helper() error {
	a.patience.Store(int64(patienceRun))
	socket, err := passedSocket()
	if err != nil {
		return err
	}
	if a.root != "" {
		socket.Close()
		return &hintError{errors.New("a tree has no helper"), "use nfguard apply --root " + a.root}
	}
	work := &helping{app: a, host: host.New(host.Options{}), left: leftBehind}
	return helper.Serve(a.ctx, socket, helper.Options{
		Work: work.do, Busy: work.busy, Idle: helperIdle,
		Refused: func(err error) { fmt.Fprintf(a.Err, "nfguard: refused: %v\n", err) },
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
	app  *app
	host *host.Linux

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
	s, _, err := h.app.settings()
	if err != nil {
		return nil, nil, &hintError{fmt.Errorf("the configuration is wrong: %w", err), "nfguard config check tells all that is"}
	}
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

// write writes one drop-in, if it is not as it should be. The other waits for
// the daemon to have seen that it is wrong: it would else have no record.
func (h *helping) write(ctx context.Context, p *guard.Policy, modules bool) error {
	dropins := *p
	dropins.Bridges = nil // what they carry is no file's business
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
