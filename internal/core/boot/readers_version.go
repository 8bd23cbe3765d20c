package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"syscall"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/files"
)

// procps is how the sysctl(8) of a host reads its files. The version alone does
// not tell: Red Hat's 3.3.15 is patched to read /etc first.
type procps struct {
	of       string // which versions do so; "" for what is there, which is not named
	runFirst bool   // a file in /run/sysctl.d hides one in /etc/sysctl.d
	patterns bool   // a name can be a pattern
	takesOut bool   // "-pattern" keeps every pattern away from what fits it
}

// procpsKinds are those that are met, the newest first. All but the last are
// held against the real program by `make readers`; 4.0.5 and 4.0.6 were not
// there to look at, and are taken by what is in them.
var procpsKinds = []procps{
	{of: "procps 4.0.7", patterns: true, takesOut: true},
	{of: "procps 4.0 to 4.0.4", patterns: true},
	{of: "procps 3.3.17"},
	{of: "procps before 3.3.17", runFirst: true},
}

// procps returns how sysctl reads here: one kind where the program tells, several
// where it does not. It is not run: what makes the kinds differ stands in its
// text, as the directories do in their order. Without the program, its library
// tells version 3; without either, what is installed one day is taken to be like
// 4.0.4.
func (t *tree) procps() []procps {
	if t.sysctls != nil {
		return t.sysctls
	}
	text, there := t.program("sysctl", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
	version, known := numberAfter(text, "procps-ng ")
	switch {
	case known:
		etc, run := bytes.Index(text, []byte("/etc/sysctl.d")), bytes.Index(text, []byte("/run/sysctl.d"))
		kind := procps{
			runFirst: run >= 0 && run < etc,
			patterns: version >= 4, takesOut: bytes.Contains(text, []byte("fnmatch")),
		}
		t.sysctls = []procps{kind}
	case there: // another maker's, or one that says nothing of itself
		t.sysctls = procpsKinds
	case t.libprocps():
		t.sysctls = procpsKinds[2:]
	default:
		t.sysctls = procpsKinds[1:2]
	}
	return t.sysctls
}

// libprocps reports whether there is the library of procps 3: of Debian 11, Ubuntu
// 22.04, RHEL 8 and 9.
func (t *tree) libprocps() bool {
	for _, dir := range []string{"/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib"} {
		for _, lib := range []string{"libprocps.so.8", "libprocps.so.7", "libprocps.so.6"} {
			if t.exists(dir + "/" + lib) {
				return true
			}
		}
	}
	return false
}

// procpsOutcome is what `sysctl --system` leaves of a key. Where it depends on
// what cannot be told, one that is as wanted is returned, and another as a doubt.
func (f *forecast) procpsOutcome(s guard.Setting) (o Outcome, other *Outcome, of string) {
	for i, kind := range f.t.procps() {
		each := outcome(Procps, s, procpsWrites(f.t.readProcps(kind), s.Key.Path(), kind))
		right := each.Place == (Place{}) || guard.SameValue(each.Effect, s.Value)
		switch {
		case i == 0:
			o, of = each, kind.of
		case right == (o.Place == (Place{}) || guard.SameValue(o.Effect, s.Value)):
		case right:
			o, other = each, &o
			return o, &Outcome{other.Reader, other.Place, other.Value, other.Effect}, of
		default:
			return o, &each, kind.of
		}
	}
	return o, nil, ""
}

// depends reports what a key may be after `sysctl --system`, where it depends on a
// program that does not tell how it reads.
func (f *forecast) depends(k *Key, o *Outcome, of string) {
	f.found(Finding{
		Subject: string(k.Key), Place: o.Place, Next: f.against(k, o),
		Sentence: fmt.Sprintf("%s may be %s %s: %s decides for %s, and which sysctl this is cannot be told", k.Key, o.Effect, o.Reader.when(), o.Place, of),
	})
}

// kmod is how the kmod of a host, and systemd by its library, read modprobe.d.
type kmod struct {
	of         string // as of [procps]
	local, usr bool   // /usr/local/lib/modprobe.d and /usr/lib/modprobe.d are read, not only /lib's
	alias      bool   // so are files *.alias
	open       bool   // a backslash that ends the file joins its line with nothing
}

// kmodKinds are those that are met. 30 is first: it is what is judged by where no
// kmod is there.
var kmodKinds = []kmod{
	{of: "kmod 29 to 32", local: true, usr: true, alias: true},
	{of: "kmod 33 and later", local: true, usr: true, open: true},
	{of: "kmod 28 and before", alias: true},
}

// kmods is [tree.procps] for kmod. Its text has its version, and the directories
// that it reads; but one of them can be the end of another, so that all read
// /lib/modprobe.d.
func (t *tree) kmods() []kmod {
	if t.modprobes != nil {
		return t.modprobes
	}
	text, there := t.program("kmod", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
	version, known := numberAfter(text, "kmod version ")
	switch {
	case known:
		kind := kmod{
			alias: version < 33, open: version >= 33,
			local: bytes.Contains(text, []byte("/usr/local/lib/modprobe.d")),
			usr:   bytes.Contains(text, []byte("\x00/usr/lib/modprobe.d")),
		}
		t.modprobes = []kmod{kind}
	case there:
		t.modprobes = kmodKinds
	default:
		t.modprobes = kmodKinds[:1]
	}
	return t.modprobes
}

// numberAfter returns the number that follows words in a program's text.
func numberAfter(text []byte, words string) (n int, ok bool) {
	_, rest, _ := bytes.Cut(text, []byte(words))
	digits := 0
	for digits < len(rest) && digits < 9 && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(string(rest[:digits]))
	return n, err == nil
}

// dirs are the directories that kmod reads, in their order of precedence.
func (k kmod) dirs() []string {
	dirs := []string{"/etc", "/run"}
	if k.local {
		dirs = append(dirs, "/usr/local/lib")
	}
	if k.usr {
		dirs = append(dirs, "/usr/lib")
	}
	dirs = append(dirs, "/lib")
	for i := range dirs {
		dirs[i] += "/modprobe.d"
	}
	return dirs
}

// kmodDepends reports that it depends on kmod whether the module is forbidden,
// where kmod does not tell its version.
func (f *forecast) kmodDepends() {
	first := f.forbidden(f.t.rules(), f.o.Module, f.deps())
	for _, kind := range f.t.kmods()[1:] {
		r, of := f.forbidden(f.t.rulesFor(kind), f.o.Module, f.deps()), kind.of
		if (r == nil) == (first == nil) {
			continue
		}
		if r == nil {
			r, of = first, f.t.kmods()[0].of
		}
		f.found(Finding{
			Subject: f.o.Module, Place: r.Place, Next: r.remove(),
			Sentence: fmt.Sprintf("%s may not be loaded at next boot: %s forbids it for %s, and which kmod this is cannot be told: %s", f.o.Module, r.Place, of, r.text),
		})
		return
	}
}

// systemdDropins are the files of a family that systemd's programs read, in order. A
// link to nowhere hides what has its name elsewhere. Of 262 it does so in sysctl.d only
// where it does not lead in a circle, and in modules-load.d not at all. (247, 252 and 257
// are as before; 258 to 261 were not there to look at, and are taken for that.)
func (t *tree) systemdDropins(family string) []string {
	if t.systemd() < 262 {
		return t.dropins(below(family), conf)
	}
	return t.chosen(below(family), func(dir string, e fs.DirEntry) bool {
		if !conf(e) || e.Type()&fs.ModeSymlink == 0 {
			return conf(e)
		}
		_, err := t.files.Resolve(path.Join(dir, e.Name()))
		return err == nil || family == "sysctl.d" && !errors.Is(err, syscall.ELOOP)
	})
}

// systemd is the version of the host's, or 0 where it does not tell, by the library of
// its programs: libsystemd-shared-252.so, or Red Hat's libsystemd-shared-252-32.el9.so.
func (t *tree) systemd() int {
	for _, dir := range []string{"/usr/lib/systemd", "/lib/systemd", "/usr/lib64/systemd", "/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/aarch64-linux-gnu/systemd"} {
		for _, e := range t.list(dir) {
			if n, ok := numberAfter([]byte(e.Name()), "libsystemd-shared-"); ok {
				return n
			}
		}
	}
	return 0
}

// maxProgram bounds what is read of a program: sysctl and kmod have 30 and 180 kB.
const maxProgram = 1 << 20

// program returns the text of a program in the first directory that has it.
func (t *tree) program(name string, dirs ...string) (text []byte, there bool) {
	if t.files == nil {
		return nil, false
	}
	for _, dir := range dirs {
		at := path.Join(dir, name)
		t.said(at)
		text, err := t.files.Read(at, maxProgram)
		if err == nil || errors.As(err, new(*files.TooLarge)) {
			return text, true
		}
	}
	return nil, false
}
