package sysctl

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/proc"
	"github.com/nfguard/nfguard/internal/source"
	"github.com/nfguard/nfguard/internal/sysctlhook"
)

// hooked is a watch by the BPF program. inotify beside it only wakes: it
// tells after the value is stored, the program before. So where inotify does,
// the program does not ([sysctlhook.Options.Watched]).
type hooked struct {
	watch
	hook   *sysctlhook.Hook
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
	err := w.hook.Read(func(x sysctlhook.Write) {
		w.told, told = x.At, true
		hint(w.hint(x))
	})
	if err != nil {
		return err
	}
	if written && !told { // by us, or one of a storm that the program has left out
		hint(source.Hint{Source: name, Reason: "written"})
	}
	return w.rest(hint)
}

func (w *hooked) hint(x sysctlhook.Write) source.Hint {
	h := source.Hint{
		Source: name, Reason: "written", Time: x.At, Path: "/proc/sys/" + x.Path,
		Writer: source.Writer{PID: x.PID, Comm: x.Comm},
		Who:    func() source.Writer { return w.who(x) }, // later: the value is not stored yet
	}
	if !x.Uncertain {
		h.Change = &source.Change{Old: x.Old, New: x.New, Answer: answer(x.Verdict), Missed: x.Missed}
	}
	return h
}

// who reads what the program does not tell.
func (w *hooked) who(x sysctlhook.Write) source.Writer {
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

// A storm may end with writes that were not told of, and nobody comes after
// them to tell: they are asked for, once a second, up to a while after it.
const (
	askEvery = time.Second
	askFor   = time.Minute
)

// rest hints how many writes were not told of.
func (w *hooked) rest(hint func(source.Hint)) error {
	now := time.Now()
	if now.Sub(w.told) > askFor || now.Sub(w.asked) < askEvery {
		return nil
	}
	w.asked = now
	return w.hook.Missed(func(path string, n uint64) {
		c := &source.Change{Answer: source.Refused, Missed: n - 1}
		switch w.hook.Answer() {
		case sysctlhook.Observe:
			return // the values were stored, and found by looking
		case sysctlhook.Rewrite:
			c.Answer = source.Rewritten
		case sysctlhook.Refuse:
		}
		hint(source.Hint{Source: name, Reason: "written", Time: now, Path: "/proc/sys/" + path, Change: c})
	})
}

func answer(v sysctlhook.Verdict) source.Answer {
	switch v {
	case sysctlhook.Refused:
		return source.Refused
	case sysctlhook.Rewritten:
		return source.Rewritten
	case sysctlhook.Allowed:
	}
	return source.Stored
}
