package boot

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/files"
)

// Module is the verdict on the guarded module and the running kernel.
type Module struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Place    Place  `json:"place,omitzero"`     // the line that forbids it
	Reason   string `json:"reason,omitempty"`   // why it cannot be loaded; "" when it can, or is
	Next     string `json:"next,omitempty"`     // what to do about it
	LoadedBy Place  `json:"loaded_by,omitzero"` // what loads it at next boot; zero: nothing does
	In       string `json:"-"`                  // the file by which a container is known; "": none
}

// running judges the module on the running kernel.
func (f *forecast) running(k Kernel) Module {
	m := Module{Name: f.o.Module, State: k.State, In: f.t.container()}
	if f.o.Loaded && k.State != BuiltIn {
		m.State = Loaded
	}
	if m.State == Loaded || m.State == BuiltIn || m.State == Unknown {
		return m
	}
	if m.State == Loadable {
		if r := f.forbidden(f.t.rules(), f.o.Module, k.deps); r != nil {
			m.State, m.Place = Forbidden, r.Place
			m.Reason, m.Next = fmt.Sprintf("%s forbids it: %s", r.Place, r.text), r.remove()
		}
		return m
	}
	if m.In != "" {
		m.State, m.Reason, m.Next = Container, "this is a container ("+m.In+"), and modules are the host's", fmt.Sprintf(nextHost, f.o.Module)
		return m
	}
	if f.report.Kernels == nil {
		f.kernels()
	}
	m.Reason, m.Next = f.lacks(&k)
	return m
}

// lacks says what is wrong with a kernel that cannot load the module, and what
// to do: boot another one that has it, or have this one get it.
func (f *forecast) lacks(k *Kernel) (reason, next string) {
	has, other := f.better(k.Release)
	switch k.State {
	case Missing:
		reason, next = "it is not in "+k.File, k.next
		if !strings.HasSuffix(k.File, "/"+k.Release) {
			reason = k.File + " is not there"
		}
	case Unindexed:
		return k.File + " is there, but not in modules.dep", fmt.Sprintf(nextDepmod, f.inRoot("depmod -b", "depmod"), k.Release)
	case Removed:
		reason = "/lib/modules/" + k.Release + " is gone, probably by a kernel upgrade"
		switch _, again := f.carrier(k.Release); {
		case has != nil:
			return reason, fmt.Sprintf(nextReboot, has.Release)
		case other != nil:
			if _, step := f.lacks(other); strings.HasPrefix(step, "boot ") {
				return reason, step
			} else if step != "" {
				return reason, fmt.Sprintf(nextForOther, other.Release, step)
			}
			return reason, fmt.Sprintf(nextReboot, other.Release)
		default:
			return "/lib/modules/" + k.Release + " is not there, and no other kernel is installed", again
		}
	case Unbuilt:
		reason, next = "that kernel was built without CONFIG_BRIDGE_NETFILTER", nextOtherKernel
	case Unsigned:
		reason, next = k.File+" has no signature, and the kernel's command line asks for one", nextSign
	case Unknown, Loaded, BuiltIn, Loadable, Forbidden, Container:
		return "", ""
	}
	switch {
	case has == nil:
	case k.Running && newer(has.Release, k.Release):
		next = fmt.Sprintf(nextRebootOr, has.Release, next)
	default:
		next = fmt.Sprintf(nextOrBoot, next, has.Release)
	}
	return reason, next
}

// inRoot is a command with the directory of an image after it, or the command
// for the host itself.
func (f *forecast) inRoot(image, host string) string { return f.within(image+" %s", host) }

// within is a part of a command that has the directory of an image, or what
// stands there for the host itself.
func (f *forecast) within(image, host string) string {
	if f.o.Image {
		return fmt.Sprintf(image, files.Quote(f.o.Root))
	}
	return host
}

// containerMarks are the files by which a container is known: of systemd, of
// managers that keep to its interface (systemd.io/CONTAINER_INTERFACE), of podman
// and CRI-O, of Docker; and, since containerd leaves none, of a pod.
var containerMarks = []string{
	"/run/systemd/container", "/run/host/container-manager", "/run/.containerenv", "/.dockerenv",
	"/var/run/secrets/kubernetes.io", "/run/secrets/kubernetes.io",
}

// container says by which file a container is known, or "".
func (t *tree) container() string {
	for _, mark := range containerMarks {
		if t.exists(mark) {
			return mark
		}
	}
	return ""
}

// builtin reports whether every kernel that can be booted has it built in.
func (f *forecast) builtin() bool {
	some := false
	for _, k := range f.report.Kernels {
		if k.Bootable && k.State != BuiltIn {
			return false
		}
		some = some || k.Bootable
	}
	return some
}

