// Package box makes throw-away machines for the demo and the benchmark. A [Box] is a
// network namespace and a mount namespace with an empty /run, a /sys that shows the box's
// own devices, and nothing in /etc/sysctl.d, modules-load.d and modprobe.d; the rest of
// the file system is the host's. Nothing in a box has a name outside, and processes in it
// are killed with it, so nothing is left behind even without any cleanup. It creates no
// bridges and no rules; its users do.
package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Box is a throw-away machine. It is safe for concurrent use, but must not be used after
// Close.
type Box struct {
	ns   *os.File
	work chan func()
}

// New makes a box with the kernel's defaults for a new network namespace. It
// needs root.
func New() (*Box, error) {
	b := &Box{work: make(chan func())}
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the box
		errc <- b.enter()
		for f := range b.work {
			f()
		}
	}()
	if err := <-errc; err != nil {
		close(b.work)
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return b, nil
}

// enter moves the calling thread into the new namespaces.
func (b *Box) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"}, // hides the journal's socket too
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}, // which it hides, and BPF needs
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, dir := range []string{"/etc/sysctl.d", "/etc/modules-load.d", "/etc/modprobe.d"} {
		err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, "mode=755")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	var err error
	b.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	return err
}

// Close ends the box. Programs that still run in it are killed.
func (b *Box) Close() {
	close(b.work)
	b.ns.Close()
}

// Do runs f on the box's thread and returns its error. Files and sockets that f opens
// belong to the box, and can be used from anywhere afterwards; goroutines that f starts do
// not run inside.
func (b *Box) Do(f func() error) error {
	errc := make(chan error, 1)
	b.work <- func() { errc <- f() }
	return <-errc
}

// Netns is a path of the network namespace that ip(8) takes.
func (b *Box) Netns() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.ns.Fd())
}

// Command is exec.CommandContext for [Box.Start]: the program has a process
// group of its own, gets SIGTERM when ctx ends and SIGKILL with the box.
func (b *Box) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	// The signal is tied to the thread that forks: the box's own, see Start.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Start starts cmd inside the box.
func (b *Box) Start(cmd *exec.Cmd) error { return b.Do(cmd.Start) }

// Run runs a program inside the box until it ends, with input as its stdin, and returns
// what it printed on stdout and stderr, even with an error.
func (b *Box) Run(ctx context.Context, input, name string, args ...string) (string, error) {
	var out strings.Builder
	cmd := b.Command(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	err := b.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// Must is Run for a program that has to succeed: its error carries the output.
func (b *Box) Must(ctx context.Context, input, name string, args ...string) error {
	out, err := b.Run(ctx, input, name, args...)
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Processes returns the processes in the box's network namespace. After the last Wait, it
// shows whether anything is left.
func (b *Box) Processes() ([]int, error) {
	var own unix.Stat_t
	if err := unix.Fstat(int(b.ns.Fd()), &own); err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	var pids []int
	for _, link := range links {
		var ns unix.Stat_t
		if unix.Stat(link, &ns) != nil || ns.Dev != own.Dev || ns.Ino != own.Ino {
			continue // gone meanwhile, or not ours
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// Ready checks, without changing it, whether this machine can make boxes with
// br_netfilter. The error says what to do.
func Ready() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root\nhint: run it again as root")
	}
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		return errors.New("br_netfilter is not loaded, and loading it here would change the host\n" +
			"hint: on a machine that you may change, run modprobe br_netfilter first")
	}
	return nil
}
