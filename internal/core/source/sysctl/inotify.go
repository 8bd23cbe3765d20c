package sysctl

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
)

var inotify = mechanism{name: "inotify", note: "which does not tell who writes", open: openInotify, read: readInotify}

func openInotify(f *files) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, err
	}
	for _, file := range f.fds {
		if file < 0 {
			continue
		}
		if _, err := unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", file), unix.IN_MODIFY); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// readInotify cannot tell our own writes from those of others; a look that
// finds all right is what they cost.
func readInotify(w *Watch, tell func(record.Write)) error {
	return w.drain(func(b []byte) {
		for len(b) >= unix.SizeofInotifyEvent {
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			if size > len(b) {
				return
			}
			b = b[size:]
			tell(record.Write{}) // also where the queue overflowed, and news is lost
		}
	})
}
