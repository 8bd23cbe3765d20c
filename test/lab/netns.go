package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Own is what the linker is told for an nfguard that is run in namespaces of its own:
// that it is meant to be there.
const Own = "-X github.com/nfguard/nfguard/internal/build.namespace=own"

// Namespace is a network namespace that lasts as long as its test. It has no name in the
// file system, so nothing can be left behind.
type Namespace struct {
	fd   *os.File
	work chan func()
}

// speakAll makes package net find out which versions of IP there are. It does that once,
// at the first use; in a namespace whose loopback is down, it would miss IPv6.
var speakAll = sync.OnceFunc(func() {
	if l, err := net.Listen("tcp", "localhost:0"); err == nil {
		l.Close()
	}
})

// NewNamespace makes a network namespace with its loopback down and the
// kernel's defaults everywhere, after [Need] of root and netns.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	Need(t, Root, Netns)
	speakAll()
	ns := &Namespace{work: make(chan func())}
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns.fd, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
		errc <- err
		for f := range ns.work {
			f()
		}
	}()
	if err := <-errc; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(ns.work)
		ns.fd.Close()
	})
	return ns
}

// Do runs f on a thread inside the namespace and waits for it. Sockets and /proc/sys/net
// files that f opens belong to the namespace, and can be used from any goroutine
// afterwards. Goroutines that f starts do not run inside: use [Namespace.Go]. f must not
// call t.Fatal.
func (ns *Namespace) Do(f func()) {
	done := make(chan struct{})
	ns.work <- func() { defer close(done); f() }
	<-done
}

// Go runs f on its own thread inside the namespace and returns at once.
func (ns *Namespace) Go(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		if err := unix.Setns(int(ns.fd.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("enter the test's namespace: %v", err))
		}
		f()
	}()
}

// Path names the namespace for nsenter(1)'s --net and for setns(2).
func (ns *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd.Fd())
}

// Command is exec.Command inside the namespace.
func (ns *Namespace) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + ns.Path(), "--", name}, args...)...)
}

// Run runs a program inside the namespace and fails the test with its
// output if it does not exit 0.
func (ns *Namespace) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := ns.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Inhabit has a process in the namespace for as long as the test lasts, as a pod has
// one: by its processes a namespace without a name is found. It is sleep(1).
func (ns *Namespace) Inhabit(t testing.TB) {
	t.Helper()
	cmd := ns.Command("sleep", "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	want, err := os.Stat(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	for { // nsenter(1) is there before it is in
		have, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if os.SameFile(want, have) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
