package boot

import (
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// udevRule is one line of a file of udev(7): what it compares, and what it does.
type udevRule struct {
	Place
	text  string
	terms []udevTerm // nil: not read yet
}

// udevTerm is KEY{attribute}=="value" with any of udev's operators.
type udevTerm struct{ key, attribute, op, value string }

// udevEvent is what udev tells of a device. Empty: any.
type udevEvent struct{ action, subsystem, kernel, when string }

// events are those that come at every boot of a node; the last is that of the
// device for which a rule is written.
func (r *udevRule) events(module string) []udevEvent {
	return []udevEvent{
		{"add", "module", canonical(module), "once " + module + " is loaded"},
		{"add", "module", "bridge", "once the module bridge is loaded"},
		{"add", "net", "", "once an interface is there"},
		{"", r.names("SUBSYSTEM"), r.names("KERNEL"), "once its device is there"},
	}
}

// names returns the one value that a rule compares a key with, "" where there
// are several.
func (r *udevRule) names(key string) string {
	for _, t := range r.read() {
		if t.key == key && t.op == "==" && !isGlob(t.value) && !strings.Contains(t.value, "|") {
			return t.value
		}
	}
	return ""
}

var udevTermPattern = regexp.MustCompile(`([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*[ei]?"((?:[^"\\]|\\.)*)"`)

// parseUdev returns the rules of a file. A line that ends with a backslash goes
// on in the next. (This and what is put into RUN, as seen of udevadm test of 252.)
func parseUdev(file, text string) []udevRule {
	var rules []udevRule
	n, start := 0, 0
	var joined []string
	for line := range strings.Lines(text) {
		if n++; start == 0 {
			start = n
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") { // also within a rule
			if len(joined) == 0 {
				start = 0
			}
			continue
		}
		before, more := strings.CutSuffix(line, `\`)
		if joined = append(joined, before); more {
			continue
		}
		if line = strings.Join(joined, ""); line != "" {
			rules = append(rules, udevRule{Place: Place{file, start}, text: line})
		}
		start, joined = 0, joined[:0]
	}
	return rules
}

// read splits a rule into its terms, once.
func (r *udevRule) read() []udevTerm {
	if r.terms == nil {
		r.terms = []udevTerm{}
		for _, m := range udevTermPattern.FindAllStringSubmatch(r.text, -1) {
			r.terms = append(r.terms, udevTerm{m[1], m[2], m[3], strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[4])})
		}
	}
	return r.terms
}

// fits compares a rule with an event. A name of which the event tells nothing
// fits: a rule is written for a device that there is. What is not a name of the
// device is unclear, but for files that are there at every boot or at none.
func (r *udevRule) fits(e udevEvent, host *tree) answer {
	fit := yes
	for _, t := range r.read() {
		if t.op != "==" && t.op != "!=" {
			continue
		}
		have, known := "", true
		switch t.key {
		case "ACTION":
			have = e.action
			if have == "" && t.op == "==" && !t.any("add") && !t.any("change") && !t.any("bind") && !t.any("online") && !t.any("move") {
				return no
			}
		case "SUBSYSTEM", "SUBSYSTEMS":
			have = e.subsystem
		case "KERNEL", "KERNELS":
			have = e.kernel
		case "TEST":
			if t.attribute != "" || !lasting(t.value) {
				fit = unclear
			} else if host.exists(t.value) != (t.op == "==") {
				return no
			}
			continue
		default:
			known = false
		}
		switch {
		case !known:
			fit = unclear
		case have == "":
			if t.op == "!=" && t.key != "ACTION" {
				fit = unclear
			}
		case t.any(have) != (t.op == "=="):
			return no
		}
	}
	return fit
}

// lasting reports whether a file is on the disk, and named as it is.
func lasting(name string) bool {
	if !strings.HasPrefix(name, "/") || strings.ContainsAny(name, "$%") {
		return false
	}
	return !slices.ContainsFunc([]string{"/dev/", "/proc/", "/run/", "/sys/", "/tmp/", "/var/run/"}, func(dir string) bool {
		return strings.HasPrefix(path.Clean(name)+"/", dir)
	})
}

// any reports whether one of the patterns of a term fits.
func (t *udevTerm) any(have string) bool {
	for _, pattern := range strings.Split(t.value, "|") {
		if globs(pattern, have) {
			return true
		}
	}
	return false
}

// value returns that of the last term of a key.
func (r *udevRule) value(key string) string {
	if !strings.Contains(r.text, key) {
		return ""
	}
	found := ""
	for _, t := range r.read() {
		if t.key == key {
			found = t.value
		}
	}
	return found
}

var udevSubstitution = regexp.MustCompile(`%%|\$\$|%[knpbMmcPrSND](\{[^}]*\})?|%[Es]\{[^}]*\}|\$(kernel|number|devpath|id|driver|attr|env|major|minor|result|parent|name|links|root|sys|devnode)(\{[^}]*\})?`)

// substituted is the text of a command with what udev puts into it.
func substituted(text string) string {
	return udevSubstitution.ReplaceAllStringFunc(text, func(s string) string {
		if s == "%%" || s == "$$" {
			return s[:1]
		}
		return "\x00"
	})
}

// udev returns the rules of udev that are carried out at boot and do something
// to a guarded sysctl. RUN is carried out after all rules.
func (f *forecast) udev() []start {
	var starts []start
	dirs := below("udev/rules.d")
	for _, file := range f.t.dropins(dirs, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".rules") }) {
		text, _ := f.t.read(file, maxFile)
		if !bytes.Contains(text, []byte("RUN")) && !bytes.Contains(text, []byte("SYSCTL")) {
			continue
		}
		rules := parseUdev(file, string(text))
		var over []jump
		for i := range rules {
			s := f.udevActs(&rules[i])
			if len(s.acts) == 0 {
				continue
			}
			if over == nil {
				over = jumps(rules)
			}
			if !f.spend(16 * len(over)) {
				break
			}
			for _, e := range rules[i].events(f.o.Module) {
				reached := f.t.reaches(rules, over, i, e)
				if reached == no {
					continue
				}
				r := start{Reader: Udev, Place: rules[i].Place, when: e.when, text: s.text, acts: s.acts}
				if e.action == "add" && e.subsystem == "module" {
					r.module = e.kernel
				}
				if reached != yes {
					r.acts = doubtful(r.acts)
				}
				starts = append(starts, r)
				break
			}
		}
	}
	return starts
}

// jump is a rule that has what follows up to a label passed over.
type jump struct{ from, to int }

// jumps returns those of a file, in order. One to a label that does not follow
// is none.
func jumps(rules []udevRule) []jump {
	all := []jump{}
	labels := make(map[string]int)
	for i := len(rules) - 1; i >= 0; i-- {
		if label := rules[i].value("LABEL"); label != "" {
			labels[label] = i
		}
		if to := labels[rules[i].value("GOTO")]; to > i {
			all = append(all, jump{i, to})
		}
	}
	slices.Reverse(all)
	return all
}

// reaches reports whether rule i of a file is carried out for an event.
func (t *tree) reaches(rules []udevRule, jumps []jump, i int, e udevEvent) answer {
	certain, at := true, 0
	for _, j := range jumps {
		if j.from < at || j.from >= i {
			continue
		}
		fit := rules[j.from].fits(e, t)
		if fit == yes && e.subsystem == "" {
			fit = unclear
		}
		switch {
		case fit == no:
		case fit == yes && j.to > i:
			return no
		case fit == yes:
			at = j.to
		case j.to > i:
			certain = false
		}
	}
	fit := rules[i].fits(e, t)
	if fit == yes && !certain {
		return unclear
	}
	return fit
}

// udevActs is what a rule does when it is carried out.
func (f *forecast) udevActs(r *udevRule) (s start) {
	if !strings.Contains(r.text, "RUN") && !strings.Contains(r.text, "SYSCTL") {
		return s
	}
	for _, t := range r.read() {
		if t.op == "==" || t.op == "!=" || t.op == "-=" {
			continue
		}
		switch {
		case t.key == "SYSCTL":
			for _, key := range f.paths {
				if swap(t.attribute) == key {
					s.acts = append(s.acts, act{at: r.Place, key: key, value: substituted(t.value)})
				}
			}
			s.text = r.text
		case t.key == "RUN" && t.attribute != "builtin":
			args := words(substituted(t.value))
			if len(args) == 0 {
				continue
			}
			if !strings.HasPrefix(args[0], "/") {
				args[0] = "/usr/lib/udev/" + args[0]
			}
			if ran := f.executes(r.Place, args); len(ran.acts) > 0 {
				s.acts, s.text = append(s.acts, ran.acts...), t.value
			}
		}
	}
	return s
}

// words splits a command line that no shell reads: quotes and backslashes are
// all there is, as udev and systemd have it.
func words(text string) []string {
	var all []string
	var b strings.Builder
	quote, in := byte(0), false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && quote != '\'':
			i++
			b.WriteByte(text[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && strings.IndexByte(blank, c) >= 0:
			if in {
				all = append(all, b.String())
				b.Reset()
			}
			in = false
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		all = append(all, b.String())
	}
	return all
}
