package keep

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// asChanged tells what the administrator has had changed from what others have.
const asChanged = "as the changed configuration asks"

var (
	errNotKept  = errors.New("it did not stay: the kernel does not keep it, or somebody whom nfguard can't see changes it back at once")
	errVanished = errors.New("it disappeared right after it was set")
)

// notKeptError says of a sysctl that takes a value and shows another one.
type notKeptError struct{ wrote, shows string }

func (e *notKeptError) Error() string {
	return fmt.Sprintf("it did not stay: %s was written %d times and the kernel shows %s; "+
		"it prints that value in another way, another key changes this one, or somebody whom nfguard can't see does",
		quoted(e.wrote), maxStuck, quoted(e.shows))
}

func (*notKeptError) Unwrap() error { return errNotKept }

func (e *notKeptError) Next() string {
	return fmt.Sprintf("if %s is what you mean, write it so under [sysctl]; to leave the key alone set it to \"ignore\" there", quoted(e.shows))
}

// driftMessage is the sentence of a drift. bound is how long the foreign
// value can have stood at most, where only that is known; 0: not even that.
func driftMessage(e *record.Event, bound time.Duration) string {
	var b strings.Builder
	switch e.Outcome {
	case record.Observed, record.Held, record.Paused:
		fmt.Fprintf(&b, "%s is %s, wanted %s%s; %s", e.Subject, quoted(e.Have), e.Want, by(e.Writer), whyLeft(e.Outcome))
		return b.String()
	case record.Failed:
		fmt.Fprintf(&b, "%s is %s, wanted %s%s; could not set it: %v", e.Subject, quoted(e.Have), e.Want, by(e.Writer), e.Err)
		return b.String()
	case record.Corrected, record.Reverted, record.Denied, record.Rewritten:
	}
	fmt.Fprintf(&b, "%s was %s, set ", e.Subject, quoted(e.Have))
	switch {
	case e.Source == record.CausePause && e.Duration > 0:
		fmt.Fprintf(&b, "back to %s after %s, at the end of a pause", e.Want, words.Short(e.Duration))
	case e.Duration > 0:
		fmt.Fprintf(&b, "back to %s after %s%s", e.Want, words.Short(e.Duration), by(e.Writer))
	case e.Source == record.CauseStart:
		fmt.Fprintf(&b, "back to %s, as found at start", e.Want)
	case bound > 0:
		fmt.Fprintf(&b, "back to %s, after at most %s (nobody was seen writing it)", e.Want, words.Short(bound))
	case e.Source == record.CauseReload:
		fmt.Fprintf(&b, "to %s, %s", e.Want, asChanged)
	default:
		fmt.Fprintf(&b, "back to %s", e.Want)
	}
	if e.Outcome == record.Reverted {
		b.WriteString(", and changed again at once")
	}
	return b.String()
}

// keptMessage is the sentence of a write whose value the kernel did not store,
// or, where no value is known, of the writes of a storm that it did not tell of.
func keptMessage(e *record.Event) string {
	name, outcome := words.Writer(e.Writer), "refused"
	if e.Outcome == record.Rewritten {
		outcome = "rewritten"
	}
	if e.Have == "" {
		if name != "" {
			name = " by " + name
		}
		return fmt.Sprintf("%s stays %s: %d more writes%s were %s", e.Subject, e.Want, 1+e.Suppressed, name, outcome)
	}
	name = cmp.Or(name, "a process")
	if e.Outcome == record.Rewritten {
		return fmt.Sprintf("%s stays %s: %s wrote %s, which was rewritten", e.Subject, e.Want, name, quoted(e.Have))
	}
	return fmt.Sprintf("%s stays %s: %s wrote %s and was refused", e.Subject, e.Want, name, quoted(e.Have))
}

// correctedMessage is the sentence for a module or a drop-in that was put
// right, which took so long. gone are the bridges that were removed since the pass before.
func correctedMessage(e *record.Event, took time.Duration, gone []guard.Bridge) string {
	switch e.Kind { //nolint:exhaustive // only these two are put right here
	case record.KindModule:
		msg := fmt.Sprintf("%s was not loaded, loaded in %s", e.Subject, words.Short(took))
		if len(gone) > 0 {
			msg += fmt.Sprintf("; unloading it removed %s and all ports, and they do not come back by themselves: have the CNI plugin create them again",
				someNames(gone))
		}
		return msg
	default:
		if e.Source == record.CauseReload {
			return e.Subject + " is written anew, " + asChanged
		}
		return fmt.Sprintf("%s was %s, written again", e.Subject, e.Have)
	}
}

