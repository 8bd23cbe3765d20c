package boot

import (
	"path"
	"slices"
	"strings"
)

// Reader is a program that sets sysctls from files.
type Reader string

// The readers, in the order in which they matter.
const (
	KernelCmdline   Reader = "kernel command line" // before init, for what is built in
	ModprobeInstall Reader = "modprobe"            // an "install" of modprobe.d, as the module is loaded
	SystemdSysctl   Reader = "systemd-sysctl"      // at boot, and whenever it is restarted
	Udev            Reader = "udev"                // as a device or a module comes
	SystemdUnit     Reader = "systemd unit"        // a command of a service that is started at boot
	Ifupdown        Reader = "ifupdown"            // as an interface comes up
	Dispatcher      Reader = "dispatcher"          // the same, of NetworkManager or networkd-dispatcher
	Tmpfiles        Reader = "systemd-tmpfiles"    // at boot
	SysV            Reader = "init script"         // of a runlevel that is reached at boot
	CloudInit       Reader = "cloud-init"          // at each boot, or at the first
	RCLocal         Reader = "rc.local"            // at the end of the boot
	Cron            Reader = "cron"                // at its start, or later
	UFW             Reader = "ufw"                 // at boot, enable and reload
	TuneD           Reader = "TuneD"               // at its start and each profile switch
	Procps          Reader = "sysctl --system"     // people, roles, package scripts
)

// atBoot reports whether a reader has its turn while the host boots, and not
// only when somebody asks it to.
func (r Reader) atBoot() bool { return r != UFW && r != TuneD && r != Procps }

// when says in a sentence when a reader has done its work.
func (r Reader) when() string {
	switch r {
	case KernelCmdline, SystemdSysctl, ModprobeInstall, Udev, SystemdUnit, Ifupdown, Dispatcher, Tmpfiles, SysV, CloudInit, RCLocal, Cron:
		return "at next boot"
	case UFW:
		return "once ufw starts"
	case TuneD:
		return "once TuneD applies its profile"
	case Procps:
		return "after `sysctl --system`"
	}
	return ""
}

// systemdWrites returns what systemd-sysctl writes to one key, in order, and
// the line "-key" that keeps it from writing at all. Its files are those of
// sysctl.d(5): /etc/sysctl.conf only where a distribution links it there. (As
// seen of 252:) A name counts once: a later line replaces an earlier one and
// takes its place at the end, or keeps the earlier place when the value is the
// same. A name beats every pattern. "-name" takes out what was set before it
// by the same name, and keeps patterns away from it; "-pattern" only takes
// out the same pattern.
func systemdWrites(lines []assignment, key string) (writes []assignment, veto *assignment) {
	var entries []assignment // with the path that systemd makes of it
	for _, l := range lines {
		if !l.sets && l.name[0] != '-' {
			continue
		}
		e := l
		e.path = simplify(strings.Trim(l.path, blank))
		if e.path != key && !matchesBraced(e.path, key) {
			continue
		}
		i := slices.IndexFunc(entries, func(o assignment) bool { return o.path == e.path })
		switch {
		case i < 0:
		case entries[i].sets == e.sets && entries[i].value == e.value:
			entries[i].Place = e.Place // it decides for as long as it is there
			continue
		default:
			entries = slices.Delete(entries, i, i+1)
		}
		entries = append(entries, e)
	}
	for i, e := range entries {
		switch {
		case e.path == key && e.sets:
			return []assignment{e}, nil
		case e.path == key:
			return nil, &entries[i]
		case e.sets:
			writes = append(writes, e)
		}
	}
	return writes, nil
}

func matchesBraced(pattern, key string) bool {
	return isGlob(pattern) && slices.ContainsFunc(braces(pattern), func(p string) bool { return globs(p, key) })
}

// procpsWrites returns what sysctl(8) writes to one key from the lines of its
// files. Where it knows patterns (since 4.0), it expands them and spares what any
// line names, unless it spells it with "//"; "-key" without a value takes nothing
// out. It goes on after a refused value, and so falls back to an earlier one, where
// systemd-sysctl leaves the key alone.
func procpsWrites(lines []assignment, key string, kind procps) []assignment {
	spared := slices.ContainsFunc(lines, func(l assignment) bool {
		return l.path == key && (l.sets || l.name[0] == '-') ||
			kind.takesOut && !l.sets && l.name[0] == '-' && isGlob(l.path) && globs(l.path, key)
	})
	var writes []assignment
	for _, l := range lines {
		switch {
		case !l.sets:
		case isGlob(l.path):
			if kind.patterns && !spared && globs(l.path, key) {
				writes = append(writes, l)
			}
		case l.path == key, resolved(l.path) == key:
			writes = append(writes, l)
		}
	}
	return writes
}

// resolved is a path below /proc/sys as the kernel follows it; a file with a
// slash after it is none.
func resolved(p string) string {
	if simplify(p) == p && !strings.Contains(p, "..") || strings.HasSuffix(p, "/") {
		return p
	}
	return strings.TrimPrefix(path.Join("/", p), "/")
}

// readProcps returns the lines that `sysctl --system` reads, /etc/sysctl.conf last.
func (t *tree) readProcps(kind procps) []assignment {
	dirs := below("sysctl.d")
	if kind.runFirst {
		dirs[0], dirs[1] = dirs[1], dirs[0]
	}
	return t.assignments(append(t.dropins(dirs, confOrHidden), "/etc/sysctl.conf"))
}

// readUFW returns the lines of the file that ufw has sysctl(8) load: IPT_SYSCTL
// of /etc/default/ufw, where /etc/ufw/ufw.conf says ENABLED=yes.
func (t *tree) readUFW() []assignment {
	if !t.ufwEnabled() {
		return nil
	}
	defaults, _ := t.read("/etc/default/ufw", maxFile)
	if file := shellValue(defaults, "IPT_SYSCTL"); path.IsAbs(file) {
		return t.assignments([]string{file})
	}
	return nil
}

func (t *tree) ufwEnabled() bool {
	main, _ := t.read("/etc/ufw/ufw.conf", maxFile)
	return strings.EqualFold(shellValue(main, "ENABLED"), "yes")
}

// shellValue returns what NAME=value, quoted or not, sets last.
func shellValue(text []byte, name string) string {
	found := ""
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			value, _, _ = strings.Cut(value, " #")
			found = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return found
}
