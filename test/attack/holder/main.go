// Holder locks a file in each way that a read-only descriptor allows, says whether that
// worked, and unlocks it when its input ends.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err == nil {
		err = errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB),
			unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}))
	}
	fmt.Println(err)
	_, _ = os.Stdin.Read(make([]byte, 1))
}
