package boot

import "strings"

// assignment is one line of a sysctl.d file.
type assignment struct {
	Place
	name  string // as it is written, with its dash
	path  string // the name without its dash, as a path below /proc/sys
	value string
	sets  bool // there is a "="
}

// blank is what separates words in sysctl.d.
const blank = " \t\r\n\v\f"

// parseSysctl returns the lines of a sysctl.d file, of /etc/sysctl.conf or of
// ufw's file whose names matter. Comments are whole lines; there is no line
// continuation.
func parseSysctl(file string, text []byte, matters func(name string) bool) []assignment {
	var all []assignment
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ = strings.Cut(line, "\x00")
		line = strings.Trim(line, blank)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, sets := strings.Cut(line, "=")
		if name = strings.TrimRight(name, blank); matters(name) {
			all = append(all, assignment{
				Place: Place{file, n}, sets: sets, name: name, value: strings.TrimLeft(value, blank),
				path: swap(strings.TrimPrefix(name, "-")),
			})
		}
	}
	return all
}

// assignments reads files, each once, and returns in order those of their
// lines that can be about a key of interest.
func (t *tree) assignments(files []string) []assignment {
	var all []assignment
	for _, file := range files {
		lines, known := t.sysctl[file]
		if !known {
			text, _ := t.read(file, maxFile)
			lines = parseSysctl(file, text, t.matters)
			t.sysctl[file] = lines
		}
		all = append(all, lines...)
	}
	return all
}

// matters reports whether the name of a line can be that of a key of interest,
// or is meant to be (missedAssignment).
func (t *tree) matters(name string) bool {
	if isGlob(name) || t.tails[tail(name)] || strings.Contains(name, "nf-call") || strings.Contains(name, "nf_call") || strings.Contains(name, "ip_f") {
		return true
	}
	i := strings.IndexAny(name, blank+":")
	return i > 0 && t.tails[tail(name[:i])]
}

// modulesDisabled matters besides the guarded keys: 1 ends the loading of
// modules until the next boot.
const modulesDisabled = "kernel.modules_disabled"

// tail is the last component of a name, which is the same in every spelling.
// Nearly all lines on a host are about other keys, and are told apart by it.
func tail(name string) string {
	name = strings.TrimRight(name, "/.")
	return name[strings.LastIndexAny(name, "/.")+1:]
}

// swap turns a dotted name into a path below /proc/sys. What the first
// separator is decides: after a slash, dots are dots (sysctl.d(5); procps has
// it the same).
func swap(name string) string {
	i := strings.IndexAny(name, "/.")
	if i < 0 || name[i] == '/' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// simplify drops empty and "." components, as systemd does before it
// compares names. Most names have none.
func simplify(name string) string {
	if name != "" && name[0] != '/' && name[0] != '.' && !strings.Contains(name, "//") && !strings.Contains(name, "/.") && name[len(name)-1] != '/' {
		return name
	}
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		if p != "" && p != "." {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "/")
}
