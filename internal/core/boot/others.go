package boot

import (
	"slices"
	"strings"
)

// Others say which files that are not ours carry the state over a reboot: that
// which loads the module before systemd-sysctl, and those that set all of the
// guarded sysctls. They are "" where it is ours only, or nobody.
type Others struct{ Module, Sysctls string }

// carried looks who carries the state, by what was found out.
func (f *forecast) carried() Others {
	var o Others
	if r := f.forbidden(f.t.rules(), f.o.Module, f.deps()); f.early && r == nil && f.by.File != f.o.ModulesLoad {
		o.Module = f.by.String()
	} else if f.builtin() {
		o.Module = "every installed kernel, which has it built in,"
	}
	var files []string
	for i := range f.report.Keys {
		k := &f.report.Keys[i]
		last := k.NextBoot()
		doubtful := slices.ContainsFunc(f.report.Findings, func(s Finding) bool { return s.Subject == string(k.Key) })
		if last.Reader != SystemdSysctl || last.Effect != k.Want || last.File == f.o.SysctlD || last.File == "" || doubtful {
			return o
		}
		if !slices.Contains(files, last.File) {
			files = append(files, last.File)
		}
	}
	o.Sysctls = strings.Join(files, " and ")
	return o
}
