package boot

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Key is the forecast for one guarded sysctl.
type Key struct {
	Key   guard.Key `json:"key"`
	Want  string    `json:"want"`
	Right bool      `json:"right"` // as wanted after each of By
	By    []Outcome `json:"by"`    // systemd-sysctl always, others where they touch the key
}

// Outcome is what one reader makes of one key.
type Outcome struct {
	Reader Reader `json:"reader"`
	Place         // the line that decides; zero when no line does
	Value  string `json:"value"`  // as that line has it; "" when no line does
	Effect string `json:"effect"` // what will read back; "" when it is not known
}

// keys judges each guarded key as each reader leaves it.
func (f *forecast) keys() {
	r := readings{f.t.readUFW(), f.t.readTuned()}
	f.files = f.t.systemdDropins("sysctl.d")
	f.lines = f.t.assignments(f.files)
	f.report.Dropin = f.dropin()
	f.report.Keys = make([]Key, 0, len(f.o.Keys))
	for _, s := range f.o.Keys {
		f.key(s, &r)
	}
}

// readings are the lines that the readers besides systemd-sysctl and sysctl(8) read.
type readings struct {
	ufw, tuned []assignment
}

func (f *forecast) key(s guard.Setting, r *readings) {
	name := s.Key.Path()
	writes, veto := systemdWrites(f.lines, name)
	boot := outcome(SystemdSysctl, s, writes)
	set := boot.Place != (Place{})
	var after []Outcome
	var doubts []doubt
	for i := range f.starts {
		st := &f.starts[i]
		o, maybe := st.outcome(s)
		if maybe != nil {
			doubts = append(doubts, doubt{st, maybe, false})
		}
		switch {
		case o.Place == (Place{}):
		case st.Reader == ModprobeInstall && set && f.early:
			doubts = append(doubts, doubt{st, st.act(o.Place, name), true})
		default:
			after = append(after, o)
		}
	}
	if !set {
		boot.Effect = atLoad(s.Key)
		if early := outcome(KernelCmdline, s, f.bootSysctl(name)); early.File != "" && (!s.Key.BridgeNF() || f.builtin()) {
			boot = early
		}
	}
	k := Key{Key: s.Key, Want: s.Value, By: append([]Outcome{boot}, after...)}
	system, maybe, of := f.procpsOutcome(s)
	for _, o := range []Outcome{
		outcome(UFW, s, procpsWrites(r.ufw, name, f.t.procps()[0])),
		outcome(TuneD, s, tunedWrites(r.tuned, name)),
		system,
	} {
		if o.Place != (Place{}) {
			k.By = append(k.By, o)
		}
	}
	if len(after) > 0 && boot.Place == (Place{}) && boot.Effect != s.Value {
		k.By = k.By[1:] // nobody else sets it, and they do
	}
	k.Right = !slices.ContainsFunc(k.By, func(o Outcome) bool { return !guard.SameValue(o.Effect, s.Value) })
	if f.late(s, &boot) {
		k.Right = false
	}
	f.report.Keys = append(f.report.Keys, k)
	if f.ipv6Off() && s.Key == guard.IP6Tables && s.Value != "0" {
		f.withoutIPv6(&k)
		return
	}
	if veto != nil {
		f.found(Finding{
			Subject: string(s.Key), Place: veto.Place, Next: nextRemoveLine, Breaks: boot.Effect != s.Value,
			Sentence: fmt.Sprintf("systemd-sysctl will not set %s at next boot: %s takes it out: %s", s.Key, veto.Place, veto.name),
		})
	}
	f.wrong(&k, s, veto != nil)
	if maybe != nil {
		f.depends(&k, maybe, of)
	}
	for _, d := range doubts {
		f.doubted(s, d)
	}
	f.unheard(s, name)
}

// NextBoot is what the key will be once the host has booted, as far as that is
// certain: the last of those who have their turn at boot.
func (k *Key) NextBoot() Outcome {
	var last Outcome
	for _, o := range k.By {
		if o.Reader.atBoot() && (o.Place != (Place{}) || last == (Outcome{})) {
			last = o
		}
	}
	return last
}

