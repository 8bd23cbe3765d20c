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
	Allowed   Verdict = iota // by us: the kernel, or somebody else's program, can still have refused it
	Refused                  // the writer got EPERM
	Rewritten                // the right value was stored instead
)

// Writer is who wrote.
type Writer struct {
	PID      int    // of the process, in the initial PID namespace; 0: unknown
	Comm     string // name of the thread; "": unknown
	CgroupID uint64 // in the v2 hierarchy: the inode of its directory
}

// Write is one attempt to write a foreign value to a guarded sysctl.
type Write struct {
	Path     string // of the key
	Old, New string // the values before and after: at most 63 bytes, without the last newline
	Writer
	UID     uint32 // in the initial user namespace
	At      time.Time
	Verdict Verdict

	// Uncertain: it is not known which namespace's sysctl was written to, because
	// the program cannot read the kernel's memory, or because the key belongs to none.
	Uncertain bool
}

// maxRead bounds one Read: a writer in a tight loop must not hold the reader.
const maxRead = 256

// Read passes the waiting writes to yield, oldest first, and never blocks.
// An error means that no more will come.
//
// The kernel reports a write before it stores the value. A caller who looks at once
// finds the old value one time in a thousand, for some 15 µs more, or for as long
// as the writer is kept from running (Linux 6.18, two processors).
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

// foreign decides what the program in the kernel could not: values that are words
// are compared here. And if the sysctl's namespace is not known, the writer's is
// looked up instead, if the writer is still there.
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

// Missed counts attempts that were not reported, because there were too many.
type Missed struct {
	Path string // of the key
	Writer
	Verdict Verdict
	N       uint64

	// Uncertain: as in [Write]. And if the value is words, some of these writes may
	// have been of the right value.
	Uncertain bool
}

// count is what was last reported of one place in the table of writers.
type count struct{ id, n uint64 }

// verdicts is the number of verdicts.
const verdicts = len(sysctlSlot{}.Missed)

// place decodes the id of a writer (WRITER_TAKEN in sysctl.bpf.c).
func place(id uint64) (slot int, v Verdict, pid int) {
	return int(id >> 32 & 0xffffff), Verdict(id >> 56 & 3), int(uint32(id))
}

// Missed passes to yield what was not reported since the last call: by key, verdict
// and writer; writes of unknown writers are one item per key and verdict. Together
// with the writes of [Hook.Read] these are all the writes that there were.
//
// The table of writers has 512 places. Writes that find no place have no writer
// here; nor, rarely, have those that come while a place changes its owner.
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
		// Writes that were counted after we looked above are left for the next call.
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
