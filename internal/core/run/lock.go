package run

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/kernel/hook"
)

// LockSubject is what the findings about the lock are about.
const LockSubject = `mode = "lock"`

// weak says what of the settings the kernel does not let us keep.
func (h *writeHook) weak(s daemon.Settings) []guard.Finding {
	if s.Policy.Mode != guard.Lock { // where the kernel does not rewrite, what it stores is put right
		return nil
	}
	l := lock{bridges: s.Policy.Bridges != nil}
	switch {
	case h.Hook == nil:
		l.why = h.why
	case h.Can(hook.Refuse) != hook.Refuse: // whether there is a pause or not
		l.why = h.How()
	default:
		l.free = h.Unlocked()
	}
	for _, k := range s.Policy.Sysctls {
		if errors.Is(unix.Access(k.Key.File(), unix.W_OK), unix.EROFS) {
			l.readOnly = append(l.readOnly, k.Key.Path())
		}
	}
	l.nowhere = len(l.readOnly) > 0 && len(l.readOnly) == len(s.Policy.Sysctls)
	return l.findings()
}

// lock is how far mode "lock" reaches on this host.
type lock struct {
	why      string   // it is not in force; "": it is
	free     []string // where it is, sysctls that can't be locked, below /proc/sys
	bridges  bool     // flags of bridges are kept
	readOnly []string // sysctls that we can't write to either
	nowhere  bool     // these are all there are
}

// findings says what is not locked, and what becomes of foreign values there.
func (l *lock) findings() (list []guard.Finding) {
	add := func(sentence, next string) {
		list = append(list, guard.Finding{Subject: LockSubject, Sentence: sentence, Next: next})
	}
	const (
		enforced = "none is needed: they are enforced"
		writable = "give nfguard's unit write access to /proc/sys, or run nfguard on the host and not in a container"
	)
	if l.why != "" {
		if l.nowhere {
			add(LockSubject+" is not in force, and /proc/sys is mounted read-only here: foreign values are neither kept out nor put right: "+l.why, writable)
		} else {
			add(LockSubject+" is not in force: foreign values are put right and not kept out: "+l.why, "see bpf(2) for what that takes, or set mode = \"enforce\"")
		}
	}
	if l.bridges {
		add("the flags of bridges can't be locked, they are put right", enforced)
	}
	var kept, lost []string
	for _, path := range l.free {
		key := strings.ReplaceAll(path, "/", ".")
		if slices.Contains(l.readOnly, path) {
			lost = append(lost, key)
		} else {
			kept = append(kept, key)
		}
	}
	if len(kept) > 0 {
		add("foreign values are put right and not kept out of "+strings.Join(kept, ", ")+": no number below net", enforced)
	}
	if len(lost) > 0 {
		add("foreign values are neither kept out of "+strings.Join(lost, ", ")+" (no number below net) nor put right: it is mounted read-only here", writable)
	}
	return list
}
