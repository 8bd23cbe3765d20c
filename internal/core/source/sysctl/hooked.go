package sysctl

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/hook"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// hooked is a watch by the BPF program. inotify beside it only wakes: it
// tells after the value is stored, the program before. So where inotify does,
// the program does not ([hook.Use.Watched]).
type hooked struct {
	watch
	hook   *hook.Hook
	both   int // an epoll instance with the two descriptors
	groups proc.Groups

	told  time.Time // when the last write was told of
	asked time.Time // when it was last asked how many were not
}

func (w *hooked) FD() int { return w.both }

// Complete is true: the program sees every write, whoever makes it.
func (*hooked) Complete() bool { return true }

func (w *hooked) close() {
	unix.Close(w.both) // the hook is not ours
	w.watch.close()
}

func (w *hooked) Read(hint func(source.Hint)) error {
	written, told := false, false
	if err := w.drain(func([]byte) { written = true }); err != nil {
		return err
	}
	err := w.hook.Read(func(x hook.Write) {
		w.told, told = x.At, true
		hint(w.hint(x))
	})
	if err != nil {
		return err
	}
	if written && !told { // by us, or one of a storm that the program has left out
		hint(source.Hint{Source: name, Reason: "written"})
	}
	// A storm may end with writes that were not told of, and nobody comes after
	// them to tell.
	if now := time.Now(); now.Sub(w.told) <= askFor && now.Sub(w.asked) >= askEvery {
		w.asked = now
		w.Rest(hint)
	}
	return nil
}

func (w *hooked) hint(x hook.Write) source.Hint {
	h := source.Hint{
		Source: name, Reason: "written", Time: x.At, Path: "/proc/sys/" + x.Path,
		Writer: source.Writer{PID: x.PID, Comm: x.Comm},
		Who:    func() source.Writer { return w.who(x.Writer) }, // later: the value is not stored yet
	}
	if !x.Uncertain {
		h.Change = &source.Change{Old: x.Old, New: x.New, Answer: answer(x.Verdict)}
	}
	return h
}

// who reads what the program does not tell.
func (w *hooked) who(x hook.Writer) source.Writer {
	who := source.ReadWriter(x.PID)
	if x.Comm != "" {
		who.Comm = x.Comm // it may have ended, or be another by now
	}
	if who.Cgroup == "" || who.Cgroup == "/" { // version 1 says so of one that has ended
		if path := w.groups.Path(x.CgroupID); path != "" {
			who.Cgroup = path
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

// Rest hints how many writes were not told of, and by whom.
func (w *hooked) Rest(hint func(source.Hint)) {
	now := time.Now()
	w.hook.Missed(func(m hook.Missed) {
		if m.Uncertain {
			return
		}
		h := source.Hint{
			Source: name, Reason: "written", Time: now, Path: "/proc/sys/" + m.Path,
			Writer: source.Writer{PID: m.PID, Comm: m.Comm},
			Change: &source.Change{Answer: answer(m.Verdict), Missed: m.N - 1},
		}
		if m.PID != 0 {
			h.Who = func() source.Writer { return w.who(m.Writer) }
		}
		hint(h)
	})
}

func answer(v hook.Verdict) source.Answer {
	switch v {
	case hook.Refused:
		return source.Refused
	case hook.Rewritten:
		return source.Rewritten
	case hook.Allowed:
	}
	return source.Stored
}
