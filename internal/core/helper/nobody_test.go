package helper

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody runs f on its own thread with the effective uid 65534.
func asNobody(t testing.TB, f func()) {
	t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread with the other uid ends
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0))
		if errno != 0 {
			failed <- errno
			return
		}
		f()
		failed <- nil
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}
