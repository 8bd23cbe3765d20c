package host

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The directories of modprobe.d(5), the first one wins for a file name.
var modprobeDirs = []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"}

// rule is one line of modprobe.d, or of the kernel's command line.
type rule struct {
	file string
	line int // 0: the file has no lines
	text string
}

func (r *rule) place() string {
	if r.line == 0 {
		return r.file
	}
	return fmt.Sprintf("%s:%d", r.file, r.line)
}

// forbidden returns the line that keeps modprobe from loading name, or nil.
// A file that cannot be read forbids nothing here: modprobe says what it
// makes of it.
func (l *Linux) forbidden(name string) *rule {
	name = canonical(name)
	if text, err := os.ReadFile(filepath.Join(l.o.Proc, "cmdline")); err == nil {
		for _, word := range strings.Fields(string(text)) {
			key, list, ok := strings.Cut(word, "=")
			if ok && (key == "module_blacklist" || key == "modprobe.blacklist") &&
				slices.ContainsFunc(strings.Split(list, ","), func(m string) bool { return canonical(m) == name }) {
				return &rule{file: "the kernel's command line", text: word}
			}
		}
	}
	for _, path := range l.modprobeFiles() {
		text, err := readLimited(l.path(path), 1<<20)
		if err != nil {
			continue
		}
		if r := forbids(text, name); r != nil {
			r.file = path
			return r
		}
	}
	return nil
}

// modprobeFiles lists modprobe.d's files in the order in which they are read.
func (l *Linux) modprobeFiles() []string {
	chosen := make(map[string]string)
	for _, dir := range modprobeDirs {
		entries, err := os.ReadDir(l.path(dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if _, taken := chosen[e.Name()]; !taken && strings.HasSuffix(e.Name(), ".conf") {
				chosen[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	names := make([]string, 0, len(chosen))
	for name := range chosen {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = chosen[name]
	}
	return names
}

// forbids returns the first line of a modprobe.d file that keeps the module
// name, in canonical form, from being loaded: "blacklist NAME", or "install
// NAME" with a command that loads nothing.
func forbids(text []byte, name string) *rule {
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || canonical(f[1]) != name {
			continue
		}
		if f[0] == "blacklist" || f[0] == "install" && len(f) > 2 && harmless(f[2]) {
			return &rule{line: n, text: strings.Join(f, " ")}
		}
	}
	return nil
}

// harmless reports whether an install command is one of those that hardening
// guides use to keep a module out.
func harmless(command string) bool {
	switch filepath.Base(command) {
	case "false", "true", ":":
		return true
	}
	return false
}

// canonical is a module's name as the kernel spells it.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }
