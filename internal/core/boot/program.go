package boot

import (
	"path"
	"slices"
	"strings"
)

// harmless are programs that do not set a sysctl when they are given its name.
var harmless = []string{
	"[", "[[", "awk", "cat", "chmod", "chown", "cut", "egrep", "false", "fgrep", "grep", "head", "id", "ls",
	"pgrep", "read", "rm", "set", "sort", "stat", "systemd-cat", "tail", "test", "tr", "true",
	"uname", "umask", "wc", "which", "local", "export", "shift", "unset", "trap", "wait", "break", "continue", ":", "tee", "echo", "printf",
}

// command carries out one program with its arguments, "\x00" standing for what
// is not known, and says how it ends.
func (s *shell) command(args []string, line int, maybe bool) answer {
	name := path.Base(args[0])
	if body, ok := s.funcs[name]; ok {
		own := s.vars["1"] // those of a function are others
		if delete(s.vars, "1"); len(args) > 1 && !strings.Contains(args[1], "\x00") {
			s.vars["1"] = []string{args[1]}
		}
		s.run(body, maybe)
		if delete(s.vars, "1"); own != nil {
			s.vars["1"] = own
		}
		return unclear
	}
	switch name {
	case "sleep", "udevadm", "logger", "mkdir", "touch", "date":
		return likely
	case "echo", "printf":
		s.printed = args
		return likely
	case "true", ":", "export", "set":
		return yes
	case "false":
		return no
	case "exit", "return":
		s.over, s.maybe = s.over || !maybe, s.maybe || maybe
		return likely
	case "cd":
		if len(args) > 1 {
			s.dir = s.absolute(args[1])
		}
		return likely
	case "test", "[", "[[":
		return s.test(args[1:])
	case "sysctl":
		s.sysctl(args[1:], line, maybe)
		return likely
	case "systemd-sysctl":
		s.systemdSysctl(args[1:], line, maybe)
		return likely
	case "modprobe", "insmod":
		s.modprobe(name, args[1:], line, maybe)
		return likely
	case "sh", "bash", "dash", "ash":
		return s.nested(args[1:], line, maybe)
	case "sudo", "exec", "nohup", "command", "busybox", "env", "nice", "ionice", "timeout", "setsid", "stdbuf", "eval", "-":
		if rest := wrapped(name, args[1:]); len(rest) > 0 {
			return s.command(rest, line, maybe)
		}
		return likely
	case "run-parts":
		s.runParts(args[1:], maybe)
		return likely
	case ".", "source":
		if len(args) > 1 {
			s.script(args[1], true, maybe)
		}
		return unclear
	}
	if slices.Contains(harmless, name) {
		return unclear
	}
	if !path.IsAbs(args[0]) || !s.script(args[0], false, maybe) {
		s.mentions(strings.Join(args[1:], " "), line)
		s.unknown = true
	}
	return unclear
}

// runParts is run-parts(8): all programs of a directory, by name. Debian's passes over
// names with a dot, Red Hat's does not.
func (s *shell) runParts(args []string, maybe bool) {
	dir := ""
	for _, a := range args {
		switch {
		case a == "--test", a == "--list":
			return
		case !strings.HasPrefix(a, "-"):
			dir = s.absolute(a)
		}
	}
	if dir == "" || strings.Contains(dir, "\x00") {
		return
	}
	for _, e := range s.f.t.list(dir) {
		if file := path.Join(dir, e.Name()); !strings.ContainsAny(e.Name(), "~,") && s.f.t.executable(file) {
			s.script(file, false, maybe || strings.Contains(e.Name(), "."))
		}
	}
}

// mentions reports the guarded sysctls that a text names of which it is not
// known what it does.
func (s *shell) mentions(text string, line int) {
	text = strings.ReplaceAll(text, ".", "/")
	for _, key := range s.f.paths {
		if strings.Contains(text, strings.ReplaceAll(key, ".", "/")) {
			s.add(line, act{key: key, opaque: true, maybe: true})
		}
	}
}

// wrapped is the command that another one starts.
func wrapped(name string, args []string) []string {
	for len(args) > 0 {
		a := args[0]
		switch {
		case name == "nice" && a == "-n", name == "ionice" && (a == "-c" || a == "-n"), name == "sudo" && a == "-u", name == "timeout" && (a == "-s" || a == "-k"):
			args = args[min(2, len(args)):]
		case strings.HasPrefix(a, "-") && a != "-", name == "env" && strings.Contains(a, "="):
			args = args[1:]
		case name == "timeout" && a[0] >= '0' && a[0] <= '9':
			return args[1:]
		default:
			return args
		}
	}
	return nil
}

