package probe

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Pod is a network namespace like that of a pod. It has no name: it is kept by
// its descriptor and by the sockets in it, so that the kernel removes it, and
// with it both ends of its veths, when the process ends in whatever way. Its
// methods are safe for concurrent use, but not with Close.
type Pod struct {
	fd    int
	close sync.Once
}

// newPod makes an empty namespace. An error that is unix.EPERM means that
// CAP_SYS_ADMIN is missing.
func newPod() (*Pod, error) {
	p := &Pod{fd: -1}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		p.fd, err = openOwn()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return p, nil
}

// openOwn opens the network namespace of the calling thread.
func openOwn() (int, error) {
	return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// onThread runs f, which may move to another network namespace, and returns
// when it has. A thread that does not find back home ends with its goroutine,
// since that has not unlocked it.
func onThread(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := openOwn()
		if err != nil {
			runtime.UnlockOSThread()
			errc <- err
			return
		}
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		unix.Close(home)
		errc <- err
	}()
	return <-errc
}

// do runs f on a thread inside. Sockets that f opens are the pod's for good,
// and so are the files below /proc/sys/net; goroutines that it starts are not
// inside.
func (p *Pod) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(p.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the pod's network namespace: %w", err)
		}
		return f()
	})
}

// Listen opens a listening socket inside the pod, like net.Listen. The address
// has to be an IP with a port: names are resolved outside.
func (p *Pod) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = p.do(func() error {
		var c net.ListenConfig
		c.SetMultipathTCP(false)
		l, err = c.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket opens an unconnected UDP socket inside the pod, which hears
// answers from wherever they come; like net.ListenPacket, under the same
// condition as [Pod.Listen].
func (p *Pod) ListenPacket(ctx context.Context, network, address string) (conn net.PacketConn, err error) {
	err = p.do(func() error {
		var c net.ListenConfig
		conn, err = c.ListenPacket(ctx, network, address)
		return err
	})
	return conn, err
}

// Close lets go of the namespace. The kernel removes it, a moment later, once
// the sockets in it are closed, too. A second Close does nothing.
func (p *Pod) Close() error {
	var err error
	p.close.Do(func() { err = unix.Close(p.fd) })
	return err
}