func stuckMessage(e *record.Event) string {
	return fmt.Sprintf("%s is %s, wanted %s: %v", e.Subject, orUnknown(e.Now), e.Want, e.Err)
}

// beganMessage says that a fight has begun, by reversals within so long.
func (f *fight) beganMessage(within time.Duration, c Contention) string {
	policy := "nfguard goes on correcting it, at a bounded pace, and records it once a minute"
	switch {
	case f.kind == record.KindDenied:
		policy = "none of it is stored; that is recorded once a minute"
	case f.outcome == record.Observed:
		policy = "mode observe leaves it so, and that is recorded once a minute"
	case f.outcome == record.Paused:
		policy = "nfguard is paused and leaves it so, and that is recorded once a minute"
	case c.Yield:
		policy = "nfguard leaves it alone until nobody has written to it for " + words.Short(c.Window)
	case f.outcome == record.Rewritten:
		policy = "none of it is stored; that is recorded once a minute"
	}
	return fmt.Sprintf("%s was %s %d times within %s%s; %s", f.subject, f.did(), c.Limit, words.Short(within), f.by(), policy)
}

func (f *fight) goesOnMessage() string {
	return fmt.Sprintf("%s was %s %d more times since the last record%s", f.subject, f.did(), f.count, f.by())
}

// endedMessage says that a fight that took so long has ended.
func (f *fight) endedMessage(took time.Duration, c Contention) string {
	return fmt.Sprintf("nobody has %s %s for %s; it was %s %d more times in the %s before%s",
		f.did(), f.subject, words.Short(c.Window), f.did(), f.total-1, words.Short(took), f.by())
}

// did says what the other side does to the subject.
func (f *fight) did() string {
	if f.kind == record.KindDenied || f.outcome == record.Rewritten {
		return "written to"
	}
	return "changed"
}

// by names the other side, with its share where others write too, or nothing.
func (f *fight) by() string {
	top := f.tally.most()
	if top.n == 0 || top.n == f.tally.total {
		return by(f.side())
	}
	return fmt.Sprintf(" (written by %s, %d of %d writes)", words.Writer(top.writer), top.n, f.tally.total)
}

// spare says how to have nfguard leave alone what is fought over.
func spare(kind record.Kind) string {
	switch kind { //nolint:exhaustive // those that are put right
	case record.KindFlag:
		return "add the bridge to ignore under [bridges]"
	case record.KindDropin:
		return "set enabled = false under [persist]"
	case record.KindModule:
		return "set mode = \"observe\""
	}
	return "set the key to \"ignore\" under [sysctl]"
}

// endedMessage says how what was complained of has ended.
func endedMessage(e *record.Event, how, why string) string {
	return e.Subject + " " + how + " (" + e.Now + "), after " + words.Short(e.Duration) + why
}

// wrongMessage says what is not as wanted, and that nothing is done about it.
func wrongMessage(it *guard.Item) string {
	return it.Subject + " is " + orUnknown(it.Have) + ", wanted " + it.Want + ": " + it.Reason
}

// by names the writer, or nothing.
func by(w record.Process) string {
	who := words.Writer(w)
	if who == "" {
		return ""
	}
	return " (written by " + who + ")"
}

// next is the next step for an error, or "".
func next(err error) string {
	var known interface{ Next() string }
	if errors.As(err, &known) {
		return known.Next()
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		return "it is mounted read-only: give nfguard's unit write access to it, or run nfguard on the host and not in a container"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: make room; nothing was lost, the old file is in place"
	case errors.Is(err, errNotKept):
		return "find out who changes it back: nfguard events names those who were seen"
	case errors.Is(err, fs.ErrPermission):
		return "run it as root; under systemd see the unit's capabilities, elsewhere a security module"
	}
	return ""
}

func quoted(value string) string {
	if value == "" || strings.ContainsAny(value, " \t") {
		return fmt.Sprintf("%q", value)
	}
	return value
}

func orUnknown(have string) string {
	if have == "" {
		return "unknown"
	}
	return have
}
