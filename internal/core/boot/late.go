package boot

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// ruleFile is the packaged rule of udev, which has sysctl.d read again.
const ruleFile = "/usr/lib/udev/rules.d/99-nfguard.rules"

// late is about a key that comes with the module after systemd-sysctl has run, and with
// another value than is wanted: what sysctl.d says of it is not heard, unless it is
// read again then. It reports that nobody does.
func (f *forecast) late(s guard.Setting, boot *Outcome) bool {
	came := atLoad(s.Key)
	if boot.Reader != SystemdSysctl || boot.Place == (Place{}) || !guard.SameValue(boot.Effect, s.Value) ||
		!s.Key.BridgeNF() || guard.SameValue(came, s.Value) || f.builtin() {
		return false
	}
	if f.early && f.forbidden(f.t.rules(), f.o.Module, f.deps()) == nil || f.readAgain(s.Key) {
		return false
	}
	f.found(Finding{
		Subject: string(s.Key), Place: boot.Place, Breaks: true, Next: fmt.Sprintf(nextUdevRule, ruleFile),
		Sentence: fmt.Sprintf("%s will be %s when something loads %s: %s was read before that, and no rule of udev has it read again",
			s.Key, came, f.o.Module, boot.Place),
	})
	return true
}

// readAgain reports whether it is certain that systemd-sysctl sets the key once more
// when the module is loaded.
func (f *forecast) readAgain(key guard.Key) bool {
	for i := range f.starts {
		s := &f.starts[i]
		for _, a := range s.acts {
			if a.again && a.key == key.Path() && !a.maybe && s.module == canonical(f.o.Module) {
				return true
			}
		}
	}
	return false
}
