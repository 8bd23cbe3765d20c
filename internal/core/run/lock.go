package run

import (
	"strings"

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
	next := "see bpf(2) for what that takes, or set mode = \"enforce\""
	if h.Hook == nil {
		return []guard.Finding{{
			Subject: LockSubject, Next: next,
			Sentence: LockSubject + " is not in force: foreign values are put right and not kept out: " + h.why,
		}}
	}
	var list []guard.Finding
	if h.Answer() != hook.Refuse {
		list = append(list, guard.Finding{
			Subject: LockSubject, Next: next,
			Sentence: LockSubject + " is not in force: foreign values are put right and not kept out: " + h.How(),
		})
	}
	if s.Policy.Bridges != nil {
		list = append(list, guard.Finding{
			Subject: LockSubject, Next: "none is needed: they are enforced",
			Sentence: "the flags of bridges can't be locked, they are put right",
		})
	}
	if free := h.Unlocked(); len(free) > 0 {
		list = append(list, guard.Finding{
			Subject: LockSubject, Next: "none is needed: they are enforced",
			Sentence: "foreign values are put right and not kept out of " + strings.ReplaceAll(strings.Join(free, ", "), "/", ".") + ": no number below net",
		})
	}
	return list
}
