package boot

import (
	"fmt"
	"path"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// start is something that is run at boot and does what matters here: a rule of
// udev, a command of modprobe.d, of a unit, of rc.local or of cron.
type start struct {
	Reader
	Place
	when   string // "once br_netfilter is loaded"
	module string // the one whose loading has it run; "": none
	text   string // the command, as it stands there
	acts   []act
}

// suspicious reports whether a text can be about a sysctl or a module. Nearly all
// that is run at boot is not.
func (f *forecast) suspicious(text string) bool {
	return strings.Contains(text, "sysctl") || strings.Contains(text, "/proc/sys") || strings.Contains(text, "modprobe")
}

// doubtful are acts of something that may not be run.
func doubtful(acts []act) []act {
	all := make([]act, len(acts))
	for i, a := range acts {
		a.maybe = true
		all[i] = a
	}
	return all
}

// others reads what is run at boot beside the readers of sysctl.d.
func (f *forecast) others() {
	f.starts = append(f.starts, f.installs()...)
	f.starts = append(f.starts, f.udev()...)
	f.starts = append(f.starts, f.units()...)
	f.starts = append(f.starts, f.ifupdown()...)
	f.starts = append(f.starts, f.tmpfiles()...)
	f.starts = append(f.starts, f.initScripts()...)
	f.starts = append(f.starts, f.cloudInit()...)
	f.starts = append(f.starts, f.ufwScripts()...)
	f.starts = append(f.starts, f.tunedScripts()...)
	f.starts = append(f.starts, f.rcLocal()...)
	f.starts = append(f.starts, f.cron()...)
}

// installs are the commands with which modprobe loads the module, and what it
// needs.
func (f *forecast) installs() []start {
	var starts []start
	for _, m := range append([]string{f.o.Module}, f.deps()...) {
		r := f.install(f.t.rules(), canonical(m))
		if r == nil {
			continue
		}
		ran := f.runs(r.Place, r.command(), false)
		s := start{Reader: ModprobeInstall, Place: r.Place, when: "once " + m + " is loaded", module: canonical(m), text: r.command(), acts: ran.acts}
		if len(s.acts) > 0 {
			starts = append(starts, s)
		}
	}
	return starts
}

// rcLocal is /etc/rc.local, where it is a program: systemd-rc-local-generator(8).
func (f *forecast) rcLocal() []start {
	for _, name := range []string{"/etc/rc.local", "/etc/rc.d/rc.local"} {
		if !f.t.executable(name) || f.t.masked("/etc/systemd/system/rc-local.service") {
			continue
		}
		text := f.t.script(name, true)
		if text == "" || !f.suspicious(text) {
			continue
		}
		if acts := f.runs(Place{name, 1}, text, true).acts; len(acts) > 0 {
			return []start{{Reader: RCLocal, when: "once rc.local runs", acts: acts}}
		}
	}
	return nil
}

const anacrontab = "/etc/anacrontab"

// cron is what cron(8) and anacron(8) run, at boot or later.
func (f *forecast) cron() []start {
	var starts []start
	read := func(file string, before int) {
		text, ok := f.t.read(file, maxFile)
		if !ok {
			return
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' || !f.suspicious(line) && !strings.Contains(line, "/") {
				continue
			}
			fields := before
			if line[0] == '@' && file != anacrontab {
				fields -= 4 // one word for five
			}
			when, command := "once cron runs it", line
			if strings.HasPrefix(line, "@reboot") {
				when = "once cron starts"
			}
			for range fields {
				command = strings.TrimLeft(strings.TrimLeftFunc(command, func(r rune) bool { return !strings.ContainsRune(blank, r) }), blank)
			}
			if command == "" {
				continue
			}
			if acts := f.runs(Place{file, n}, command, false).acts; len(acts) > 0 {
				starts = append(starts, start{Reader: Cron, Place: Place{file, n}, when: when, text: command, acts: acts})
			}
		}
	}
	read("/etc/crontab", 6) // five for the time, and the user
	for _, e := range f.t.list("/etc/cron.d") {
		if !strings.ContainsAny(e.Name(), ".~") && !e.IsDir() {
			read(path.Join("/etc/cron.d", e.Name()), 6)
		}
	}
	for _, file := range []string{"/var/spool/cron/crontabs/root", "/var/spool/cron/root"} {
		read(file, 5)
	}
	read(anacrontab, 3) // days, minutes, and a name
	return starts
}

