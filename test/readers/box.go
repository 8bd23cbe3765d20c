package readers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// Box is a root directory with the programs of a suite, in mount and network namespaces
// of its own and without the right to load modules. What its programs read comes from a
// tree of the test: see [Box.In].
type Box struct {
	root   string
	merged bool // /lib is /usr/lib
	work   chan func()
}

// families are the directories that hold a tree's files only, besides etc and run.
var families = []string{
	"usr/lib/sysctl.d", "usr/lib/modprobe.d", "usr/lib/modules-load.d", "usr/local/lib",
	"lib/sysctl.d", "lib/modprobe.d", "lib/modules-load.d",
}

// Open opens a box with the programs of a suite, and with modules below /lib/modules.
func Open(t testing.TB, suite, modules string) *Box {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	programs := Suite(t, suite)
	_, err := os.Readlink(filepath.Join(programs, "lib"))
	b := &Box{root: filepath.Join(t.TempDir(), "root"), merged: err == nil, work: make(chan func())}
	if err := os.Mkdir(b.root, 0o755); err != nil {
		t.Fatal(err)
	}
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespaces
		errc <- b.enter(programs, modules)
		for f := range b.work {
			f()
		}
	}()
	if err := <-errc; err != nil {
		close(b.work)
		t.Fatalf("make a box of %s: %v", suite, err)
	}
	t.Cleanup(func() { close(b.work) })
	return b
}

// Merged reports whether /lib is /usr/lib there.
func (b *Box) Merged() bool { return b.merged }

func (b *Box) enter(programs, modules string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// An overlay takes what mount points are missing; nothing is written to the suite.
	layers := b.root + "-layers"
	if err := os.Mkdir(layers, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("layers", layers, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	for _, dir := range []string{"/upper", "/work"} {
		if err := os.Mkdir(layers+dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", b.root, "overlay", 0, "lowerdir="+programs+",upperdir="+layers+"/upper,workdir="+layers+"/work"); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	for _, dir := range append([]string{"proc", "lib/modules"}, families...) {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", b.root+"/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	if err := os.MkdirAll(b.root+"/sys", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", b.root+"/sys", "sysfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	if err := os.WriteFile(layers+"/cmdline", nil, 0o644); err != nil {
		return err
	}
	if err := bind(layers+"/cmdline", b.root+"/proc/cmdline"); err != nil {
		return err
	}
	if err := bind(modules, b.root+"/lib/modules"); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_MODULE, 0, 0, 0)
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	return nil
}

// Inside is a box with a tree of files in place.
type Inside struct {
	Root string // of all that its programs see; only the thread sees it there
}

// In puts the files of tree in their places, and no others of their families, and has f
// look. f runs on a thread of the box, and must not call t.Fatal.
func (b *Box) In(tree Tree, f func(Inside) error) error {
	errc := make(chan error, 1)
	b.work <- func() {
		err := b.plant(tree)
		if err == nil {
			err = f(Inside{b.root})
		}
		errc <- err
	}
	return <-errc
}

func (b *Box) plant(tree Tree) error {
	for _, dir := range append([]string{"etc", "run"}, families...) {
		dir = filepath.Join(b.root, dir)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(b.root, "proc/cmdline"), []byte(tree.Cmdline+"\n"), 0); err != nil {
		return err
	}
	return tree.Write(b.root)
}

// Run runs a program of the suite and returns all that it said, whatever its exit code.
func (in Inside) Run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // a hang only
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: in.Root}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "SYSTEMD_LOG_LEVEL=debug", "SYSTEMD_LOG_TARGET=console"}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	return said.String(), err
}

// Set writes a sysctl of the box's network namespace, by its path below /proc/sys.
func (in Inside) Set(key, value string) error {
	return os.WriteFile(filepath.Join(in.Root, "proc/sys", key), []byte(value), 0)
}

// Get reads one.
func (in Inside) Get(key string) (string, error) {
	text, err := os.ReadFile(filepath.Join(in.Root, "proc/sys", key))
	return strings.TrimSpace(string(text)), err
}
