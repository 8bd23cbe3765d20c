package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/guard"
)

// module looks whether br_netfilter is there. Its effect decides: a built-in
// one has no line in /proc/modules, no entry in /sys/module, and modinfo does
// not know it.
func (l *Linux) module(p *guard.Policy) guard.Module {
	_, err := os.Stat(filepath.Join(l.o.Proc, "sys", guard.IPTables.Path()))
	if err == nil {
		return guard.Module{State: guard.Present}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return guard.Module{Err: err}
	}
	if _, err := os.Stat(filepath.Join(l.o.Proc, "sys/net")); err != nil {
		return guard.Module{Err: fmt.Errorf("procfs is not mounted with its sysctls: %w", err)}
	}
	return guard.Module{State: guard.Absent, Obstacle: l.obstacle(p)}
}

// obstacle finds what will keep the module from being loaded, without trying.
func (l *Linux) obstacle(p *guard.Policy) *guard.Obstacle {
	if text, err := os.ReadFile(filepath.Join(l.o.Proc, "sys/kernel/modules_disabled")); err == nil && strings.TrimSpace(string(text)) == "1" {
		return &guard.Obstacle{
			Reason: "loading modules is switched off until the next boot (kernel.modules_disabled = 1)",
			Next:   "reboot: the drop-in in modules-load.d loads it before that switch is set",
		}
	}
	if r := l.forbidden(p.Module); r != nil && !p.Override {
		return &guard.Obstacle{
			Reason: fmt.Sprintf("%s forbids it: %s", r.place(), r.text),
			Next:   "remove that line, or set override_blacklist = true under [module]",
		}
	}
	if dir := l.modules(); !l.installed(dir, p.Module) {
		return &guard.Obstacle{Reason: "it is not in " + dir, Next: l.missingModule(dir)}
	}
	return nil
}

// modules is the directory with the running kernel's modules.
func (l *Linux) modules() string {
	release, err := os.ReadFile(filepath.Join(l.o.Proc, "sys/kernel/osrelease"))
	if err != nil {
		return "/lib/modules"
	}
	return filepath.Join("/lib/modules", strings.TrimSpace(string(release)))
}

// installed reports whether modprobe can know the module. When in doubt it
// can: modprobe says so if not.
func (l *Linux) installed(dir, name string) bool {
	if _, err := os.Stat(l.path(dir)); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	known := false
	for _, index := range []string{"modules.dep", "modules.builtin"} {
		text, err := readLimited(l.path(filepath.Join(dir, index)), 16<<20)
		if err != nil {
			continue
		}
		known = true
		for line := range strings.Lines(string(text)) {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			module, _, _ := strings.Cut(filepath.Base(file), ".ko")
			if canonical(module) == canonical(name) {
				return true
			}
		}
	}
	return !known
}

// loading is a modprobe that was started and has not been reaped.
type loading struct {
	pid   int
	since time.Time
	done  chan struct{}
	err   error // how it ended; to be read when done is closed
}

// load has the module loaded. Right after somebody unloaded it, modprobe can
// meet the end of that ("Device or resource busy"): then it is tried again.
func (l *Linux) load(ctx context.Context, name string, force bool) error {
	for try := 1; ; try++ {
		err := l.runModprobe(ctx, name, force)
		if err == nil || try == 5 || !strings.Contains(err.Error(), "resource busy") {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// runModprobe runs modprobe, and judges by its effect: exit code and message
// only explain. A modprobe that hangs in the kernel can't be killed; it is
// left behind, and no second one is started beside it.
func (l *Linux) runModprobe(ctx context.Context, name string, force bool) error {
	if p := l.loading; p != nil {
		select {
		case <-p.done:
			l.loading = nil
		default:
			return &obstacleError{
				op:     "load " + name,
				reason: fmt.Sprintf("modprobe[%d] still hangs in the kernel since %s", p.pid, p.since.Format(time.TimeOnly)),
				next:   "see what it waits for: cat /proc/" + strconv.Itoa(p.pid) + "/stack; a reboot ends it",
			}
		}
	}
	program, err := l.modprobe()
	if err != nil {
		return &obstacleError{"load " + name, "there is no modprobe on this host", "install kmod: apt-get install kmod, dnf install kmod", err}
	}
	// -b has modprobe honour "blacklist", which for a module named on the
	// command line it ignores; -i has it ignore "install".
	args := []string{"-b", name}
	if force {
		args = []string{"-i", name}
	}
	var said output
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // do not wait for a child of modprobe that holds the pipe
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	p := &loading{pid: cmd.Process.Pid, since: time.Now(), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()

	timeout := time.NewTimer(l.o.LoadTimeout)
	defer timeout.Stop()
	select {
	case <-p.done:
		return l.explain(name, said.String(), p.err)
	case <-timeout.C:
	case <-ctx.Done():
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL) // it may have ended in this moment
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
		l.loading = p
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return &obstacleError{
		op:     "load " + name,
		reason: fmt.Sprintf("modprobe did not end within %v and was killed", l.o.LoadTimeout),
		next:   "look at dmesg, and run modprobe " + name + " by hand",
	}
}

func (l *Linux) modprobe() (string, error) {
	if l.o.Modprobe != "" {
		return exec.LookPath(l.o.Modprobe)
	}
	path, err := exec.LookPath("modprobe")
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + "modprobe")
	}
	return path, err
}

// explain says why the module is not there after modprobe ended with err.
func (l *Linux) explain(name, said string, err error) error {
	if _, statErr := os.Stat(filepath.Join(l.o.Proc, "sys", guard.IPTables.Path())); statErr == nil {
		return nil
	}
	e := &obstacleError{op: "load " + name, err: err}
	switch {
	case err == nil:
		e.reason = "modprobe succeeded, and yet the sysctls of br_netfilter did not appear"
		e.next = "run modprobe -v " + name + " by hand; in a container, the host has to load it"
	case strings.Contains(said, "not found"):
		e.reason = said
		e.next = l.missingModule(l.modules())
	case strings.Contains(said, "Operation not permitted"):
		e.reason = said
		e.next = "the kernel refused: in a container the host has to load it; elsewhere see dmesg for lockdown or a missing signature"
	default:
		e.reason = fmt.Sprintf("modprobe: %v", err)
		if said != "" {
			e.reason += ": " + said
		}
		e.next = "run modprobe -v " + name + " by hand, and look at dmesg"
	}
	return e
}

// missingModule tells what brings a module file that is not there.
func (l *Linux) missingModule(dir string) string {
	if _, err := os.Stat(l.path(dir)); errors.Is(err, fs.ErrNotExist) {
		return dir + " is gone, probably by a kernel upgrade: reboot into the new kernel"
	}
	return "install the package that brings the module to " + dir + " (linux-modules-extra on Ubuntu, kernel-modules on Red Hat's)"
}

// obstacleError is a failure for which we know a next step.
type obstacleError struct {
	op, reason, next string
	err              error
}

func (e *obstacleError) Error() string { return e.op + ": " + e.reason }
func (e *obstacleError) Unwrap() error { return e.err }

// Next says what a person can do about it.
func (e *obstacleError) Next() string { return e.next }

// output keeps the first kilobyte of what a program says, as one line.
type output struct{ b []byte }

func (o *output) Write(p []byte) (int, error) {
	if room := 1024 - len(o.b); room > 0 {
		o.b = append(o.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (o *output) String() string { return strings.Join(strings.Fields(string(o.b)), " ") }