// nested is a shell that is started by name.
func (s *shell) nested(args []string, line int, maybe bool) answer {
	for i, a := range args {
		switch {
		case strings.HasPrefix(a, "-") && strings.Contains(a, "c") && !strings.HasPrefix(a, "--"):
			if i+1 >= len(args) {
				return unclear
			}
			at := s.place(line)
			at.Line = -at.Line
			inner := s.f.shell(at, args[i+1])
			inner.dir, inner.depth = s.dir, s.depth
			if s.f.spend(len(args[i+1])) {
				inner.run(shlex(args[i+1]), maybe)
			}
			s.take(inner)
			return unclear
		case strings.HasPrefix(a, "-"), strings.HasPrefix(a, "+"):
		default:
			s.script(a, true, maybe)
			return unclear
		}
	}
	return unclear
}

func (s *shell) take(inner *shell) {
	s.acts = append(s.acts, inner.acts[:min(len(inner.acts), maxActs)]...)
	s.unknown = s.unknown || inner.unknown
}

// script reads a script of a shell. It reports whether it is one.
func (s *shell) script(name string, named, maybe bool) bool {
	if s.depth >= maxDepth || strings.Contains(name, "\x00") {
		return false
	}
	text := s.f.t.script(s.absolute(name), named)
	first, _, _ := strings.Cut(text, "\n")
	words := strings.Fields(strings.TrimPrefix(first, "#!"))
	of := slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains([]string{"sh", "bash", "dash", "ash"}, path.Base(w))
	})
	if text == "" || !named && (!strings.HasPrefix(first, "#!") || !of) {
		return false
	}
	inner := s.f.shell(Place{s.absolute(name), 1}, text)
	inner.depth = s.depth
	if s.f.spend(len(text)) {
		inner.run(shlex(text), maybe)
	}
	s.take(inner)
	return true
}

// prints is what echo or printf prints, "\x00" in it where it is not known.
func prints(name string, args []string) string {
	for len(args) > 0 && name == "echo" && (args[0] == "-n" || args[0] == "-e" || args[0] == "-ne" || args[0] == "-en") {
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if name == "printf" && len(args) > 0 {
		text = args[0]
		if len(args) == 2 {
			text = strings.NewReplacer("%s", args[1], "%d", args[1], "%i", args[1]).Replace(text)
		}
		if strings.Contains(text, "%") {
			return "\x00"
		}
	}
	return strings.TrimSpace(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text))
}

// test is a condition: whether a file is there can be told.
func (s *shell) test(args []string) answer {
	if n := len(args); n > 0 && (args[n-1] == "]" || args[n-1] == "]]") {
		args = args[:n-1]
	}
	if len(args) != 2 || !slices.Contains([]string{"-e", "-f", "-r", "-w", "-x", "-d", "-s"}, args[0]) || strings.Contains(args[1], "\x00") {
		return unclear
	}
	name := s.absolute(args[1])
	if key, ok := strings.CutPrefix(name, "/proc/sys/"); ok {
		if slices.Contains(s.f.paths, key) || key == "net/bridge" {
			return yes
		}
		return unclear
	}
	if dir := strings.Split(name, "/")[1]; slices.Contains([]string{"etc", "usr", "bin", "sbin", "lib", "opt"}, dir) {
		if s.f.t.exists(name) {
			return yes
		}
		return no
	}
	return unclear
}

