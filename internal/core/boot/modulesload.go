package boot

import (
	"slices"
	"strings"
)

// loader returns the line that has systemd-modules-load load module at boot,
// and false when there is none; then miss is a line that is meant to, or nil. A
// line is a name as a whole: one with a comment after the name loads nothing.
// What a "softdep" of modprobe.d loads with a module that is named is loaded,
// too. (modules-load.d(5); rd.modules_load= counts in the initrd only.)
func (f *forecast) loader(module string) (by Place, m *miss, ok bool) {
	loads := append([]string{canonical(module)}, f.softly(module)...)
	for _, w := range f.words {
		if canonical(w.name) == "modules_load" && slices.ContainsFunc(strings.Split(w.value, ","),
			func(m string) bool { return slices.Contains(loads, canonical(m)) }) {
			return Place{File: cmdlinePlace}, nil, true
		}
	}
	for _, file := range f.t.systemdDropins("modules-load.d") {
		text, _ := f.t.read(file, maxFile)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.Trim(line, blank)
			if line == "" || line[0] == '#' || line[0] == ';' {
				continue
			}
			if slices.Contains(loads, canonical(line)) {
				return Place{file, n}, nil, true
			}
			if m == nil {
				m = missedName(Place{file, n}, line, module)
			}
		}
	}
	if m == nil {
		m = f.missedLoader(module)
	}
	return Place{}, m, false
}

// softly returns the modules with which modprobe loads module by a "softdep".
func (f *forecast) softly(module string) []string {
	var with []string
	for _, r := range f.t.rules() {
		if r.verb == "softdep" && slices.ContainsFunc(r.args[1:], func(a string) bool { return canonical(a) == canonical(module) }) {
			with = append(with, canonical(r.args[0]))
		}
	}
	return with
}
