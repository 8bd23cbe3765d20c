package boot

import (
	"path"
	"slices"
	"strings"
)

// tmpfiles returns what lines of tmpfiles.d(5) write to guarded sysctls: those of
// the type w, which writes to a file that is there, so that it does nothing where
// br_netfilter comes later. systemd-tmpfiles-setup runs when all file systems are
// mounted, systemd-sysctl does not wait for that.
func (f *forecast) tmpfiles() []start {
	for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/"} {
		if f.t.masked(dir + "systemd-tmpfiles-setup.service") {
			return nil
		}
	}
	s := start{Reader: Tmpfiles, when: "once systemd-tmpfiles runs"}
	for _, file := range f.t.dropins(below("tmpfiles.d"), conf) {
		text, _ := f.t.read(file, maxFile)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if !strings.Contains(line, "/proc/sys/") {
				continue
			}
			line = strings.Trim(line, blank)
			kind, rest := firstWord(line)
			name, rest := firstWord(rest)
			if kind == "" || kind[0] != 'w' || strings.Trim(kind[1:], "+!-=~^$?") != "" {
				continue
			}
			for range 4 { // mode, user, group, age
				_, rest = firstWord(rest)
			}
			value, _, _ := strings.Cut(rest, `\n`)
			for _, key := range f.paths {
				full := "/proc/sys/" + key
				if name = strings.Trim(name, `"'`); path.Clean(name) != full && !globs(name, full) {
					continue
				}
				late := strings.HasPrefix(key, "net/bridge/") && !f.early && !f.builtin()
				s.acts = append(s.acts, act{at: Place{file, n}, key: key, value: strings.TrimSpace(value), maybe: late, opaque: strings.ContainsAny(kind, "~^")})
			}
		}
	}
	if len(s.acts) == 0 {
		return nil
	}
	return []start{s}
}

// firstWord is the first word of a line, and what comes behind it.
func firstWord(line string) (first, rest string) {
	line = strings.TrimLeft(line, blank)
	i := strings.IndexAny(line, blank)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], blank)
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
			file := path.Join(dir, name)
			text := f.t.script(file, false)
			if text == "" || !f.suspicious(text) || !f.t.executable(file) {
				continue
			}
			s := f.shell(Place{file, 1}, text)
			s.vars["1"] = []string{"start"}
			if f.spend(len(text)) {
				s.run(shlex(text), false)
			}
			if len(s.acts) > 0 {
				starts = append(starts, start{Reader: SysV, when: "once the init script " + name + " starts", acts: s.acts})
			}
			break
		}
	}
	return starts
}

func (f *forecast) hasUnit(name string) bool {
	return slices.ContainsFunc(unitDirs, func(dir string) bool { return f.t.exists(path.Join(dir, name)) })
}

// tunedScripts returns what the scripts of TuneD's active profile do, in sections
// [script]: they are started with "start" as the profile is applied.
func (f *forecast) tunedScripts() []start {
	var starts []start
	for _, u := range f.t.activeUnits() {
		if u.off || u.kind != "script" {
			continue
		}
		for _, o := range u.options {
			if o.name != "script" {
				continue
			}
			file := strings.NewReplacer("${i:PROFILE_DIR}", path.Dir(o.File)).Replace(o.value)
			if !path.IsAbs(file) {
				file = path.Join(path.Dir(o.File), file)
			}
			text := f.t.script(file, false)
			if text == "" || !f.suspicious(text) {
				continue
			}
			s := f.shell(Place{file, 1}, text)
			s.vars["1"] = []string{"start"}
			if f.spend(len(text)) {
				s.run(shlex(text), false)
			}
			if len(s.acts) > 0 {
				starts = append(starts, start{Reader: TuneD, when: "once TuneD applies its profile", acts: s.acts})
			}
		}
	}
	return starts
}
