package run

import (
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd, in a goroutine of its own: a manager that does not
// read must not hold the loop. It says that nfguard is ready when there is a
// status to ask for, and does not wait for a disk that hangs.
type notifier struct {
	states chan string
	done   chan struct{}
}

func startNotifier(status <-chan struct{}) *notifier {
	n := &notifier{states: make(chan string, 16), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		for s := range n.states {
			if s == "READY=1" {
				select {
				case <-status:
				case <-time.After(time.Second):
				}
			}
			notify(s)
			if s == "READY=1" {
				debug.FreeOSMemory() // what the start took and nothing needs any more
			}
		}
	}()
	return n
}

// notify sends one message to systemd; without NOTIFY_SOCKET nobody listens.
// go-systemd's SdNotify connects, which the sandbox forbids.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: path}) // the next one may come through
}

func (n *notifier) notify(state string) {
	select {
	case n.states <- state:
	default:
	}
}

func (n *notifier) stop() {
	close(n.states)
	<-n.done
}
