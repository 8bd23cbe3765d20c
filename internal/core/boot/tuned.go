package boot

import (
	"path"
	"slices"
	"strings"
)

// The directories of TuneD's profiles, the first one wins. Newer versions have
// them in a directory profiles.
var profileDirs = []string{"/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned"}

// readTuned returns what TuneD applies with its active profile: first what the
// profile says, then, with reapply_sysctl (on unless switched off), what
// /run/sysctl.d, /etc/sysctl.d and /etc/sysctl.conf say. (As its sysctl plugin
// of 2.20 does.) A profile without a [sysctl] section has no such plugin, and
// nothing is applied.
func (t *tree) readTuned() []assignment {
	options, active := t.profile()
	if !active {
		return nil
	}
	main, _ := t.read("/etc/tuned/tuned-main.conf", maxFile)
	if disabled(mainOption(main, "reapply_sysctl")) {
		return options
	}
	files := t.dropins([]string{"/run/sysctl.d", "/etc/sysctl.d"}, confOrHidden)
	return slices.Concat(options, t.assignments(append(files, "/etc/sysctl.conf")))
}

// tunedWrites returns what TuneD writes to one key. To it every dot of a name
// is a slash, "-key" is a name like any other, and there are no patterns.
func tunedWrites(lines []assignment, key string) []assignment {
	var writes []assignment
	for _, l := range lines {
		if l.sets && strings.ReplaceAll(l.name, ".", "/") == key {
			writes = append(writes, l)
		}
	}
	return writes
}

// profile returns the sysctls of TuneD's active profile with its includes, and
// whether there is such a section at all.
func (t *tree) profile() (options []assignment, active bool) {
	for _, u := range t.activeUnits() {
		if !u.off && u.kind == "sysctl" {
			active, options = true, append(options, u.options...)
		}
	}
	return options, active
}

// activeUnits are the sections of the active profile with its includes.
func (t *tree) activeUnits() []unit {
	names, _ := t.read("/etc/tuned/active_profile", maxFile)
	var units []unit
	seen := make(map[string]bool)
	for _, name := range strings.Fields(string(names)) {
		units = append(units, t.includes(name, seen)...)
	}
	var merged []unit
	for _, u := range units {
		i := slices.IndexFunc(merged, func(m unit) bool { return m.name == u.name })
		switch {
		case i < 0:
			merged = append(merged, u)
			continue
		case !u.replace:
			kept := slices.DeleteFunc(merged[i].options, func(a assignment) bool { return slices.Contains(u.drop, a.name) })
			u.options = append(kept, u.options...)
		}
		merged[i] = u
	}
	return merged
}

// unit is one section of a profile.
type unit struct {
	name    string
	kind    string   // type=; without it the section's name
	off     bool     // enabled=false
	replace bool     // what included profiles say in this section does not count
	drop    []string // nor do these of their options
	options []assignment
}

// includes returns the units of a profile, those that it includes first. A
// file is read once: a circle of includes ends.
func (t *tree) includes(name string, seen map[string]bool) []unit {
	name = path.Base(strings.TrimPrefix(name, "-")) // "-name": only if it is there
	for _, dir := range profileDirs {
		file := path.Join(dir, name, "tuned.conf")
		if seen[file] {
			continue
		}
		text, there := t.read(file, maxFile)
		if !there {
			continue
		}
		seen[file] = true
		include, units := parseProfile(file, text)
		var all []unit
		for _, other := range list(include) {
			all = append(all, t.includes(other, seen)...)
		}
		return append(all, units...)
	}
	return nil
}

// parseProfile reads tuned.conf(5): sections of name=value, "#" begins a
// comment, also after a value.
func parseProfile(file string, text []byte) (include string, units []unit) {
	n, section := 0, ""
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if i := strings.Index(line, " #"); i >= 0 {
			line = strings.TrimSpace(line[:i])
		}
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' && line[len(line)-1] == ']' {
			if section = line[1 : len(line)-1]; section != "main" {
				units = append(units, unit{name: section, kind: section})
			}
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"`)
		if section == "main" && name == "include" {
			include = value
		}
		if len(units) == 0 || section == "main" {
			continue
		}
		switch u := &units[len(units)-1]; name {
		case "type":
			u.kind = value
		case "enabled":
			u.off = disabled(value)
		case "replace":
			u.replace = !disabled(value)
		case "drop":
			u.drop = list(value)
		default:
			u.options = append(u.options, assignment{Place: Place{file, n}, name: name, value: value, sets: true})
		}
	}
	return include, units
}

// list splits what is separated by commas or semicolons.
func list(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(",; \t", r) })
}

// mainOption returns the last value of an option of tuned-main.conf.
func mainOption(text []byte, name string) string {
	found := ""
	for line := range strings.Lines(string(text)) {
		if option, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(option) == name {
			found = strings.TrimSpace(value)
		}
	}
	return found
}

func disabled(value string) bool {
	switch strings.ToLower(value) {
	case "0", "n", "no", "f", "false", "off":
		return true
	}
	return false
}
