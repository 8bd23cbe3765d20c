package run

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// writeHook is the BPF program that sees every write to a guarded sysctl, where
// the kernel allows it. It lasts as long as the daemon, so that a change of the
// configuration leaves no gap.
type writeHook struct {
	*hook.Hook              // nil: there is none
	why        string       // there is none
	load       loader       // loads programs
	retired    []*hook.Hook // of former keys, which the sources may still read
	mode       guard.Mode
	guards     bool // the loop has begun, and there is no pause; else nothing is answered
}

// loader loads the program for the sysctls: [hook.Load], or a process with more
// rights that does it for us.
type loader func(hook.Options) (*hook.Loaded, error)

// toldPerSecond is how many writes a second to one sysctl the kernel tells of, as many as
// the loop answers in a storm; the rest is counted.
const toldPerSecond = 100

// attach hooks the sysctls of this network namespace.
func attach(s daemon.Settings, load loader) *writeHook {
	h := &writeHook{load: load, mode: s.Policy.Mode}
	for try := 1; ; try++ { // the kernel may be short of something for a moment
		fresh, err := h.open(s)
		if err == nil {
			h.Hook = fresh
			return h
		}
		if try == 3 || errors.Is(err, hook.ErrNotSupported) {
			h.why = fmt.Sprintf("BPF: %v", err)
			return h
		}
	}
}

// open hooks the sysctls of s.
func (h *writeHook) open(s daemon.Settings) (*hook.Hook, error) {
	l, err := h.load(hook.Options{Keys: hookKeys(s)})
	if err != nil {
		return nil, err
	}
	fresh, err := hook.Open(l, hook.Use{ExemptSelf: true, Watched: true, Limit: toldPerSecond})
	if err != nil {
		return nil, err
	}
	for _, k := range s.Policy.Sysctls {
		if s.Policy.Waits(k) { // until the keeper knows that bridges have their flags
			fresh.Yield(k.Key.Path(), true)
		}
	}
	fresh.SetAnswer(h.answer())
	return fresh, nil
}

// follow has the hook keep to new settings. Other keys are another program,
// which is attached while the one before still is, until [writeHook.retire].
func (h *writeHook) follow(s daemon.Settings) error {
	if h.Hook == nil {
		return nil
	}
	was := h.mode
	h.mode = s.Policy.Mode
	if slices.Equal(h.Keys(), hookKeys(s)) {
		h.SetAnswer(h.answer())
		return nil
	}
	fresh, err := h.open(s)
	if err != nil {
		h.mode = was
		return err
	}
	h.retired = append(h.retired, h.Hook)
	h.Hook = fresh
	return nil
}

// retire takes away the programs of former settings.
func (h *writeHook) retire() {
	for _, old := range h.retired {
		_ = old.Close() // what it cannot give back is gone with the process
	}
	h.retired = nil
}

// pause has the kernel let all foreign values be stored, or no longer. It is a store
// to memory that the program reads.
func (h *writeHook) pause(on bool) {
	h.guards = !on
	if h.Hook != nil {
		h.SetAnswer(h.answer())
	}
}

// answer is what the kernel shall do with a foreign value now, where it can.
func (h *writeHook) answer() hook.Answer {
	if !h.guards {
		return hook.Observe
	}
	return hookAnswer(h.mode)
}

// yield has the kernel let foreign values of k be stored, or no longer.
func (h *writeHook) yield(k guard.Key, yields bool) {
	if h.Hook != nil {
		h.Yield(k.Path(), yields)
	}
}

func (h *writeHook) close() {
	h.retire()
	if h.Hook != nil {
		_ = h.Close() // the kernel would do it in a moment, too
	}
}

func hookKeys(s daemon.Settings) []hook.Key {
	keys := make([]hook.Key, len(s.Policy.Sysctls))
	for i, k := range s.Policy.Sysctls {
		keys[i] = hook.Key{Path: k.Key.Path(), Want: k.Value}
	}
	return keys
}

// hookAnswer is what the kernel shall do with a foreign value, where it can.
func hookAnswer(m guard.Mode) hook.Answer {
	switch m {
	case guard.Lock:
		return hook.Refuse
	case guard.Enforce:
		return hook.Rewrite
	case guard.Observe:
	}
	return hook.Observe
}
