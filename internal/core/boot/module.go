package boot

import (
	"fmt"
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
	LoadedBy Place  `json:"loaded_by,omitzero"` // what loads it at next boot
}

// running judges the module on the running kernel.
func (f *forecast) running(k Kernel) Module {
	m := Module{Name: f.o.Module, State: k.State}
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
	if by := f.t.container(); by != "" {
		m.State, m.Reason, m.Next = Container, "this is a container ("+by+"), and modules are the host's", "load it on the host: modprobe "+f.o.Module
		return m
	}
	m.Reason, m.Next = f.lacks(&k)
	return m
}

// lacks says what is wrong with a kernel that cannot load the module.
func (f *forecast) lacks(k *Kernel) (reason, next string) {
	switch k.State {
	case Missing:
		if strings.HasSuffix(k.File, "/"+k.Release) {
			return "it is not in " + k.File, "install " + k.Package
		}
		return k.File + " is not there", "install " + k.Package
	case Unindexed:
		return k.File + " is there, but not in modules.dep", "run " + f.inRoot("depmod -b", "depmod") + " -a " + k.Release
	case Removed:
		return "/lib/modules/" + k.Release + " is gone, probably by a kernel upgrade", "reboot into the new kernel"
	case Unbuilt:
		return "that kernel was built without CONFIG_BRIDGE_NETFILTER", "boot a kernel that has it"
	case Unsigned:
		return k.File + " has no signature, and the kernel's command line asks for one", "sign it, or install the distribution's module"
	case Unknown, Loaded, BuiltIn, Loadable, Forbidden, Container:
	}
	return "", ""
}

// inRoot is a command with the directory of an image after it, or the command
// for the host itself.
func (f *forecast) inRoot(image, host string) string {
	if f.o.Image {
		return image + " " + files.Quote(f.o.Root)
	}
	return host
}

// container says by which file a container is known, or "".
func (t *tree) container() string {
	for _, mark := range []string{"/run/systemd/container", "/run/.containerenv", "/.dockerenv"} {
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
	if m := &f.report.Module; m.State == Container || f.t.container() != "" {
		if m.State == Container {
			f.found(Finding{Subject: m.Name, Sentence: m.Name + " is not loaded: " + m.Reason, Next: m.Next, Breaks: true})
		}
		return // a container's files say nothing about the host's boot
	}
	if !f.builtin() {
		f.loading()
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
	by, spoilt, ok := f.loader(name)
	f.report.Module.LoadedBy = by
	if !ok {
		s := Finding{
			Subject: name, Breaks: true, Next: f.apply(f.o.ModulesLoad),
			Sentence: "nothing loads " + name + " at next boot: no file in modules-load.d names it",
		}
		if f.o.ModulesLoad == "" {
			s.Next = "write its name to a file in /etc/modules-load.d"
		}
		if spoilt.File != "" {
			s.Place, s.Next = spoilt, "move the comment to a line of its own"
			s.Sentence = fmt.Sprintf("nothing loads %s at next boot: %s has more than its name in the line", name, spoilt)
		}
		f.found(s)
	}
	rules := f.t.rules()
	deps := f.deps()
	if r := f.forbidden(rules, name, deps); r != nil {
		f.found(Finding{
			Subject: name, Place: r.Place, Breaks: true, Next: r.remove(),
			Sentence: fmt.Sprintf("%s will not be loaded at next boot: %s forbids it: %s", name, r.Place, r.text),
		})
	} else if r := install(rules, canonical(name)); r != nil {
		f.found(Finding{
			Subject: name, Place: r.Place, Next: "see that this command loads it",
			Sentence: fmt.Sprintf("%s is loaded at next boot if the command of %s loads it: %s", name, r.Place, r.text),
		})
	}
	f.switchedOff(ok)
	f.unitsMasked()
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
