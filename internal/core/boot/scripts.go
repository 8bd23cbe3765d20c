package boot

import (
	"path"
	"slices"
	"strings"
)

// startedScript returns what a script does that is started with the word start.
func (f *forecast) startedScript(r Reader, when, file string) []start {
	text := f.t.script(file, false)
	if text == "" || !f.suspicious(text) {
		return nil
	}
	s := f.shell(Place{file, 1}, text)
	s.vars["1"] = []string{"start"}
	if f.spend(len(text)) {
		s.run(shlex(text), false)
	}
	if len(s.acts) == 0 {
		return nil
	}
	return []start{{Reader: r, when: when, acts: s.acts}}
}

// tunedScripts returns what the scripts of TuneD's active profile do, in sections
// [script]: they are started as the profile is applied.
func (f *forecast) tunedScripts() (starts []start) {
	for _, u := range f.t.activeUnits() {
		if u.off || u.kind != "script" {
			continue
		}
		for _, o := range u.options {
			if o.name != "script" {
				continue
			}
			file := strings.ReplaceAll(o.value, "${i:PROFILE_DIR}", path.Dir(o.File))
			if !path.IsAbs(file) {
				file = path.Join(path.Dir(o.File), file)
			}
			starts = append(starts, f.startedScript(TuneD, TuneD.when(), file)...)
		}
	}
	return starts
}

// ufwScripts returns what the scripts do that ufw runs as it starts, where it is
// enabled.
func (f *forecast) ufwScripts() (starts []start) {
	if !f.t.ufwEnabled() {
		return nil
	}
	for _, file := range []string{"/etc/ufw/before.init", "/etc/ufw/after.init"} {
		if f.t.executable(file) {
			starts = append(starts, f.startedScript(UFW, UFW.when(), file)...)
		}
	}
	return starts
}

// initScripts returns what scripts of System V do that are started at boot, as
// systemd-sysv-generator(8) has it: those of the runlevels 2 to 5 for which there
// is no unit.
func (f *forecast) initScripts() []start {
	var names []string
	for _, dir := range []string{"/etc", "/etc/rc.d"} {
		for _, level := range []string{"2", "3", "4", "5"} {
			for _, e := range f.t.list(dir + "/rc" + level + ".d") {
				if n := e.Name(); len(n) > 3 && n[0] == 'S' && !slices.Contains(names, n) {
					names = append(names, n)
				}
			}
		}
	}
	slices.Sort(names)
	var starts []start
	for i, link := range names {
		name := link[3:]
		if slices.ContainsFunc(names[:i], func(n string) bool { return n[3:] == name }) || f.hasUnit(name+".service") {
			continue
		}
		for _, dir := range []string{"/etc/init.d", "/etc/rc.d/init.d"} {
			if file := path.Join(dir, name); f.t.executable(file) {
				starts = append(starts, f.startedScript(SysV, "once the init script "+name+" starts", file)...)
				break
			}
		}
	}
	return starts
}

func (f *forecast) hasUnit(name string) bool {
	return slices.ContainsFunc(unitDirs, func(dir string) bool { return f.t.exists(path.Join(dir, name)) })
}
