package sysctlhook

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/monotonic"
)

// Verdict is what became of a write.
type Verdict uint32

// The verdicts. None is about a value that is right.
const (
	Allowed   Verdict = iota // by us: the kernel, or a program of others, may still have refused it
	Refused                  // the writer got EPERM
	Rewritten                // the right value was stored instead
)

// Write is one attempt to write a foreign value to a guarded sysctl.
type Write struct {
	Path     string // of the key
	Old, New string // what was there, what was to be: at most 63 bytes, without the last newline
	PID      int    // of the process, as the initial PID namespace has it; 0: not known
	Comm     string // name of the thread; "": not known
	UID      uint32 // as the initial user namespace has it
	CgroupID uint64 // in the v2 hierarchy: the inode of its directory
	At       time.Time
	Verdict  Verdict

	// Uncertain: it is not known which namespace's sysctl was written to, as
	// the kernel lets nobody look, or as the key belongs to none.
	Uncertain bool

	// Missed is the number of further attempts on this key that were not told
	// of, since the last one told or the last call of [Hook.Missed].
	Missed uint64
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
		err := h.reader.ReadInto(&h.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the BPF ring: %w", err)
		}
		var e event
		if copy(unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e)), h.record.RawSample) != int(unsafe.Sizeof(e)) || e.Slot >= maxKeys {
			return errors.New("read the BPF ring: not an event")
		}
		w := h.write(&e)
		w.At = now.Time(int64(e.At))
		if h.foreign(&w) {
			w.Missed = h.tell(e.Slot, e.Missed)
			yield(w)
		}
	}
	return nil
}

func (h *Hook) write(e *event) Write {
	s := &h.slots[e.Slot]
	return Write{
		Path: s.path,
		Old:  value(e.Old[:]), New: value(e.New[:]),
		PID: int(e.PID), Comm: value(e.Comm[:]), UID: uint32(e.UID), CgroupID: e.Cgroup,
		Verdict:   Verdict(e.Verdict),
		Uncertain: !h.kernel.reads || h.rules[s.path].Lock == 0,
	}
}

// foreign reports whether w is one, as far as that is not for the kernel to
// decide: words are compared here, and where the kernel could not look for the
// namespace, the writer's own is asked for, if it is still there.
func (h *Hook) foreign(w *Write) bool {
	s := h.rules[w.Path]
	if s.Kind == text && sameWords(w.New, h.slots[s.Slot].want) {
		return false
	}
	if h.kernel.reads || w.PID == 0 {
		return true
	}
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", w.PID), &st)
	return err != nil || uint32(st.Ino) == h.settings.Netns
}

// Missed calls yield for each key of which attempts were not told, with their
// number since they were last told. Together with the writes of [Hook.Read]
// that is all that there were.
func (h *Hook) Missed(yield func(path string, n uint64)) error {
	for i := range h.slots {
		if h.slots[i].path == "" {
			continue
		}
		var c counter
		if err := h.tables.counters.Lookup(uint32(i), &c); err != nil {
			return fmt.Errorf("read the counter of %s: %w", h.slots[i].path, err)
		}
		if n := h.tell(uint64(i), c.Missed); n > 0 {
			yield(h.slots[i].path, n)
		}
	}
	return nil
}

// tell returns by how much the counter of the slot is above what was told of
// it, and remembers that. Events that wait are behind what [Hook.Missed] saw.
func (h *Hook) tell(slot uint64, missed uint64) uint64 {
	told := &h.slots[slot].missed
	if missed <= *told {
		return 0
	}
	n := missed - *told
	*told = missed
	return n
}

// value is the text in b, up to a zero byte, without the last newline.
func value(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(bytes.TrimSuffix(b, []byte("\n")))
}
