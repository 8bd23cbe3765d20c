package reflex

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// slice is the shortest that the kernel grants.
const slice = 100 * time.Microsecond

// ShortSlice asks the scheduler for short time slices for the calling thread:
// when that wakes up, it runs before a thread that is in the middle of a
// longer slice, and not after it. Without, one answer in a hundred waits 3 ms
// for the scheduler's tick, beside writers that keep both cores busy (make
// bench). Linux before 6.12 takes the request and ignores it. An error means
// that a filter of system calls refuses it, and nothing is lost but that.
func ShortSlice() error {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return fmt.Errorf("read scheduling attributes: %w", err)
	}
	attr.Runtime = uint64(slice)
	if err := unix.SchedSetAttr(0, attr, 0); err != nil {
		return fmt.Errorf("ask for short time slices: %w", err)
	}
	return nil
}
