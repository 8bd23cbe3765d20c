package boot

import (
	"path"
	"slices"
	"strings"
)

// forbidden returns what keeps systemd-modules-load and `modprobe -b` from
// loading module, or nil: for deps are the modules that it needs. (kmod 30:)
// "blacklist" and modprobe.blacklist= count for the module itself and not for
// what it needs; the first "install" whose pattern fits counts for both; an
// "alias" replaces the module by another. module_blacklist= is the kernel's own
// and counts for each.
func (f *forecast) forbidden(rules []rule, module string, deps []string) *rule {
	module = canonical(module)
	if w, ok := f.listed(module, "modprobe.blacklist"); ok && !strings.Contains(w.text, `"`) { // to kmod a quote is part of a name
		return &rule{Place: Place{File: cmdlinePlace}, verb: "blacklist", text: w.text}
	}
	for _, m := range append([]string{module}, deps...) {
		if w, ok := f.listed(m, "module_blacklist", "module-blacklist"); ok && !w.init {
			return &rule{Place: Place{File: cmdlinePlace}, verb: "blacklist", text: w.text}
		}
	}
	for i, r := range rules {
		if r.verb == "blacklist" && canonical(r.args[0]) == module {
			return &rules[i]
		}
	}
	if r := aliased(rules, module); r != nil {
		return r
	}
	for _, m := range append([]string{module}, deps...) {
		if r := install(rules, m); r != nil && loadsNothing(r.args[1]) {
			return r
		}
	}
	return nil
}

// install returns the "install" that modprobe runs in place of loading module.
func install(rules []rule, module string) *rule {
	for i, r := range rules {
		if r.verb == "install" && len(r.args) > 1 && globs(canonical(r.args[0]), module) {
			return &rules[i]
		}
	}
	return nil
}

// aliased returns the "alias" that has modprobe load something else, or
// nothing ("alias NAME off"), where module is asked for.
func aliased(rules []rule, module string) *rule {
	var first *rule
	for i, r := range rules {
		if r.verb != "alias" || len(r.args) < 2 || !globs(canonical(r.args[0]), module) {
			continue
		}
		if canonical(r.args[1]) == module {
			return nil
		}
		if first == nil {
			first = &rules[i]
		}
	}
	return first
}

// loadsNothing reports whether a command is one of those with which hardening
// guides keep a module out.
func loadsNothing(command string) bool {
	return slices.Contains([]string{"false", "true", ":"}, path.Base(command))
}
