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
	version := f.t.procpsVersion()
	r := readings{version, f.t.readProcps(version), f.t.readUFW(), f.t.readTuned()}
	f.files = f.t.dropins(below("sysctl.d"), conf)
	f.lines = f.t.assignments(f.files)
	f.report.Dropin = f.dropin()
	f.report.Keys = make([]Key, 0, len(f.o.Keys))
	for _, s := range f.o.Keys {
		f.key(s, &r)
	}
}

// readings are the lines that the readers besides systemd-sysctl read.
type readings struct {
	version            int // of procps
	procps, ufw, tuned []assignment
}

func (f *forecast) key(s guard.Setting, r *readings) {
	name := s.Key.Path()
	writes, veto := systemdWrites(f.lines, name)
	boot := outcome(SystemdSysctl, s, writes)
	if boot.Place == (Place{}) {
		boot.Effect = atLoad(s.Key)
		if early := outcome(KernelCmdline, s, f.bootSysctl(name)); early.File != "" && (!s.Key.BridgeNF() || f.builtin()) {
			boot = early
		}
	}
	k := Key{Key: s.Key, Want: s.Value, By: []Outcome{boot}}
	for _, o := range []Outcome{
		outcome(UFW, s, procpsWrites(r.ufw, name, r.version)),
		outcome(TuneD, s, tunedWrites(r.tuned, name)),
		outcome(Procps, s, procpsWrites(r.procps, name, r.version)),
	} {
		if o.Place != (Place{}) {
			k.By = append(k.By, o)
		}
	}
	k.Right = !slices.ContainsFunc(k.By, func(o Outcome) bool { return !guard.SameValue(o.Effect, s.Value) })
	f.report.Keys = append(f.report.Keys, k)
	if f.ipv6Off() && s.Key == guard.IP6Tables && s.Value != "0" {
		f.withoutIPv6(&k)
		return
	}
	if veto != nil {
		f.found(Finding{
			Subject: string(s.Key), Place: veto.Place, Next: "remove that line", Breaks: boot.Effect != s.Value,
			Sentence: fmt.Sprintf("systemd-sysctl will not set %s at next boot: %s takes it out: %s", s.Key, veto.Place, veto.name),
		})
	}
	f.wrong(&k, veto != nil)
	f.unheard(s, name)
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
func (f *forecast) wrong(k *Key, vetoed bool) {
	for i, o := range k.By {
		if guard.SameValue(o.Effect, k.Want) || o.Place == (Place{}) && vetoed {
			continue
		}
		if slices.ContainsFunc(k.By[:i], func(e Outcome) bool { return e.Place == o.Place }) {
			continue
		}
		if o.Place == (Place{}) {
			f.found(Finding{
				Subject: string(k.Key), Breaks: true, Next: f.writeOurs(),
				Sentence: fmt.Sprintf("%s will not be set to %s at next boot: no file in sysctl.d does", k.Key, k.Want),
			})
			continue
		}
		var when []string
		for _, e := range k.By[i:] {
			if e.Place == o.Place {
				when = append(when, e.Reader.when())
			}
		}
		f.found(Finding{
			Subject: string(k.Key), Place: o.Place, Breaks: true, Next: f.unset(k, &o),
			Sentence: fmt.Sprintf("%s will be %s %s: %s %s", k.Key, o.Effect, strings.Join(when, " and "), o.Place, f.why(&o)),
		})
	}
}

// why says what makes a line decide.
func (f *forecast) why(o *Outcome) string {
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

// unset is the next step against a line: a file of a package is not edited,
// it would come back with the next version.
func (f *forecast) unset(k *Key, o *Outcome) string {
	ours := &f.report.Dropin
	switch {
	case o.Reader == SystemdSysctl && ours.Path != "" && !ours.Present && path.Base(o.File) < path.Base(ours.Path):
		return f.writeOurs() + " and is read later"
	case strings.HasPrefix(o.File, "/usr/lib/tuned/"):
		return fmt.Sprintf("set %s=%s under [sysctl] of a profile of your own that includes this one", k.Key, k.Want)
	case strings.HasPrefix(o.File, "/usr/lib/"), strings.HasPrefix(o.File, "/lib/"):
		return fmt.Sprintf("copy the file to /etc/%s, which hides it, and remove the line there",
			path.Join(path.Base(path.Dir(o.File)), path.Base(o.File)))
	case o.Reader == SystemdSysctl && ours.Name != "":
		return o.remove() + ", or give our file a later name: sysctl = \"" + ours.Name + "\" under [persist]"
	}
	if o.Reader == SystemdSysctl && ours.Present && path.Base(o.File) > path.Base(ours.Path) {
		return o.remove() + ": no name would have our file read after it"
	}
	return o.remove()
}

// apply is the next step that has our drop-in written.
func (f *forecast) apply(path string) string {
	return "run " + cmp.Or(f.o.Apply, "nfguard apply") + ", which writes " + path
}

func (f *forecast) writeOurs() string {
	if f.o.SysctlD == "" {
		return "set it in a file in /etc/sysctl.d"
	}
	return f.apply(f.o.SysctlD)
}

// withoutIPv6 is about ip6tables on a kernel that is booted without IPv6:
// br_netfilter then drops each bridged IPv6 frame (guard.Policy.Excused).
func (f *forecast) withoutIPv6(k *Key) {
	for _, o := range k.By {
		if o.Place != (Place{}) && o.Effect != "0" {
			f.found(Finding{
				Subject: string(k.Key), Place: o.Place, Next: "remove that line, or ipv6.disable=1",
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
			Subject: string(s.Key), Place: Place{File: cmdlinePlace}, Next: "set it in a file in /etc/sysctl.d instead",
			Sentence: fmt.Sprintf("sysctl.%s on the kernel's command line will do nothing: the key comes later, with %s", s.Key, f.o.Module),
		})
	}
}
