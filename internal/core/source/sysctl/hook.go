package sysctl

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// withHook watches f by the BPF program and by inotify. inotify only wakes: it
// tells after the value is stored, the program before. So where inotify tells,
// the program does not wake ([hook.Use.Watched]).
func withHook(f files, h *hook.Hook) (*Watch, error) {
	fd, err := inotify.open(&f)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &Watch{files: f, fd: fd, mechanism: inotify, hook: h}
	if w.both, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		for _, fd := range []int{fd, h.FD()} {
			err = errors.Join(err, unix.EpollCtl(w.both, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
		}
		if err == nil {
			return w, nil
		}
		unix.Close(w.both)
	}
	unix.Close(fd)
	return nil, fmt.Errorf("epoll: %w", err)
}

func (w *Watch) readHook(tell func(record.Write)) error {
	written, told := false, false
	if err := w.drain(func([]byte) { written = true }); err != nil {
		return err
	}
	err := w.hook.Read(func(x hook.Write) {
		w.told, told = x.At, true
		tell(w.write(x))
	})
	if err != nil {
		return err
	}
	if written && !told && !w.readMissed(tell) { // by us; others are told of, or counted
		tell(record.Write{Vague: true})
	}
	// A storm may end with writes that were not told of, and nobody comes after
	// them to tell.
	if now := time.Now(); now.Sub(w.told) <= askFor && now.Sub(w.asked) >= askEvery {
		w.asked = now
		w.readMissed(tell)
	}
	return nil
}

// write is x as the record has it. Of one that may be of another network
// namespace no more is said than that it was written.
func (w *Watch) write(x hook.Write) record.Write {
	r := record.Write{
		File: file(x.Path), Writer: record.Process{PID: x.PID, Comm: x.Comm},
		Who: func() record.Process { return w.who(x.Writer) }, // later: the value is not stored yet
	}
	if !x.Uncertain {
		r.Exact, r.At, r.Old, r.New, r.Outcome = true, x.At, x.Old, x.New, outcome(x.Verdict)
	}
	return r
}

func file(path string) string { return "/proc/sys/" + path }

// who reads what the program does not tell.
func (w *Watch) who(x hook.Writer) record.Process {
	who := source.ReadWriter(x.PID)
	if x.Comm != "" {
		who.Comm = x.Comm // it may have ended, or be another by now
	}
	if who.Cgroup == "" || who.Cgroup == "/" { // version 1 says so of one that has ended
		if path := w.groups.Path(x.CgroupID); path != "" {
			who = source.Located(who, path)
		}
	}
	return who
}

// What was not told of is asked for once a second, up to a while after the last
// write that was.
const (
	askEvery = time.Second
	askFor   = time.Minute
)

// readMissed tells how many writes the program has not told of, and by whom, and
// reports whether there were any. It is a look into memory.
func (w *Watch) readMissed(tell func(record.Write)) (any bool) {
	now := time.Now()
	w.hook.Missed(func(m hook.Missed) {
		if m.Uncertain {
			return
		}
		r := record.Write{
			File: file(m.Path), Writer: record.Process{PID: m.PID, Comm: m.Comm},
			Exact: true, At: now, Outcome: outcome(m.Verdict), Missed: int(m.N - 1),
		}
		if m.PID != 0 {
			r.Who = func() record.Process { return w.who(m.Writer) }
		}
		tell(r)
		any = true
	})
	return any
}

// outcome is what became of a value, "" where it was stored.
func outcome(v hook.Verdict) record.Outcome {
	switch v {
	case hook.Refused:
		return record.Denied
	case hook.Rewritten:
		return record.Rewritten
	case hook.Allowed:
	}
	return ""
}
