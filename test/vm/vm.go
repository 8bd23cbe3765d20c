// Package vm gives tests a complete Debian 12: its kernel, with br_netfilter as a module
// that can be loaded and unloaded, systemd, udev and the journal, reboots and power cuts.
// A machine is emulated in software, so it starts everywhere, in about ten seconds, and
// times measured inside mean nothing. It has no network except the namespaces that a test
// makes inside, unless Options.Args give it one, and nothing of it outlives its test.
//
// The images are built once by image.sh and kept, with Debian's packages, in
// $XDG_CACHE_HOME/nfguard/vm or ~/.cache/nfguard/vm. They can always be removed; the next
// build then has Debian's latest packages.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// Options choose a machine. The zero value is the usual one.
type Options struct {
	// Kernel is the version of another kernel for Debian 12, as in the name of its
	// package: the security archive offers "6.12" in addition to 6.1. It is newer than
	// the last one in backports. "" means 6.1. Each kernel has its own image.
	Kernel string
	// Packages of Debian 12 beyond the base ones. Each list makes an image of
	// its own, built when it is first asked for.
	Packages []string
	// Append is added to the kernel's command line.
	Append string
	// Memory is in MiB; 0 means 512.
	Memory int
	// Args are more arguments for qemu: a network, another disk.
	Args []string
}

// Machine is a virtual machine with its own disk. Its methods fail the test if the
// machine does not do what it should; they are for one goroutine at a time.
type Machine struct {
	opts  Options
	image image
	dir   string // the disk, the sockets, the logs
	qemu  *process
	agent agent
}

// Boot starts a machine on a fresh disk and returns when systemd has finished starting
// it, successfully or not. The machine ends with the test t; if that fails, its output
// includes the end of the machine's console.
func Boot(t testing.TB, opts Options) *Machine {
	t.Helper()
	lab.Need(t, lab.Root, lab.VM)
	for _, tool := range []string{"mmdebstrap", "mke2fs", "qemu-img", "cpio"} {
		lab.Tool(t, lab.VM, tool)
	}
	began := time.Now()
	img, err := imageOf(t.Context(), opts.Kernel, opts.Packages)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > time.Second {
		t.Logf("image built in %.0fs", d.Seconds())
	}
	// Not t.TempDir: a test's name in it would exceed a socket path's 107 bytes.
	dir, err := os.MkdirTemp("", "nfguard-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	m := &Machine{opts: opts, image: img, dir: dir, agent: agent{socket: filepath.Join(dir, "qga")}}
	create := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", img.disk, m.file("disk"))
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("create the disk: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the console:\n%s", tail(m.file("console"), 40))
		}
		m.agent.close()
		if m.qemu != nil {
			m.qemu.kill()
		}
	})
	m.Start(t)
	return m
}

// Reboot restarts the guest properly and returns as Boot does.
func (m *Machine) Reboot(t testing.TB) {
	t.Helper()
	m.stop(t, "reboot")
	m.Start(t)
}

// PowerCut ends the machine as if the plug was pulled: what the guest has not written to
// its disk is lost. Then it starts the machine again and returns as Boot does.
func (m *Machine) PowerCut(t testing.TB) {
	t.Helper()
	if err := m.quit(); err != nil {
		t.Fatalf("cut the power: %v", err)
	}
	m.Start(t)
}

// Shutdown powers the guest off properly. Only [Machine.Start] can be called after that.
func (m *Machine) Shutdown(t testing.TB) {
	t.Helper()
	m.stop(t, "poweroff")
}

// Start starts a machine that was shut down, and returns as Boot does. If the guest does
// not answer, the machine is started once more, with a new qemu on the same disk, and the
// log says so: about one boot in a hundred hung before the guest had run anything of ours.
func (m *Machine) Start(t testing.TB) {
	t.Helper()
	err := m.start(t)
	if errors.Is(err, errHung) {
		t.Logf("THE BOOT HUNG and is tried once more: %v; the end of the console:\n%s", err, tail(m.file("console"), 40))
		if err = m.quit(); err == nil {
			err = m.start(t)
		}
	}
	if err != nil {
		t.Fatalf("boot: %v", err)
	}
}

// errHung says that qemu runs, but the guest's agent does not answer.
var errHung = errors.New("no answer from the guest")