// sysctl is sysctl(8).
func (s *shell) sysctl(args []string, line int, maybe bool) {
	load, read, system := false, false, false
	var names []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--system":
			system = true
		case a == "--load":
			load = true
		case strings.HasPrefix(a, "--load="):
			load, names = true, append(names, strings.TrimPrefix(a, "--load="))
		case a == "-r" || a == "--pattern":
			i++
		case strings.HasPrefix(a, "--"):
			read = read || a == "--all" || a == "--values" || a == "--names"
		case strings.HasPrefix(a, "-") && len(a) > 1:
			flag, file, has := strings.Cut(a, "=")
			load = load || strings.ContainsAny(flag, "pf")
			if has {
				names = append(names, file)
			} else if j := strings.IndexAny(a, "pf"); j >= 0 && j+1 < len(a) && strings.ContainsAny(a[j+1:], "/.") {
				names = append(names, a[j+1:]) // -pFILE
			}
		default:
			names = append(names, a)
		}
	}
	switch {
	case read:
	case system:
		s.files(s.f.t.readProcps(s.f.t.procps()[0]), line, maybe)
	case load:
		if len(names) == 0 {
			names = []string{"/etc/sysctl.conf"}
		}
		s.files(s.f.t.assignments(s.matching(names)), line, maybe)
	default:
		for _, n := range names {
			name, value, sets := strings.Cut(n, "=")
			key := swap(strings.TrimPrefix(strings.TrimSpace(name), "-"))
			if !slices.Contains(s.f.paths, key) || !sets {
				continue
			}
			s.add(line, act{key: key, value: strings.TrimSpace(value), maybe: maybe, opaque: strings.Contains(value, "\x00")})
		}
	}
}

// matching returns the files of sysctl's arguments, which may be patterns.
func (s *shell) matching(names []string) []string {
	var files []string
	for _, n := range names {
		n = s.absolute(n)
		if !isGlob(n) {
			files = append(files, n)
			continue
		}
		for _, e := range s.f.t.list(path.Dir(n)) {
			if globs(path.Base(n), e.Name()) {
				files = append(files, path.Join(path.Dir(n), e.Name()))
			}
		}
	}
	return files
}

// files is sysctl(8) setting what lines of files say.
func (s *shell) files(lines []assignment, line int, maybe bool) {
	for _, key := range s.f.paths {
		for _, w := range procpsWrites(lines, key, s.f.t.procps()[0]) {
			s.add(line, act{key: key, value: w.value, from: w.Place, maybe: maybe})
		}
	}
}

// systemdSysctl is systemd-sysctl: without files it does what it does at boot.
func (s *shell) systemdSysctl(args []string, line int, maybe bool) {
	var files, prefixes []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		prefix, is := strings.CutPrefix(a, "--prefix=")
		if a == "--prefix" && i+1 < len(args) {
			i++
			prefix, is = args[i], true
		}
		switch {
		case is:
			prefixes = append(prefixes, simplify(strings.TrimPrefix(swap(prefix), "/proc/sys")))
		case !strings.HasPrefix(a, "-"):
			files = append(files, s.absolute(a))
		}
	}
	for _, key := range s.f.paths {
		below := slices.ContainsFunc(prefixes, func(p string) bool { return key == p || strings.HasPrefix(key, p+"/") })
		if len(files) == 0 && (below || len(prefixes) == 0) {
			s.add(line, act{key: key, again: true, maybe: maybe})
		}
	}
	lines := s.f.t.assignments(files)
	for _, key := range s.f.paths {
		writes, _ := systemdWrites(lines, key)
		for _, w := range writes {
			s.add(line, act{key: key, value: w.value, from: w.Place, maybe: maybe})
		}
	}
}

// modprobe is modprobe(8) or insmod(8).
func (s *shell) modprobe(name string, args []string, line int, maybe bool) {
	all, blacklist, ignore := false, false, name == "insmod"
	var names []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-C" || a == "-d" || a == "-S" || a == "--config" || a == "--dirname" || a == "--set-version":
			i++
		case a == "--all", a == "--use-blacklist", a == "--ignore-install":
			all, blacklist, ignore = all || a == "--all", blacklist || a == "--use-blacklist", ignore || a == "--ignore-install"
		case a == "--remove", a == "--show-depends", a == "--dry-run", a == "--resolve-alias":
			return
		case strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--"):
			if strings.ContainsAny(a, "rRnDc") {
				return
			}
			all, blacklist, ignore = all || strings.Contains(a, "a"), blacklist || strings.Contains(a, "b"), ignore || strings.Contains(a, "i")
		case !strings.HasPrefix(a, "-"):
			names = append(names, a)
		}
	}
	if !all && len(names) > 1 {
		names = names[:1] // what follows are its parameters
	}
	for _, n := range names {
		n, _, _ = strings.Cut(path.Base(n), ".ko")
		s.add(line, act{load: canonical(n), plain: !blacklist, direct: ignore, maybe: maybe})
	}
}
