package boot

import (
	"path"
	"slices"
	"strings"
)

// unitDirs are where systemd has its units, the first one wins.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// knownUnits run what the forecast knows by itself.
var knownUnits = []string{"systemd-sysctl.service", "systemd-modules-load.service", "ufw.service", "tuned.service", "procps.service", "nfguard.service", "rc-local.service", "kmod.service"}

// enabled returns the services that something enabled starts at boot: those to
// which a directory X.wants or X.requires links, and those of such timers.
func (t *tree) enabled() []string {
	var names []string
	for _, dir := range unitDirs {
		for _, e := range t.list(dir) {
			if ext := path.Ext(e.Name()); ext != ".wants" && ext != ".requires" {
				continue
			}
			for _, w := range t.list(path.Join(dir, e.Name())) {
				name := w.Name()
				if timer, ok := strings.CutSuffix(name, ".timer"); ok {
					name = timer + ".service"
				}
				if strings.HasSuffix(name, ".service") && !slices.Contains(names, name) && !slices.Contains(knownUnits, name) {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

// unitFiles returns the files that make up a unit: its own, and its drop-ins.
// None where it is masked.
func (t *tree) unitFiles(name string) []string {
	files := []string{}
	template := ""
	if before, rest, ok := strings.Cut(name, "@"); ok {
		_, suffix, _ := strings.Cut(rest, ".")
		template = before + "@." + suffix
	}
	for _, n := range []string{name, template} {
		for _, dir := range unitDirs {
			if file := path.Join(dir, n); n != "" && len(files) == 0 {
				if t.masked(file) {
					return nil
				}
				if t.exists(file) {
					files = append(files, file)
				}
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	dirs := make([]string, len(unitDirs))
	for i, dir := range unitDirs {
		dirs[i] = path.Join(dir, name+".d")
	}
	return append(files, t.dropins(dirs, conf)...)
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
// that they load. A unit may have conditions, which are not looked at.
func (f *forecast) units() []start {
	var starts []start
	for _, name := range f.t.enabled() {
		var commands []unitCommand
		for _, file := range f.t.unitFiles(name) {
			text, _ := f.t.read(file, maxFile)
			commands = unitCommands(file, string(text), commands)
		}
		slices.SortStableFunc(commands, func(a, b unitCommand) int { return execOrder(a.key) - execOrder(b.key) })
		for _, c := range commands {
			text := strings.NewReplacer("%%", "%", "$$", "$").Replace(strings.TrimLeft(c.text, "-@:+!|"))
			args := words(text)
			if len(args) == 0 {
				continue
			}
			if !path.IsAbs(args[0]) && !strings.Contains(args[0], "/") {
				args[0] = f.t.inPath(args[0])
			}
			if ran := f.executes(c.Place, args); len(ran.acts) > 0 {
				starts = append(starts, start{Reader: SystemdUnit, Place: c.Place, when: "once " + name + " starts", who: name, text: text, acts: ran.acts})
			}
		}
	}
	return starts
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