func (m *Machine) start(t testing.TB) error {
	t.Helper()
	began := time.Now()
	if err := m.launch(); err != nil {
		return err
	}
	if err := m.awaitAgent(t.Context()); err != nil {
		return err
	}
	answered := time.Since(began)
	ctx, cancel := m.qemu.bounded(t.Context(), bootLimit)
	defer cancel()
	// Its exit code says whether all units have started, which is for the test to judge.
	state, err := m.exec(ctx, nil, "systemctl", "is-system-running", "--wait")
	if err != nil {
		return err
	}
	t.Logf("machine up in %.1fs (agent after %.1fs): %s", time.Since(began).Seconds(), answered.Seconds(), strings.TrimSpace(state.Stdout))
	return nil
}

// awaitAgent returns when the guest's agent answers.
func (m *Machine) awaitAgent(ctx context.Context) error {
	ctx, cancel := m.qemu.bounded(ctx, bootLimit)
	defer cancel()
	err := m.agent.call(ctx, "guest-ping", nil, nil)
	if err == nil {
		return nil
	}
	select {
	case <-m.qemu.done: // for example because it refused its arguments
		return err
	default:
		return fmt.Errorf("%w: %w", errHung, err)
	}
}

// stop has systemd reboot or power off. Either ends qemu: a reset within one
// qemu process takes longer than a new one, or hangs.
func (m *Machine) stop(t testing.TB, verb string) {
	t.Helper()
	ctx, cancel := m.qemu.bounded(t.Context(), stopLimit)
	defer cancel()
	// The answer is only that systemctl started; the agent ends with the guest.
	err := m.agent.call(ctx, "guest-exec", map[string]any{"path": "systemctl", "arg": []string{verb}}, nil)
	if err == nil {
		err = m.qemu.wait(ctx)
	}
	m.agent.close()
	if err != nil {
		t.Fatalf("%s: %v", verb, err)
	}
}

// quit ends qemu by its own command, which keeps the disk's qcow2 whole;
// SIGKILL would not.
func (m *Machine) quit() error {
	defer m.agent.close()
	ctx, cancel := m.qemu.bounded(context.Background(), stopLimit)
	defer cancel()
	conn, err := dial(ctx, m.file("qmp"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, `{"execute":"qmp_capabilities"}{"execute":"quit"}`); err != nil {
		return err
	}
	return m.qemu.wait(ctx)
}

// launch starts qemu.
func (m *Machine) launch() error {
	memory := m.opts.Memory
	if memory == 0 {
		memory = 512
	}
	console, err := os.OpenFile(m.file("console"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	// Always software emulation: even if /dev/kvm exists, the guest can hang with it.
	// -M microvm and -cpu max also hung at times.
	cmd := exec.Command("qemu-system-x86_64",
		"-M", "pc", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Nehalem", "-smp", "2", "-m", fmt.Sprint(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", m.image.kernel, "-initrd", m.image.initrd, "-append", commandLine+" "+m.opts.Append,
		"-chardev", "file,id=con,append=on,path="+m.file("console"), "-serial", "chardev:con",
		"-drive", "file="+m.file("disk")+",if=none,id=d0,format=qcow2,cache=unsafe,discard=unmap",
		"-device", "virtio-blk-pci,drive=d0",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=qga,server=on,wait=off,path="+m.file("qga"),
		"-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
		"-device", "virtio-rng-pci",
		"-qmp", "unix:"+m.file("qmp")+",server=on,wait=off")
	cmd.Args = append(cmd.Args, m.opts.Args...)
	cmd.Stderr = console // where people look if the machine does not start
	m.qemu, err = startTied(cmd)
	return err
}

// commandLine makes the start fast (mitigations alone cost as much as all the rest) and
// does not affect what nfguard is about. Messages of the kernel and systemd, and the
// journal's warnings, go to the console, for when a test fails.
const commandLine = "console=ttyS0 root=/dev/vda rw rootfstype=ext4 panic=-1 loglevel=6 " +
	"mitigations=off init_on_alloc=0 nokaslr cryptomgr.notests rcupdate.rcu_expedited=1 no_timer_check tsc=reliable " +
	"8250.nr_uarts=1 random.trust_cpu=on systemd.show_status=1 " +
	"systemd.journald.forward_to_console=1 systemd.journald.max_level_console=warning"

func (m *Machine) file(name string) string { return filepath.Join(m.dir, name) }
