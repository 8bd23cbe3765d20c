package boot

import (
	"slices"
	"strings"
)

// word is one parameter of the kernel's command line.
type word struct {
	name, value string
	text        string // as it is written
	init        bool   // it stands after "--", and the kernel leaves it to init
}

// parseCmdline splits the kernel's command line: by blanks, but not within
// double quotes, which are dropped (next_arg of the kernel's lib/cmdline.c).
func parseCmdline(line string) []word {
	var words []word
	quoted, init := false, false
	for _, text := range strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\n\r", r)
	}) {
		if text == "--" {
			init = true
			continue
		}
		name, value, _ := strings.Cut(strings.ReplaceAll(text, `"`, ""), "=")
		words = append(words, word{name, value, text, init})
	}
	return words
}

// param returns the last parameter of a name, for which the kernel takes "-"
// for "_".
func (f *forecast) param(name string) (word, bool) {
	for _, w := range slices.Backward(f.words) {
		if !w.init && canonical(w.name) == name {
			return w, true
		}
	}
	return word{}, false
}

// listed returns the parameter that names module in its list. Modules are
// compared as they are written: "br-netfilter" is not br_netfilter here, for
// kmod 30 as seen, and for the kernel, which compares bytes (blacklisted() of
// its kernel/module).
func (f *forecast) listed(module string, params ...string) (word, bool) {
	for _, w := range f.words {
		if slices.Contains(params, w.name) && slices.Contains(strings.Split(w.value, ","), module) {
			return w, true
		}
	}
	return word{}, false
}

// ipv6Off reports whether the next boot will be without IPv6.
func (f *forecast) ipv6Off() bool {
	w, ok := f.param("ipv6.disable")
	return ok && w.value == "1"
}

// bootSysctl returns each sysctl.KEY=VALUE for a key, in order. The kernel takes
// every dot for a slash, and "sysctl/" for "sysctl." (since 5.8).
func (f *forecast) bootSysctl(key string) []assignment {
	var writes []assignment
	for _, w := range f.words {
		name, ok := strings.CutPrefix(strings.ReplaceAll(w.name, ".", "/"), "sysctl/")
		if ok && !w.init && name == key {
			writes = append(writes, assignment{Place: Place{File: cmdlinePlace}, name: w.name, path: key, value: w.value, sets: true})
		}
	}
	return writes
}
