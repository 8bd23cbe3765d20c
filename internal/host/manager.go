package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// modprobeUnit is the transient service in which systemd runs modprobe. There
// is one at a time: a second one would only hang beside the first.
const modprobeUnit = "nfguard-modprobe.service"

// MayLoad reports whether this process may load kernel modules by itself.
func MayLoad() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[unix.CAP_SYS_MODULE>>5].Effective&(1<<(unix.CAP_SYS_MODULE&31)) != 0
}

// manager has systemd run the command, so that we need no right to load
// modules. It speaks to systemd on its own socket: D-Bus may be dead.
func (p *loading) manager(ctx context.Context, command []string, limit time.Duration) (kill func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.what, p.next = "systemd, asked to run modprobe,", "see systemctl status "+modprobeUnit+"; systemctl daemon-reexec, or a reboot, ends it"
	ctx, cancel := context.WithTimeout(ctx, limit+10*time.Second)
	go func() {
		defer close(p.done)
		defer cancel()
		defer r.Close()
		p.err = runUnit(ctx, command, w, limit)
		w.Close() // now the end of the text is the end of the command
		_ = r.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(&p.said, r)
	}()
	return cancel, nil
}

// runUnit runs the command as a transient service that writes to out, and
// waits for its end.
func runUnit(ctx context.Context, command []string, out *os.File, limit time.Duration) error {
	conn, err := sd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("ask systemd to run modprobe: %w", err)
	}
	defer conn.Close()
	property := func(name string, value any) sd.Property {
		return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	fd := dbus.UnixFD(out.Fd())
	ended := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, modprobeUnit, "fail", []sd.Property{
		sd.PropDescription("Load a kernel module for nfguard"),
		sd.PropType("oneshot"),
		sd.PropExecStart(command, false),
		property("DefaultDependencies", false), // also while the host starts or stops
		property("Environment", environment),
		property("StandardOutputFileDescriptor", fd),
		property("StandardErrorFileDescriptor", fd),
		property("TimeoutStartUSec", uint64(limit.Microseconds())),
		property("TimeoutStopUSec", uint64(time.Second.Microseconds())),
		property("CollectMode", "inactive-or-failed"),
	}, ended)
	if err != nil {
		return fmt.Errorf("ask systemd to run modprobe: %w", err)
	}
	select {
	case result := <-ended:
		if result != "done" {
			return fmt.Errorf("the service %s ended: %s", modprobeUnit, result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