// outcome is what a start leaves of a key, by what is certain, and the act that
// is not, or nil.
func (s *start) outcome(want guard.Setting) (sure Outcome, maybe *act) {
	var writes []assignment
	key := want.Key.Path()
	for i, a := range s.acts {
		switch {
		case a.key != key, a.again:
		case a.opaque || a.maybe:
			maybe = &s.acts[i]
		default:
			writes = append(writes, assignment{Place: a.at, path: key, value: a.value, sets: true})
			maybe = nil
		}
	}
	return outcome(s.Reader, want, writes), maybe
}

// act returns that which stands at a place, the last one of a key: "" for any.
func (s *start) act(at Place, key string) *act {
	for i := len(s.acts) - 1; i >= 0; i-- {
		if a := &s.acts[i]; a.at == at && a.load == "" && (key == "" || a.key == key) {
			return a
		}
	}
	return &act{at: at}
}

// how says what stands at the place of an act.
func (s *start) how(a *act) string {
	text := "sets it"
	if a.at == s.Place && s.text != "" {
		text = "runs " + clipped(s.text)
		if s.Reader == Udev && !strings.HasPrefix(s.text, "/") {
			text = "says " + clipped(s.text)
		}
	} else if s.Place != (Place{}) {
		text = "sets it, run by " + s.String()
	}
	if a.from.File != "" {
		text += " (" + a.from.String() + ")"
	}
	return text
}

// clipped is a command as it is named in a sentence.
func clipped(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return text
}

// remove is the next step against what is run at boot.
func (r Reader) remove() string {
	switch r {
	case Udev:
		return nextRemoveRule
	case RCLocal, SystemdUnit, Ifupdown, Dispatcher, SysV, CloudInit:
		return nextRemoveCommand
	case KernelCmdline, ModprobeInstall, SystemdSysctl, Tmpfiles, Cron, UFW, TuneD, Procps:
	}
	return nextRemoveLine
}

// against is the next step against what stands at a place.
func (s *start) against(at Place) string {
	if at != s.Place && s.Place != (Place{}) || s.Reader == TuneD || s.Reader == UFW {
		return nextRemoveCommand // in a script
	}
	return s.Reader.remove()
}

// doubt is an act that may set a key, or that does and is set right later.
type doubt struct {
	s         *start
	a         *act
	overtaken bool
}

// doubted reports it, unless it would be as wanted.
func (f *forecast) doubted(want guard.Setting, d doubt) {
	effect, ok := settles(want, d.a.value)
	if !d.a.opaque && (!ok || guard.SameValue(effect, want.Value)) {
		return
	}
	found := Finding{Subject: string(want.Key), Place: d.a.at, Next: d.s.against(d.a.at)}
	if to := hidden(d.a.at.File); to != "" {
		found.Next = fmt.Sprintf(nextHide, to)
	}
	switch {
	case d.overtaken:
		found.Sentence = fmt.Sprintf("%s becomes %s %s: %s %s; at next boot systemd-sysctl comes after that, but not whenever it is loaded",
			want.Key, effect, d.s.when, d.a.at, d.s.how(d.a))
	case d.a.opaque:
		found.Next = fmt.Sprintf(nextSeeItSets, want.Value)
		found.Sentence = fmt.Sprintf("%s may be set %s: %s %s, and what it sets is not known", want.Key, d.s.when, d.a.at, d.s.how(d.a))
	default:
		found.Sentence = fmt.Sprintf("%s may be set to %s %s: %s %s", want.Key, effect, d.s.when, d.a.at, d.s.how(d.a))
	}
	f.found(found)
}
