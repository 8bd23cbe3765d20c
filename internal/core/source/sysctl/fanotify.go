package sysctl

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
)

var fanotify = mechanism{name: "fanotify", note: "which tells who writes", open: openFanotify, read: readFanotify}

// openFanotify marks the inodes in the mode that hands out a descriptor for
// each event: it works on every kernel, while file handles on procfs came
// only after 6.5. It needs CAP_SYS_ADMIN.
func openFanotify(f *files) (int, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return -1, err
	}
	for _, file := range f.fds {
		if file < 0 {
			continue
		}
		if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_MODIFY, file, ""); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

const fanotifySize = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))

func readFanotify(w *Watch, tell func(record.Write)) error {
	return w.drain(func(b []byte) {
		for len(b) >= fanotifySize {
			e := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
			if e.Event_len < uint32(fanotifySize) || int(e.Event_len) > len(b) {
				return
			}
			b = b[e.Event_len:]
			w.fanotifyEvent(e, tell)
		}
	})
}

func (w *Watch) fanotifyEvent(e *unix.FanotifyEventMetadata, tell func(record.Write)) {
	if e.Fd < 0 { // FAN_NOFD: the queue overflowed, and news is lost
		tell(record.Write{})
		return
	}
	var st unix.Stat_t
	err := unix.Fstat(int(e.Fd), &st)
	unix.Close(int(e.Fd))
	if err != nil || e.Pid == w.self {
		return
	}
	tell(record.Write{File: w.path(st.Ino), Writer: source.ReadWriter(int(e.Pid))})
}