// outcome says what is left after a reader's writes: the last one that the
// kernel accepts.
func outcome(r Reader, s guard.Setting, writes []assignment) Outcome {
	for _, w := range slices.Backward(writes) {
		if effect, ok := settles(s, w.value); ok {
			return Outcome{r, w.Place, w.value, effect}
		}
	}
	return Outcome{Reader: r}
}

// wrong reports each line that leaves a key otherwise than wanted, once for
// all the readers that it misleads.
func (f *forecast) wrong(k *Key, s guard.Setting, vetoed bool) {
	set := false
	for i, o := range k.By {
		set = set || o.Reader.atBoot() && o.Place != (Place{})
		if guard.SameValue(o.Effect, k.Want) || o.Place == (Place{}) && vetoed {
			continue
		}
		if slices.ContainsFunc(k.By[:i], func(e Outcome) bool { return e.Place == o.Place }) {
			continue
		}
		if o.Place == (Place{}) {
			f.found(f.unset(k, s))
			continue
		}
		var when []string
		for _, e := range k.By[i:] {
			if w := f.when(&e); e.Place == o.Place && !slices.Contains(when, w) {
				when = append(when, w)
			}
		}
		f.found(Finding{
			Subject: string(k.Key), Place: o.Place, Breaks: true, Next: f.against(k, &o),
			Sentence: fmt.Sprintf("%s will be %s %s: %s %s", k.Key, o.Effect, strings.Join(when, " and "), o.Place, f.why(&o, s.Key.Path())),
		})
	}
	if m := f.missedLine(s, set || vetoed || k.By[0].Effect != k.Want); m != nil {
		f.found(Finding{
			Subject: string(k.Key), Place: m.Place, Next: m.next,
			Sentence: fmt.Sprintf("%s is as the kernel has it at next boot: %s %s", k.Key, m.Place, m.what),
		})
	}
}

// unset says that nothing sets a key, and which line is meant to.
func (f *forecast) unset(k *Key, s guard.Setting) Finding {
	found := Finding{
		Subject: string(k.Key), Breaks: true, Next: nextSysctlD,
		Sentence: fmt.Sprintf("%s will not be set to %s at next boot: no file in sysctl.d does", k.Key, k.Want),
	}
	ours := f.o.SysctlD
	m := f.missedLine(s, false)
	switch {
	case m != nil && m.File != ours:
		found.Place, found.Next = m.Place, m.next
		found.Sentence = fmt.Sprintf("%s will not be set to %s at next boot: %s %s", k.Key, k.Want, m.Place, m.what)
	case ours == "":
	case !readsDir("sysctl.d", ours), f.report.Dropin.Present && !slices.Contains(f.files, ours):
		found.Place, found.Next = Place{File: ours}, fmt.Sprintf(nextOwnName, "sysctl", "/etc/sysctl.d/99-zz-nfguard.conf")
		found.Sentence = fmt.Sprintf("%s will not be set to %s at next boot: systemd-sysctl does not read %s", k.Key, k.Want, ours)
	case f.foreign(ours):
		found.Place, found.Next = Place{File: ours}, nextMoveAway
		found.Sentence = fmt.Sprintf("%s will not be set to %s at next boot: %s is somebody else's, and does not set it", k.Key, k.Want, ours)
	default:
		found.Next = f.apply(ours)
	}
	return found
}

// foreign reports whether a file that is not ours stands at the path of a
// drop-in: apply leaves it as it is.
func (f *forecast) foreign(name string) bool {
	text, ok := f.t.read(name, maxFile)
	return ok && !guard.Ours(text)
}

// started is what was run where an outcome comes from, or nil.
func (f *forecast) started(o *Outcome) *start {
	for i := range f.starts {
		if s := &f.starts[i]; s.Reader == o.Reader && slices.ContainsFunc(s.acts, func(a act) bool { return a.at == o.Place }) {
			return s
		}
	}
	return nil
}

