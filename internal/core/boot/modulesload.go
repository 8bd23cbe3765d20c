package boot

import (
	"slices"
	"strings"
)

// loader returns the line that has systemd-modules-load load module at boot,
// and false when there is none. A line is a name as a whole: one with a
// comment after the name loads nothing, and is returned as spoilt.
// (modules-load.d(5); rd.modules_load= counts in the initrd only.)
func (f *forecast) loader(module string) (by Place, spoilt Place, ok bool) {
	for _, w := range f.words {
		if canonical(w.name) == "modules_load" && slices.ContainsFunc(strings.Split(w.value, ","),
			func(m string) bool { return canonical(m) == canonical(module) }) {
			return Place{File: cmdlinePlace}, Place{}, true
		}
	}
	for _, file := range f.t.dropins(below("modules-load.d"), conf) {
		text, _ := f.t.read(file, maxFile)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.Trim(line, blank)
			if line == "" || line[0] == '#' || line[0] == ';' {
				continue
			}
			if canonical(line) == canonical(module) {
				return Place{file, n}, Place{}, true
			}
			if spoilt.File == "" && canonical(strings.Fields(line)[0]) == canonical(module) {
				spoilt = Place{file, n}
			}
		}
	}
	return Place{}, spoilt, false
}
