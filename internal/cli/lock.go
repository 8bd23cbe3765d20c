package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nfguard/nfguard/internal/config"
	"github.com/nfguard/nfguard/internal/daemon"
	"github.com/nfguard/nfguard/internal/guard"
	"github.com/nfguard/nfguard/internal/source"
	"github.com/nfguard/nfguard/internal/sysctlhook"
)

// hook is the BPF program that sees every write to a guarded sysctl, where
// the kernel allows it. It lasts as long as the daemon, so that a change of
// the configuration leaves no gap.
type hook struct {
	*sysctlhook.Hook        // nil: there is none
	why              string // there is none
}

// told is how many writes a second to one sysctl the kernel tells of, as many as
// the loop answers in a storm; the rest is counted.
const told = 100

// attach hooks the sysctls of this network namespace.
func attach(s daemon.Settings) *hook {
	for try := 1; ; try++ { // the kernel may be short of something for a moment
		h, err := sysctlhook.Attach(sysctlhook.Options{Keys: hookKeys(s), Answer: hookAnswer(s.Answer), ExemptSelf: true, Watched: true, Limit: told})
		if err == nil {
			return &hook{Hook: h}
		}
		if try == 3 || errors.Is(err, sysctlhook.ErrNotSupported) {
			return &hook{why: fmt.Sprintf("BPF: %v", err)}
		}
	}
}

// follow has the hook keep to new settings.
func (h *hook) follow(s daemon.Settings) error {
	if h.Hook == nil {
		return nil
	}
	if err := h.SetKeys(hookKeys(s)); err != nil {
		return err
	}
	return h.SetAnswer(hookAnswer(s.Answer))
}

func (h *hook) close() {
	if h.Hook != nil {
		_ = h.Close() // the kernel would do it in a moment, too
	}
}

func hookKeys(s daemon.Settings) []sysctlhook.Key {
	keys := make([]sysctlhook.Key, len(s.Policy.Sysctls))
	for i, k := range s.Policy.Sysctls {
		keys[i] = sysctlhook.Key{Path: k.Key.Path(), Want: k.Value}
	}
	return keys
}

func hookAnswer(a source.Answer) sysctlhook.Answer {
	switch a {
	case source.Refused:
		return sysctlhook.Refuse
	case source.Rewritten:
		return sysctlhook.Rewrite
	case source.Stored:
	}
	return sysctlhook.Observe
}

// answer is what the kernel is to do with foreign values.
func answer(c config.Config) source.Answer {
	switch {
	case c.Mode != config.ModeLock:
		return source.Stored
	case c.Lock.Answer == config.AnswerRewrite:
		return source.Rewritten
	}
	return source.Refused
}

// lockSubject is what the findings about the lock are about.
const lockSubject = `mode = "lock"`

// weak says what of the settings the kernel does not let us keep.
func (h *hook) weak(s daemon.Settings) []guard.Finding {
	if s.Answer == source.Stored {
		return nil
	}
	next := "see bpf(2) for what that takes, or set mode = \"enforce\""
	if h.Hook == nil {
		return []guard.Finding{{
			Subject: lockSubject, Next: next,
			Sentence: lockSubject + " is not in force: foreign values are put right and not kept out: " + h.why,
		}}
	}
	var list []guard.Finding
	if want, have := hookAnswer(s.Answer), h.Answer(); have != want {
		f := guard.Finding{Subject: lockSubject, Next: next, Sentence: lockSubject + " is not in force: foreign values are put right and not kept out: " + h.How()}
		if have == sysctlhook.Refuse {
			f.Sentence = `answer = "rewrite" is not in force, writers are refused instead: ` + h.How()
			f.Next = `set answer = "refuse" under [lock], or use a kernel that can`
		}
		list = append(list, f)
	}
	if s.Policy.Bridges != nil {
		list = append(list, guard.Finding{
			Subject: lockSubject, Next: "none is needed: they are enforced",
			Sentence: "the flags of bridges can't be locked, they are put right",
		})
	}
	if free := h.Unlocked(); len(free) > 0 {
		list = append(list, guard.Finding{
			Subject: lockSubject, Next: "none is needed: they are enforced",
			Sentence: "foreign values are put right and not kept out of " + strings.ReplaceAll(strings.Join(free, ", "), "/", ".") + ": no number below net",
		})
	}
	return list
}

// locked says for a check, which has no hook, whether the daemon's lock is in
// force.
func (a *app) locked(s *daemon.Settings) []guard.Finding {
	if s.Answer == source.Stored || a.root != "" {
		return nil
	}
	status, err := readStatus()
	if err != nil {
		return []guard.Finding{{
			Subject: lockSubject, Sentence: lockSubject + " is not in force: it lasts as long as the daemon, and nfguard is not running",
			Next: "systemctl start nfguard",
		}}
	}
	var list []guard.Finding
	for _, f := range status.Findings {
		if f.Subject == lockSubject {
			list = append(list, f)
		}
	}
	return list
}