// when says in a sentence when an outcome comes about.
func (f *forecast) when(o *Outcome) string {
	if s := f.started(o); s != nil {
		return s.when
	}
	return o.Reader.when()
}

// why says what makes a line decide.
func (f *forecast) why(o *Outcome, key string) string {
	if s := f.started(o); s != nil {
		return s.how(s.act(o.Place, key))
	}
	switch {
	case o.File == cmdlinePlace:
		return "says so"
	case o.Reader == SystemdSysctl && f.report.Dropin.Present && path.Base(o.File) > path.Base(f.o.SysctlD):
		return "is read after " + f.o.SysctlD
	case o.File == "/etc/sysctl.conf":
		return "is read last there"
	case strings.HasSuffix(o.File, "/tuned.conf"):
		return "is in the active profile"
	}
	return "is the last line that sets it"
}

// against is the next step against a line: a file of a package is not edited,
// it would come back with the next version.
func (f *forecast) against(k *Key, o *Outcome) string {
	ours := &f.report.Dropin
	hides := hidden(o.File)
	switch {
	case o.Reader == SystemdSysctl && ours.Path != "" && !ours.Present && path.Base(o.File) < path.Base(ours.Path) && readsDir("sysctl.d", ours.Path):
		return f.apply(ours.Path) + nextIsReadLater
	case strings.HasPrefix(o.File, "/usr/lib/tuned/"):
		return fmt.Sprintf(nextProfile, k.Key, k.Want)
	case hides != "":
		return fmt.Sprintf(nextHide, hides)
	case f.started(o) != nil:
		return f.started(o).against(o.Place)
	case o.Reader == SystemdSysctl && ours.Name != "":
		return o.remove() + fmt.Sprintf(nextLaterName, ours.Name)
	}
	if o.Reader == SystemdSysctl && ours.Present && path.Base(o.File) > path.Base(ours.Path) {
		return o.remove() + nextNoName
	}
	return o.remove()
}

// hidden is where a file hides that of a package with the same name, or "".
func hidden(file string) string {
	for _, lib := range []string{"/usr/lib/", "/lib/"} {
		rest, ok := strings.CutPrefix(file, lib)
		if !ok {
			continue
		}
		for _, family := range []string{"sysctl.d", "modprobe.d", "tmpfiles.d", "udev/rules.d", "systemd/system"} {
			if path.Dir(rest) == family {
				return "/etc/" + rest
			}
		}
	}
	return ""
}

// apply is the next step that has our drop-in written.
func (f *forecast) apply(path string) string {
	return fmt.Sprintf(nextApply, cmp.Or(f.o.Apply, "nfguard apply"), path)
}

// withoutIPv6 is about ip6tables on a kernel that is booted without IPv6:
// br_netfilter then drops each bridged IPv6 frame (guard.Policy.Excused).
func (f *forecast) withoutIPv6(k *Key) {
	for _, o := range k.By {
		if o.Place != (Place{}) && o.Effect != "0" {
			f.found(Finding{
				Subject: string(k.Key), Place: o.Place, Next: nextNoIPv6,
				Sentence: fmt.Sprintf("with ipv6.disable=1 every bridged IPv6 frame will be dropped: %s sets %s to %s", o.Place, k.Key, o.Effect),
			})
			return
		}
	}
}

// unheard reports a sysctl.KEY=VALUE that comes too early to matter: the
// kernel sets it before any module is loaded.
func (f *forecast) unheard(s guard.Setting, name string) {
	if len(f.bootSysctl(name)) > 0 && s.Key.BridgeNF() && !f.builtin() {
		f.found(Finding{
			Subject: string(s.Key), Place: Place{File: cmdlinePlace}, Next: nextSysctlInstead,
			Sentence: fmt.Sprintf("sysctl.%s on the kernel's command line will do nothing: the key comes later, with %s", s.Key, f.o.Module),
		})
	}
}
