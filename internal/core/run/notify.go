package run

import (
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd, in a goroutine of its own: a manager that does not
// read must not hold the loop. It says that nfguard is ready when there is a
// status to ask for, and does not wait for a disk that hangs.
type notifier struct {
	send func(state string)
	wake chan struct{} // one slot
	done chan struct{}

	mu     sync.Mutex
	states []string // that wait, at most one of a kind
	ending bool
}

func startNotifier(status <-chan struct{}, send func(string)) *notifier {
	n := &notifier{send: send, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		for {
			states, ending := n.take()
			for _, s := range states {
				n.tell(s, status)
			}
			if ending {
				return
			}
			<-n.wake
		}
	}()
	return n
}

func (n *notifier) tell(state string, status <-chan struct{}) {
	if state != "READY=1" {
		n.send(state)
		return
	}
	select {
	case <-status:
	case <-time.After(time.Second):
	}
	n.send(state)
	debug.FreeOSMemory() // what the start took and nothing needs any more
}

// notify has state sent. Nothing is lost but what says the same of an earlier
// time: one that waits gives way to the next of its kind.
func (n *notifier) notify(state string) {
	kind := func(s string) string { k, _, _ := strings.Cut(s, "="); return k }
	n.mu.Lock()
	n.states = slices.DeleteFunc(n.states, func(s string) bool { return kind(s) == kind(state) })
	n.states = append(n.states, state)
	n.mu.Unlock()
	n.ring()
}

func (n *notifier) take() (states []string, ending bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	states, n.states = n.states, nil
	return states, n.ending
}

func (n *notifier) ring() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// stop waits until what waits has been sent.
func (n *notifier) stop() {
	n.mu.Lock()
	n.ending = true
	n.mu.Unlock()
	n.ring()
	<-n.done
}

// notifySystemd sends one message; without NOTIFY_SOCKET nobody listens.
// go-systemd's SdNotify connects, which the sandbox forbids.
func notifySystemd(state string) {
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
