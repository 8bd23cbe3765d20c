package host

import (
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// hairpins are the ports of pods that were seen in hairpin mode, or were put in
// it, by their index, which the kernel does not give twice: one of them that is
// not in it any more has lost it, and any other is new.
type hairpins struct {
	mu   sync.Mutex
	seen map[int]time.Time // since when
}

// settles is how long a port is new. The CNI plugin bridge sets the hairpin mode
// of a port right after it has added it, also to off, as its configuration has it:
// that takes nothing from a port that we were quicker with.
const settles = 10 * time.Second

// follow notes which ports of the bridges are in hairpin mode, and marks those
// that have lost it. whole says that there are no other bridges.
func (h *hairpins) follow(bridges []guard.Bridge, whole bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	seen := h.seen
	if whole || seen == nil {
		seen = make(map[int]time.Time)
	}
	for i := range bridges {
		b := &bridges[i]
		for j := range b.NoHairpin {
			p := &b.NoHairpin[j]
			if since, ok := h.seen[p.Index]; ok {
				seen[p.Index] = since
				p.Lost = now.Sub(since) >= settles
			}
		}
		for _, index := range b.InHairpin {
			since, ok := h.seen[index]
			if !ok {
				since = now
			}
			seen[index] = since
		}
	}
	h.seen = seen
}

// note says that a port was put in hairpin mode.
func (h *hairpins) note(index int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = make(map[int]time.Time)
	}
	if _, ok := h.seen[index]; !ok {
		h.seen[index] = time.Now()
	}
}
