package exec

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilter has the kernel apply the filter to messages on a pair of ordinary
// sockets.
func TestFilter(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	f := filter()
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.SetsockoptSockFprog(pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		t.Fatal(err)
	}
	passes := func(message []byte) bool {
		if _, err := unix.Write(pair[0], message); err != nil {
			t.Fatal(err)
		}
		_, err := unix.Read(pair[1], make([]byte, 1))
		return err == nil
	}
	for _, tt := range []struct {
		what uint32
		want bool
	}{
		{0, true},           // PROC_EVENT_NONE
		{1, false},          // PROC_EVENT_FORK
		{2, true},           // PROC_EVENT_EXEC
		{4, false},          // PROC_EVENT_UID
		{0x200, false},      // PROC_EVENT_COMM
		{0x02000000, false}, // an exec in the other byte order
		{0x80000000, false}, // PROC_EVENT_EXIT
	} {
		message := make([]byte, 76)
		binary.NativeEndian.PutUint32(message[36:], tt.what)
		if got := passes(message); got != tt.want {
			t.Errorf("event %#x passes: %t", tt.what, got)
		}
	}
	if passes(make([]byte, 36)) {
		t.Error("a message that is cut off passes")
	}
}