// module judges the module at next boot.
func (f *forecast) module() {
	current := Kernel{State: Unknown} // of a tree, none runs
	if i := slices.IndexFunc(f.report.Kernels, func(k Kernel) bool { return k.Running }); i >= 0 {
		current = f.report.Kernels[i]
	}
	f.report.Module = f.running(current)
	if f.o.Unneeded {
		f.unitMasked("systemd-sysctl.service", "reads /etc/sysctl.d")
		return
	}
	if m := &f.report.Module; m.State == Container || f.t.container() != "" {
		if m.State == Container {
			f.found(Finding{Subject: m.Name, Sentence: m.Name + " is not loaded: " + m.Reason, Next: m.Next, Breaks: true})
		}
		return // a container's files say nothing about the host's boot
	}
	if !f.builtin() {
		f.loading()
		f.kmodDepends()
	}
	for _, k := range f.report.Kernels {
		if reason, next := f.lacks(&k); k.Bootable && reason != "" {
			f.found(Finding{
				Subject: k.Release, Place: Place{File: k.File}, Next: next, Breaks: true,
				Sentence: fmt.Sprintf("kernel %s will come up without %s: %s", k.Release, f.o.Module, reason),
			})
		}
	}
}

// loading reports what keeps the module from being loaded at next boot, before
// systemd-sysctl.
func (f *forecast) loading() {
	name := f.o.Module
	late, plain := f.lateLoader()
	f.report.Module.LoadedBy = f.by
	switch {
	case f.early:
	case late != nil:
		f.report.Module.LoadedBy = plain.at
	default:
		f.found(f.unloaded())
	}
	r := f.forbidden(f.t.rules(), name, f.deps())
	switch i := f.install(f.t.rules(), canonical(name)); {
	case r == nil && i != nil && f.loads(i, name) == unclear:
		f.found(Finding{
			Subject: name, Place: i.Place, Next: nextSeeItLoads,
			Sentence: fmt.Sprintf("%s is loaded at next boot if the command of %s loads it: %s", name, i.Place, i.text),
		})
	case r == nil:
	case r.soft() && late != nil && plain.plain:
		f.report.Module.LoadedBy = plain.at
		f.found(Finding{
			Subject: name, Place: r.Place, Next: r.remove(),
			Sentence: fmt.Sprintf("%s will not be loaded by systemd-modules-load at next boot: %s forbids it: %s; %s loads it all the same, %s",
				name, r.Place, r.text, plain.at, late.when),
		})
	case r.soft():
		f.report.Module.LoadedBy = Place{}
		f.found(Finding{
			Subject: name, Place: r.Place, Breaks: true, Next: r.remove(),
			Sentence: fmt.Sprintf("%s will not be loaded by systemd-modules-load at next boot: %s forbids it: %s; a plain modprobe would load it", name, r.Place, r.text),
		})
	case late != nil && plain.direct && r.verb == "install":
		f.report.Module.LoadedBy = plain.at
	default:
		f.report.Module.LoadedBy = Place{}
		f.found(Finding{
			Subject: name, Place: r.Place, Breaks: true, Next: r.remove(),
			Sentence: fmt.Sprintf("%s will not be loaded at next boot: %s forbids it: %s", name, r.Place, r.text),
		})
	}
	f.switchedOff(f.early)
	f.unitsMasked()
}

// lateLoader returns what loads the module at boot besides systemd-modules-load,
// and by which act: a unit that runs modprobe, for one.
func (f *forecast) lateLoader() (*start, *act) {
	for i := range f.starts {
		s := &f.starts[i]
		for j := range s.acts {
			if a := &s.acts[j]; s.Reader != ModprobeInstall && a.load == canonical(f.o.Module) && !a.maybe {
				return s, a
			}
		}
	}
	return nil, nil
}

// unloaded says that nothing loads the module, and which line is meant to.
func (f *forecast) unloaded() Finding {
	name := f.o.Module
	s := Finding{
		Subject: name, Breaks: true, Next: nextModulesLoad,
		Sentence: "nothing loads " + name + " at next boot: no file in modules-load.d names it",
	}
	ours := f.o.ModulesLoad
	switch {
	case f.missed != nil && f.missed.File == ours && !f.foreign(ours):
		s.Place, s.Next = f.missed.Place, f.apply(ours)
		s.Sentence = fmt.Sprintf("nothing loads %s at next boot: %s %s", name, f.missed.Place, f.missed.what)
	case f.missed != nil:
		s.Place, s.Next = f.missed.Place, f.missed.next
		s.Sentence = fmt.Sprintf("nothing loads %s at next boot: %s %s", name, f.missed.Place, f.missed.what)
	case ours == "":
	case !readsDir("modules-load.d", ours):
		s.Place, s.Next = Place{File: ours}, fmt.Sprintf(nextOwnName, "modules_load", "/etc/modules-load.d/nfguard.conf")
		s.Sentence = fmt.Sprintf("nothing loads %s at next boot: systemd-modules-load does not read %s", name, ours)
	case f.foreign(ours):
		s.Place, s.Next = Place{File: ours}, nextMoveAway
		s.Sentence = fmt.Sprintf("nothing loads %s at next boot: %s is somebody else's, and does not name it", name, ours)
	default:
		s.Next = f.apply(ours)
	}
	return s
}

// readsDir reports whether the readers of a family read a file of ours by its
// path.
func readsDir(family, file string) bool {
	return slices.Contains(below(family), path.Dir(file))
}

// deps is what the module needs in any kernel that can be booted.
func (f *forecast) deps() []string {
	var all []string
	for _, k := range f.report.Kernels {
		if k.Bootable {
			all = append(all, k.deps...)
		}
	}
	return all
}
