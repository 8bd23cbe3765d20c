package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
)

// loading is a modprobe that was started and has not ended yet, as far as known.
type loading struct {
	since time.Time
	what  string // for people: what may hang, and where to look
	next  string
	done  chan struct{}
	said  output
	err   error // how it ended; to be read when done is closed, like said
}

// Hung reports whether a modprobe was left behind that still hangs in the kernel. Do
// not call it concurrently with Do.
func (l *Linux) Hung() bool {
	if l.loading == nil {
		return false
	}
	select {
	case <-l.loading.done:
		return false
	default:
		return true
	}
}

// MayLoad reports whether this process may load kernel modules by itself.
func MayLoad() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[unix.CAP_SYS_MODULE>>5].Effective&(1<<(unix.CAP_SYS_MODULE&31)) != 0
}

// load loads the module. If the module is just being unloaded, modprobe fails with
// "Device or resource busy"; then load tries again.
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

// runModprobe runs modprobe, and judges by its effect: exit code and message only
// explain. A modprobe that hangs in the kernel cannot be killed. It is left behind,
// and no second one is started while it hangs.
func (l *Linux) runModprobe(ctx context.Context, name string, force bool) error {
	if p := l.loading; p != nil {
		select {
		case <-p.done:
			l.loading = nil
		default:
			return &obstacleError{
				op:     "load " + name,
				reason: fmt.Sprintf("%s still hangs since %s", p.what, p.since.Format(time.TimeOnly)),
				next:   p.next,
			}
		}
	}
	program, err := l.modprobe()
	if err != nil {
		return &obstacleError{"load " + name, "there is no modprobe on this host", "install kmod: apt-get install kmod, dnf install kmod", err}
	}
	// With -b, modprobe respects "blacklist", which it otherwise ignores for a module
	// on the command line. With -i, it ignores "install".
	command := []string{program, "-b", name}
	if force {
		command[1] = "-i"
	}
	p := &loading{since: time.Now(), done: make(chan struct{})}
	step.Begin(ctx, "running modprobe "+name)
	kill, err := p.start(command)
	if err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	timeout := time.NewTimer(l.o.LoadTimeout)
	defer timeout.Stop()
	select {
	case <-p.done:
		return l.explain(ctx, name, p.said.String(), p.err)
	case <-timeout.C:
	case <-ctx.Done():
	}
	kill()
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

// environment is what modprobe needs.
var environment = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}

// start starts the command as a child of ours.
func (p *loading) start(command []string) (kill func(), err error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = environment
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // do not wait for a child of modprobe that holds the pipe
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	p.what = fmt.Sprintf("modprobe[%d], in the kernel,", pid)
	p.next = fmt.Sprintf("see what it waits for: cat /proc/%d/stack; a reboot ends it", pid)
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return func() { _ = unix.Kill(-pid, unix.SIGKILL) }, nil // it may have just ended
}

func (l *Linux) modprobe() (string, error) {
	if l.o.Modprobe != "" {
		return exec.LookPath(l.o.Modprobe)
	}
	return program("modprobe")
}

// explain says why the module is not there after modprobe ended with err.
func (l *Linux) explain(ctx context.Context, name, said string, err error) error {
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
		e.next = "install the package that brings the module to /lib/modules/" + l.release()
		if m := l.loadable(ctx, name); m.Next != "" {
			e.next = m.Next
		}
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
