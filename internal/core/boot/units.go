package boot

import (
	"bytes"
	"io/fs"
	"iter"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// unitDirs are where systemd has its units, the first one wins.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// knownUnits run what the forecast knows by itself; their drop-ins may have more.
var knownUnits = []string{"systemd-sysctl.service", "systemd-modules-load.service", "ufw.service", "tuned.service", "procps.service", "nfguard.service", "rc-local.service", "kmod.service"}

// notAtBoot are targets that a boot does not reach.
var notAtBoot = []string{
	"sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target", "suspend-then-hibernate.target",
	"shutdown.target", "reboot.target", "poweroff.target", "halt.target", "kexec.target", "final.target", "umount.target", "exit.target",
	"rescue.target", "emergency.target", "system-update.target", "initrd.target", "initrd-switch-root.target",
}

// unitTree is what lies in the directories of units, by name: each name's files,
// those that win first.
type unitTree map[string][]unitEntry

type unitEntry struct {
	file string
	link bool
}

func (t *tree) unitTree() unitTree {
	all := make(unitTree)
	for _, dir := range unitDirs {
		if dir == "/lib/systemd/system" && t.same(dir, "/usr/lib/systemd/system") {
			continue
		}
		for _, e := range t.list(dir) {
			all[e.Name()] = append(all[e.Name()], unitEntry{path.Join(dir, e.Name()), e.Type()&fs.ModeSymlink != 0})
		}
	}
	return all
}

// enabled returns the services that something enabled starts at boot: those to
// which a directory X.wants or X.requires links, and those of such timers.
func (u unitTree) enabled(t *tree) []string {
	found := make(map[string]bool)
	for name, entries := range u {
		ext := path.Ext(name)
		if ext != ".wants" && ext != ".requires" || slices.Contains(notAtBoot, strings.TrimSuffix(name, ext)) {
			continue
		}
		for _, dir := range entries {
			for _, w := range t.list(dir.file) {
				name := w.Name()
				if timer, ok := strings.CutSuffix(name, ".timer"); ok {
					name = timer + ".service"
				}
				if strings.HasSuffix(name, ".service") {
					found[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// files returns those that make up a unit: its own, and its drop-ins. None where
// it is masked.
func (u unitTree) files(t *tree, name string) []string {
	own := u[name]
	if before, rest, ok := strings.Cut(name, "@"); ok && len(own) == 0 {
		_, suffix, _ := strings.Cut(rest, ".")
		own = u[before+"@."+suffix]
	}
	if len(own) == 0 || own[0].link && t.masked(own[0].file) {
		return nil
	}
	var dirs []string
	for _, d := range u[name+".d"] {
		dirs = append(dirs, d.file)
	}
	return append([]string{own[0].file}, t.dropins(dirs, conf)...)
}

// unitCommands returns the commands of Exec lines. An empty one takes back
// those before it.
func unitCommands(file, text string, before []unitCommand) []unitCommand {
	n, start, section := 0, 0, ""
	var joined []string
	for line := range strings.Lines(text) {
		if n++; start == 0 {
			start = n
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			if len(joined) == 0 {
				start = 0
			}
			continue
		}
		if part, more := strings.CutSuffix(line, `\`); more {
			joined = append(joined, part)
			continue
		}
		line, at := strings.Join(append(joined, line), " "), start
		start, joined = 0, joined[:0]
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || section != "[Service]" || !slices.Contains([]string{"ExecStartPre", "ExecStart", "ExecStartPost", "ExecCondition"}, key) {
			continue
		}
		if value == "" {
			before = slices.DeleteFunc(before, func(c unitCommand) bool { return c.key == key })
			continue
		}
		before = append(before, unitCommand{Place{file, at}, key, value})
	}
	return before
}

type unitCommand struct {
	Place
	key, text string
}

// units returns what enabled services do to a guarded sysctl, and the modules
// that they load. Where a unit has conditions, it may do so: they are not judged.
func (f *forecast) units() []start {
	var starts []start
	units := f.t.unitTree()
	for _, name := range units.enabled(f.t) {
		var lines []unitCommand
		conditional := false
		for i, file := range units.files(f.t, name) {
			if i == 0 && slices.Contains(knownUnits, name) {
				continue
			}
			text, _ := f.t.read(file, maxFile)
			conditional = conditional || bytes.Contains(text, []byte("\nCondition")) || bytes.Contains(text, []byte("\nAssert"))
			lines = unitCommands(file, string(text), lines)
		}
		slices.SortStableFunc(lines, func(a, b unitCommand) int { return execOrder(a.key) - execOrder(b.key) })
		for _, c := range lines {
			s := start{Reader: SystemdUnit, Place: c.Place, when: "once " + name + " starts", text: strings.TrimLeft(c.text, "-@:+!|")}
			for args := range commands(s.text) {
				if !strings.Contains(args[0], "/") {
					args[0] = f.t.inPath(args[0])
				}
				s.acts = append(s.acts, f.executes(c.Place, args).acts...)
			}
			if conditional {
				s.acts = doubtful(s.acts)
			}
			if len(s.acts) > 0 {
				starts = append(starts, s)
			}
		}
	}
	return starts
}

// unitSubstitution is what systemd puts into a command line.
var unitSubstitution = regexp.MustCompile(`%%|%[A-Za-z]|\$\$|\$\{[^}]*\}`)

// commands splits an Exec line, which may have several with a ";" between.
func commands(text string) iter.Seq[[]string] {
	text = unitSubstitution.ReplaceAllStringFunc(text, func(s string) string {
		if s == "%%" || s == "$$" {
			return s[:1]
		}
		return "\x00"
	})
	return func(yield func([]string) bool) {
		rest := words(text)
		for len(rest) > 0 {
			end := slices.Index(rest, ";")
			if end < 0 {
				end = len(rest)
			}
			if end > 0 && !yield(rest[:end]) {
				return
			}
			rest = rest[min(end+1, len(rest)):]
		}
	}
}

func execOrder(key string) int {
	return slices.Index([]string{"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost"}, key)
}

// inPath is a program where systemd looks for it.
func (t *tree) inPath(name string) string {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if full := path.Join(dir, name); t.exists(full) {
			return full
		}
	}
	return name
}
