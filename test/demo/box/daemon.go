package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Config is where a box's nfguard finds its configuration.
const Config = "/run/nfguard.toml"

// config sends the drop-ins to the box's own /run, which systemd reads as it
// reads /etc, and says that the box is meant. All else is nfguard's default.
const config = `namespace = "own"

[persist]
modules_load = "/run/modules-load.d/nfguard.conf"
sysctl       = "/run/sysctl.d/99-zz-nfguard.conf"
`

// Daemon is an nfguard that runs in a box.
type Daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why, valid after done
}

// StartDaemon starts "binary run" in the box, behind the command words of
// prefix, and waits until it says that its first pass is over. Its records go
// to stderr, since the box has no journal. It ends with ctx at the latest.
func (b *Box) StartDaemon(ctx context.Context, stderr io.Writer, binary string, prefix ...string) (*Daemon, error) {
	const notify = "/run/notify"
	var socket *net.UnixConn
	err := b.Do(func() error {
		for _, dir := range []string{"/run/nfguard", "/run/modules-load.d", "/run/sysctl.d"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(Config, []byte(config), 0o644); err != nil {
			return err
		}
		if err := os.Remove(notify); err != nil && !errors.Is(err, os.ErrNotExist) { // of a daemon before this one
			return err
		}
		var err error
		socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer socket.Close()

	words := append(slices.Clone(prefix), binary, "run", "--config", Config)
	cmd := b.Command(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify, "RUNTIME_DIRECTORY=/run/nfguard")
	cmd.Stderr = stderr
	d := &Daemon{cmd: cmd, done: make(chan struct{})}
	if err := b.Start(cmd); err != nil {
		return nil, err
	}
	go func() {
		d.err = cmd.Wait()
		socket.SetReadDeadline(time.Now()) // wakes the wait for READY
		close(d.done)
	}()
	if err := d.awaitReady(socket); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) awaitReady(socket *net.UnixConn) error {
	socket.SetReadDeadline(time.Now().Add(10 * time.Second))
	message := make([]byte, 4096)
	for {
		n, err := socket.Read(message)
		switch {
		case err == nil:
			for line := range strings.SplitSeq(string(message[:n]), "\n") {
				if line == "READY=1" {
					return nil
				}
			}
		case d.ended():
			return errors.New("nfguard run ended before it was ready")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("nfguard run did not say READY=1 within 10s")
		default:
			return err
		}
	}
}

func (d *Daemon) ended() bool {
	select {
	case <-d.done:
		return true
	case <-time.After(100 * time.Millisecond): // its Wait may be a moment behind
		return false
	}
}

// PID is the process of the daemon; a prefix is expected to exec it.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop sends SIGTERM, waits for the end and returns an error unless the exit
// code was 0. A second Stop returns the same.
func (d *Daemon) Stop() error {
	d.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended already
	select {
	case <-d.done:
	case <-time.After(5 * time.Second):
		d.cmd.Process.Kill()
		<-d.done
		return errors.New("nfguard run did not end within 5s of SIGTERM")
	}
	if d.err != nil {
		return fmt.Errorf("nfguard run: %w", d.err)
	}
	return nil
}

// Binary returns the absolute path of the nfguard to run. The error says
// what to do.
func Binary(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath(path); err != nil {
		return "", fmt.Errorf("%w\nhint: run make build first, or name the binary with -nfguard", err)
	}
	return path, nil
}
