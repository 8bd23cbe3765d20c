package sysctl

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
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

func (w *hooked) Read(tell func(record.Write)) error {
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
	if written && !told { // by us, or one of a storm that the program has left out
		tell(record.Write{Vague: true})
	}
	// A storm may end with writes that were not told of, and nobody comes after
	// them to tell.
	if now := time.Now(); now.Sub(w.told) <= askFor && now.Sub(w.asked) >= askEvery {
		w.asked = now
		w.Rest(tell)
	}
	return nil
}

// write is x as the record has it. Of one that may be of another network
// namespace no more is said than that it was written.
func (w *hooked) write(x hook.Write) record.Write {
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
func (w *hooked) who(x hook.Writer) record.Process {
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

// Rest tells how many writes were not told of, and by whom.
func (w *hooked) Rest(tell func(record.Write)) {
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
	})
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
