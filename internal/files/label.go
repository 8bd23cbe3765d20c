package files

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// labelAttribute is where SELinux keeps a file's label.
const labelAttribute = "security.selinux"

// Policy is what a tree's SELinux policy says. The zero Policy says nothing: SELinux
// is off.
type Policy struct {
	On       bool // SELinux is on at the next boot: the configuration says so
	Enforces bool // and refuses, not only reports
	contexts [][]byte
	aliases  [][]byte
}

const maxPolicy = 4 << 20 // file_contexts: 0.4 MB on Debian

// SELinux reads /etc/selinux/config and the file contexts of the policy that it names
// (selinux_config(5)). What cannot be read says nothing.
func (t *Tree) SELinux() Policy {
	var p Policy
	config, err := t.Read("/etc/selinux/config", maxPolicy)
	if err != nil {
		return p
	}
	kind := "targeted"
	for line := range strings.Lines(string(config)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.ToLower(strings.TrimSpace(value)); strings.TrimSpace(name) {
		case "SELINUX":
			p.On, p.Enforces = value == "enforcing" || value == "permissive", value == "enforcing"
		case "SELINUXTYPE":
			kind = value
		}
	}
	if strings.Contains(kind, "/") {
		return Policy{}
	}
	dir := path.Join("/etc/selinux", kind, "contexts/files")
	for _, end := range []string{"", ".homedirs", ".local"} {
		if text, err := t.Read(dir+"/file_contexts"+end, maxPolicy); err == nil {
			p.contexts = append(p.contexts, text)
		}
	}
	for _, end := range []string{".subs", ".subs_dist"} {
		if text, err := t.Read(dir+"/file_contexts"+end, maxPolicy); err == nil {
			p.aliases = append(p.aliases, text)
		}
	}
	return p
}

// Label returns the label that the policy has for a regular file, as matchpathcon(8)
// finds it: of the lines that name the path as it is the last, or else the last whose
// pattern fits. "" where there is none, or where the policy says that there is none.
func (p *Policy) Label(name string) string {
	name = p.alias(path.Clean(name))
	exact, matched := "", ""
	for _, text := range p.contexts {
		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			if len(words) < 2 || len(words) > 3 || words[0][0] == '#' || len(words) == 3 && words[1] != "--" {
				continue
			}
			label := words[len(words)-1]
			stem, plain := literal(words[0])
			switch {
			case plain:
				if stem == name {
					exact = label
				}
			case strings.HasPrefix(name, stem):
				if r, err := regexp.Compile("^(?:" + words[0] + ")$"); err == nil && r.MatchString(name) {
					matched = label
				}
			}
		}
	}
	if exact == "" {
		exact = matched
	}
	if exact == "<<none>>" {
		return ""
	}
	return exact
}

// literal returns what a pattern begins with that is no pattern, and whether that is
// all of it.
func literal(pattern string) (stem string, plain bool) {
	var s strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern):
			i++
			s.WriteByte(pattern[i])
		case strings.IndexByte(".^$?*+|[({", c) >= 0:
			stem = s.String()
			if strings.IndexByte("?*{", c) >= 0 && stem != "" { // what is before it may be absent
				stem = stem[:len(stem)-1]
			}
			if strings.Contains(pattern, "|") { // another branch may begin in another way
				stem = stem[:strings.LastIndexByte(stem, '/')+1]
			}
			return stem, false
		default:
			s.WriteByte(c)
		}
	}
	return s.String(), true
}

// alias replaces the beginning of a path by the one that the policy judges it by: the
// first line that fits, of the administrator's before the distribution's.
func (p *Policy) alias(name string) string {
	for _, text := range p.aliases {
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) != 2 || words[0][0] == '#' {
				continue
			}
			if rest, ok := strings.CutPrefix(name, words[0]); ok && (rest == "" || rest[0] == '/') {
				name = words[1] + rest
				break
			}
		}
	}
	return name
}

// LabelOf returns the label of a file, "" where it has none or it cannot be read.
func (t *Tree) LabelOf(name string) string {
	f, err := t.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	return labelOf(f)
}

func labelOf(f *os.File) string {
	buf := make([]byte, 512)
	n, err := unix.Fgetxattr(int(f.Fd()), labelAttribute, buf)
	if err != nil || n <= 0 {
		return ""
	}
	return string(bytes.TrimRight(buf[:n], "\x00"))
}

// SameLabel reports whether two labels allow the same: their types are equal. Who made
// a file (the user and the role) decides about nothing here.
func SameLabel(a, b string) bool {
	x, y := strings.SplitN(a, ":", 4), strings.SplitN(b, ":", 4)
	return len(x) > 2 && len(y) > 2 && x[2] == y[2]
}

// hostLabel returns the label that the host's policy has for a file, or "" where
// SELinux is not on, which the kernel says.
func hostLabel(name string) string {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return ""
	}
	t, err := OpenTree("/")
	if err != nil {
		return ""
	}
	defer t.Close()
	if dir, err := t.Resolve(path.Dir(name)); err == nil { // the policy knows real paths
		name = path.Join("/", dir, path.Base(name))
	}
	p := t.SELinux()
	return p.Label(name)
}

// labelled has create make a file with a label, "" for that of its maker. The kernel is
// asked to use it from the start; where that is refused, as where procfs is read-only,
// the file gets it right after. Whether it worked shows on the file only: a file with
// another label is better than none.
func labelled(label string, create func() (*os.File, error)) (*os.File, error) {
	if label == "" {
		return create()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const next = "/proc/thread-self/attr/fscreate"
	if os.WriteFile(next, []byte(label), 0) == nil {
		defer func() { _ = os.WriteFile(next, []byte("\n"), 0) }() // back to what the policy makes of its maker
	}
	f, err := create()
	if err == nil && labelOf(f) != label {
		_ = unix.Fsetxattr(int(f.Fd()), labelAttribute, []byte(label+"\x00"), 0)
	}
	return f, err
}
