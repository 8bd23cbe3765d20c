package reconcile

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// tally counts the writes of a fight by the program that made them, as far as
// the kernel tells: also those that were too many to be told of one by one.
type tally struct {
	by    []side
	total int
}

// side is one program.
type side struct {
	writer record.Process // the last process of that name, with what is known of it
	n      int
}

// maxSides bounds a tally: names can be made up. What is beyond it counts for
// the total only.
const maxSides = 32

// add counts n writes by w, and for nobody where w is not known.
func (t *tally) add(w record.Process, n int) {
	t.total += n
	if w.PID == 0 {
		return
	}
	for i := range t.by {
		if s := &t.by[i]; s.writer.Comm == w.Comm {
			s.n += n
			if s.writer.PID != w.PID {
				s.writer = w
			}
			return
		}
	}
	if len(t.by) < maxSides {
		t.by = append(t.by, side{w, n})
	}
}

// know completes what is known of a writer.
func (t *tally) know(w record.Process) {
	for i := range t.by {
		if s := &t.by[i]; s.writer.Comm == w.Comm {
			s.writer = w
		}
	}
}

// most is who wrote most; nobody where nobody is known.
func (t *tally) most() side {
	var top side
	for _, s := range t.by {
		if s.n > top.n {
			top = s
		}
	}
	return top
}

// side is who fights: who wrote most, or where the kernel does not count whom the
// last record names.
func (f *fight) side() record.Process {
	if top := f.tally.most(); top.n > 0 && f.tally.total > 1 {
		return top.writer
	}
	return f.writer
}

// by names who fights, with the share where others write too, or nothing.
func (f *fight) by() string {
	top := f.tally.most()
	if top.n == 0 || top.n == f.tally.total {
		return by(f.side())
	}
	return fmt.Sprintf(" (written by %s, %d of %d writes)", words.Writer(top.writer), top.n, f.tally.total)
}
