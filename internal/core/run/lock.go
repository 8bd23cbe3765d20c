package run

import (
	"errors"
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
	case h.Answer() != hook.Refuse:
		l.why = h.How()
	default:
		l.free = h.Unlocked()
	}
	for _, k := range s.Policy.Sysctls {
		if errors.Is(unix.Access(k.Key.File(), unix.W_OK), unix.EROFS) {
			l.readOnly = true
		}
	}
	return l.findings()
}

// lock is how far mode "lock" reaches on this host.
type lock struct {
	why      string   // it is not in force; "": it is
	free     []string // where it is, sysctls that can't be locked, below /proc/sys
	bridges  bool     // flags of bridges are kept
	readOnly bool     // nor can we write to a sysctl
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
		if l.readOnly {
			add(LockSubject+" is not in force, and /proc/sys is mounted read-only here: foreign values are neither kept out nor put right: "+l.why, writable)
		} else {
			add(LockSubject+" is not in force: foreign values are put right and not kept out: "+l.why, "see bpf(2) for what that takes, or set mode = \"enforce\"")
		}
	}
	if l.bridges {
		add("the flags of bridges can't be locked, they are put right", enforced)
	}
	if len(l.free) > 0 {
		keys := strings.ReplaceAll(strings.Join(l.free, ", "), "/", ".")
		if l.readOnly {
			add("foreign values are neither kept out of "+keys+", for it is no number below net, nor put right, for /proc/sys is mounted read-only here", writable)
		} else {
			add("foreign values are put right and not kept out of "+keys+": no number below net", enforced)
		}
	}
	return list
}
