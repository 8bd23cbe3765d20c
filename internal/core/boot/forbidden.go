package boot

import (
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
			return &rule{Place: Place{File: cmdlinePlace}, verb: "module_blacklist", text: w.text}
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
		if r := f.install(rules, m); r != nil && f.loads(r, m) == no {
			return r
		}
	}
	return nil
}

// install returns the "install" that modprobe runs in place of loading module: none
// where module has a "softdep" on one that is there, which takes precedence
// (modprobe.d(5)).
func (f *forecast) install(rules []rule, module string) *rule {
	for _, r := range rules {
		if r.verb == "softdep" && globs(canonical(r.args[0]), module) && slices.ContainsFunc(r.args[1:], f.indexed) {
			return nil
		}
	}
	for i, r := range rules {
		if r.verb == "install" && len(r.args) > 1 && globs(canonical(r.args[0]), module) {
			return &rules[i]
		}
	}
	return nil
}

// indexed reports whether a kernel has a module of that name.
func (f *forecast) indexed(name string) bool {
	names := []string{"/" + canonical(name) + ".ko", "/" + strings.ReplaceAll(name, "_", "-") + ".ko"}
	for _, e := range f.t.list("/lib/modules") {
		for _, list := range []string{"modules.dep", "modules.builtin"} {
			index, _ := f.t.read("/lib/modules/"+e.Name()+"/"+list, maxIndex)
			if _, ok := entry(index, names); ok {
				return true
			}
		}
	}
	return false
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

// soft reports whether a rule only keeps out who asks for what it says: a plain
// modprobe goes past a "blacklist".
func (r *rule) soft() bool { return r.verb == "blacklist" }

// loads reports whether the command of an "install" loads module. Those with
// which hardening guides keep a module out do not: false, true, an echo.
func (f *forecast) loads(r *rule, module string) answer {
	ran := f.runs(r.Place, r.command(), false)
	for _, a := range ran.acts {
		if a.load == canonical(module) && !a.maybe {
			return yes
		}
	}
	if ran.unknown || slices.ContainsFunc(ran.acts, func(a act) bool { return a.load != "" }) {
		return unclear
	}
	return no
}

// command is that of an "install".
func (r *rule) command() string { return strings.TrimSuffix(strings.Join(r.args[1:], " "), "\r") }
