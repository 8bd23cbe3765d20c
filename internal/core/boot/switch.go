package boot

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// switchedOff reports what keeps the kernel from loading any module.
func (f *forecast) switchedOff(loader bool) {
	early := f.bootSysctl(guard.Key(modulesDisabled).Path())
	if w, ok := f.param("nomodule"); ok && w.value != "0" || len(early) > 0 && early[len(early)-1].value == "1" {
		at := Place{File: cmdlinePlace}
		f.report.Module.LoadedBy = Place{}
		f.found(Finding{
			Subject: f.o.Module, Place: at, Breaks: true, Next: at.remove(),
			Sentence: f.o.Module + " will not be loaded at next boot: the kernel's command line switches off the loading of modules",
		})
	}
	// Set by systemd-sysctl, which comes after systemd-modules-load.
	key := guard.Setting{Key: modulesDisabled, Value: "1"}
	writes, _ := systemdWrites(f.lines, key.Key.Path())
	o := outcome(SystemdSysctl, key, writes)
	if o.Effect != "1" {
		return
	}
	f.found(Finding{
		Subject: f.o.Module, Place: o.Place, Breaks: !loader, Next: nextKeepLoading,
		Sentence: fmt.Sprintf("at next boot no module can be loaded once systemd-sysctl has run: %s sets %s", o.Place, key.Key),
	})
}

// unitsMasked reports that the units which read modules-load.d and sysctl.d
// will not run (systemd.unit(5); systemd-debug-generator(8) for the command
// line).
func (f *forecast) unitsMasked() {
	if f.unitMasked("systemd-modules-load.service", "reads /etc/modules-load.d") && f.report.Module.LoadedBy == f.by {
		f.report.Module.LoadedBy = Place{}
	}
	f.unitMasked("systemd-sysctl.service", "reads /etc/sysctl.d")
}

// unitMasked reports that a unit will not run, and what nobody does then.
func (f *forecast) unitMasked(unit, what string) bool {
	place, next := Place{}, fmt.Sprintf(nextUnmask, f.inRoot("systemctl --root", "systemctl"), unit)
	for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/"} {
		if f.t.masked(dir + unit) {
			place.File = dir + unit
			break
		}
	}
	for _, w := range f.words {
		if w.name == "systemd.mask" && w.value == unit {
			place.File, next = cmdlinePlace, fmt.Sprintf(nextUnmaskWord, w.text)
		}
	}
	if place.File == "" {
		return false
	}
	f.found(Finding{
		Subject: unit, Place: place, Next: next, Breaks: true,
		Sentence: fmt.Sprintf("nothing %s at next boot: %s is masked by %s", what, unit, place.File),
	})
	return true
}
