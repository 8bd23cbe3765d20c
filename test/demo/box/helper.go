package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// helperSocket is where the daemon asks for what it has no rights for.
const helperSocket = "/run/nfguard-helper/socket"

// ServeHelper does in the box what nfguard-helper.socket does on a host: it
// starts "binary helper", behind the command words of prefix, whenever there is a
// request, until ctx ends. What it returns waits for the end. A helper that
// fails says so on stderr, and the daemon that has asked hears of it.
func (b *Box) ServeHelper(ctx context.Context, stderr io.Writer, binary string, prefix ...string) (wait func(), err error) {
	var socket *os.File
	err = b.Do(func() error {
		if err := os.MkdirAll("/run/nfguard-helper", 0o700); err != nil {
			return err
		}
		if err := os.Remove(helperSocket); err != nil && !errors.Is(err, os.ErrNotExist) { // of a daemon before this one
			return err
		}
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: helperSocket, Net: "unixgram"})
		if err != nil {
			return err
		}
		defer conn.Close()
		socket, err = conn.File()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the socket of the helper: %w", err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		defer socket.Close()
		for b.requested(ctx, socket) {
			words := slices.Concat([]string{"sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"`, "sh"}, prefix, []string{binary, "helper", "--config", Config})
			cmd := b.Command(ctx, words[0], words[1:]...)
			cmd.ExtraFiles, cmd.Stderr = []*os.File{socket}, stderr
			if err := b.Start(cmd); err != nil {
				fmt.Fprintln(stderr, "start the helper:", err)
				return
			}
			if err := cmd.Wait(); err != nil && ctx.Err() == nil {
				fmt.Fprintln(stderr, "helper:", err)
				return
			}
		}
	})
	return served.Wait, nil
}

// requested waits for a request on the socket, and returns false when ctx has ended.
func (*Box) requested(ctx context.Context, socket *os.File) bool {
	const grain = 20 // ms: who asks waits seconds
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(socket.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, grain); err == nil && n > 0 {
			return true
		}
	}
	return false
}
