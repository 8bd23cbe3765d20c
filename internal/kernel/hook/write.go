package hook

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

// Verdict is what became of a write: enum verdict of sysctl.bpf.c.
type Verdict uint32

// The verdicts. None is about a value that is right.
const (
	Allowed   Verdict = iota // by us: the kernel, or a program of others, may still have refused it
	Refused                  // the writer got EPERM
	Rewritten                // the right value was stored instead
)

// Writer is who wrote.
type Writer struct {
	PID      int    // of the process, as the initial PID namespace has it; 0: not known
	Comm     string // name of the thread; "": not known
	CgroupID uint64 // in the v2 hierarchy: the inode of its directory
}

// Write is one attempt to write a foreign value to a guarded sysctl.
type Write struct {
	Path     string // of the key
	Old, New string // what was there, what was to be: at most 63 bytes, without the last newline
	Writer
	UID     uint32 // as the initial user namespace has it
	At      time.Time
	Verdict Verdict

	// Uncertain: it is not known which namespace's sysctl was written to, as
	// the kernel lets nobody look, or as the key belongs to none.
	Uncertain bool
}

// maxRead bounds one Read: a writer in a tight loop must not hold the reader.
const maxRead = 256

// Read hands the writes that wait to yield, oldest first, and never blocks.
// An error means that no more will come.
//
// The kernel tells of a write before it stores the value: one look in a thousand
// that follows at once finds the old one, for some 15 µs more, or for as long as
// the writer is kept from running (Linux 6.18, two processors).
func (h *Hook) Read(yield func(Write)) error {
	now := monotonic.Now() // bpf_ktime_get_ns is CLOCK_MONOTONIC
	for range maxRead {
		var e sysctlEvent
		there, err := next(h.ring, &e)
		if err != nil || !there {
			return err
		}
		if e.Slot >= uint64(len(h.rules)) {
			return errors.New("read the BPF ring: an event of no key")
		}
		w := h.write(&e)
		w.At = now.Time(int64(e.At))
		if h.foreign(&w, &h.rules[e.Slot]) {
			yield(w)
		}
	}
	return nil
}

func (h *Hook) write(e *sysctlEvent) Write {
	return Write{
		Path: h.loaded.Facts.Keys[e.Slot].Path,
		Old:  text(e.OldValue[:]), New: text(e.NewValue[:]),
		Writer: Writer{PID: int(e.Tgid), Comm: text(e.Comm[:]), CgroupID: e.Cgroup},
		UID:    uint32(e.Uid), Verdict: Verdict(e.Verdict),
		Uncertain: h.uncertain(&h.rules[e.Slot]),
	}
}

// uncertain reports whether it is not known which namespace's sysctl is written to.
func (h *Hook) uncertain(r *sysctlRule) bool { return !h.found.reads || r.Namespaced == 0 }

// foreign reports whether w is one, as far as that is not for the kernel to
// decide: words are compared here, and where the kernel could not look for the
// namespace, the writer's own is asked for, if it is still there.
func (h *Hook) foreign(w *Write, r *sysctlRule) bool {
	if r.Kind == sysctlKindKIND_TEXT && sameWords(w.New, h.loaded.Facts.Keys[r.Slot].Want) {
		return false
	}
	if h.found.reads || r.Namespaced == 0 || w.PID == 0 {
		return true
	}
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", w.PID), &st)
	return err != nil || uint32(st.Ino) == h.netns
}

// Missed is attempts that were not told of, because there were too many.
type Missed struct {
	Path string // of the key
	Writer
	Verdict Verdict
	N       uint64

	// Uncertain: as of a [Write]; and of a key of words, those may be among them
	// that were right.
	Uncertain bool
}

// count is what was told of one place in the table of writers.
type count struct{ id, n uint64 }

// verdicts is how many there are.
const verdicts = len(sysctlSlot{}.Missed)

// place takes the id of a writer apart (WRITER_TAKEN in sysctl.bpf.c).
func place(id uint64) (slot int, v Verdict, pid int) {
	return int(id >> 32 & 0xffffff), Verdict(id >> 56 & 3), int(uint32(id))
}

// Missed hands what was not told of, since the last call, to yield: for each
// key, verdict and writer, and for a writer that is not known what is left of
// the key's. Together with the writes of [Hook.Read] that is all that there were.
//
// The table of writers has 512 places. What does not fit is counted for no
// writer, and so is, seldom, what comes while a place changes hands.
func (h *Hook) Missed(yield func(Missed)) {
	rest := make(map[[2]int]uint64) // by slot and verdict
	for i := range h.rules {
		for v := range verdicts {
			if n := atomic.LoadUint64(&h.slots[i].Missed[v]) - h.missed[i][v]; n > 0 {
				rest[[2]int{i, v}] = n
			}
		}
	}
	tell := func(slot int, v Verdict, w Writer, n uint64) {
		if n > 0 {
			r := &h.rules[slot]
			yield(Missed{h.loaded.Facts.Keys[slot].Path, w, v, n, h.uncertain(r) || r.Kind == sysctlKindKIND_TEXT})
			h.missed[slot][v] += n
		}
	}
	for i := range h.writers {
		w, told := &h.writers[i], &h.counted[i]
		id := atomic.LoadUint64(&w.Id)
		if id == 0 {
			continue
		}
		if id != told.id {
			*told = count{id: id}
		}
		slot, v, pid := place(id)
		now := atomic.LoadUint64(&w.Count)
		// One that is counted after we looked above is left for the next time.
		n := min(now-told.n, rest[[2]int{slot, int(v)}])
		tell(slot, v, Writer{PID: pid, Comm: text(w.Comm[:]), CgroupID: w.Cgroup}, n)
		rest[[2]int{slot, int(v)}] -= n
		if told.n += n; n == 0 && now == told.n && atomic.CompareAndSwapUint64(&w.Id, id, 0) { // silent since the last call
			*told = count{}
		}
	}
	for at, n := range rest {
		tell(at[0], Verdict(at[1]), Writer{}, n)
	}
}

// text is what is in b, up to a zero byte, without the last newline.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(bytes.TrimSuffix(b, []byte("\n")))
}
