package boot

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// A miss is a line that is meant to do something at boot, and does not.
type miss struct {
	Place
	what string // "is not read: its name does not end in .conf"
	next string
}

// mark is how some editors begin a file in UTF-8. To the readers it is a part
// of the first name.
const mark = "\ufeff"

// names splits a line of modules-load.d: the names in it, and whether a comment
// comes after them.
func names(line string) (words []string, comment bool) {
	for _, w := range strings.Fields(line) {
		if w[0] == '#' || w[0] == ';' {
			return words, true
		}
		words = append(words, canonical(strings.TrimSuffix(strings.TrimPrefix(w, mark), ",")))
	}
	return words, false
}

// missedName returns why a line of a file of modules-load.d that has module's
// name does not load it, or nil where it does not have it.
func missedName(at Place, line, module string) *miss {
	words, comment := names(line)
	if !slices.Contains(words, canonical(module)) {
		for _, w := range words {
			if bare, isFile := strings.CutSuffix(w[strings.LastIndexByte(w, '/')+1:], ".ko"); isFile && bare == canonical(module) {
				return &miss{at, "has the name of a file, and what is read is the name of a module", fmt.Sprintf(nextName, module)}
			}
		}
		if len(words) == 1 && misspelt(words[0], canonical(module)) {
			return &miss{at, fmt.Sprintf("names %s, which is no module", words[0]), fmt.Sprintf(nextName, module)}
		}
		return nil
	}
	switch {
	case words[0] == "modprobe" || words[0] == "insmod":
		return &miss{at, "is a command, and what is read is the name of a module", fmt.Sprintf(nextName, module)}
	case strings.HasPrefix(line, mark) && len(words) == 1 && !comment:
		return &miss{at, "begins with a byte order mark, which counts as a part of the name", nextBOM}
	case len(words) > 1:
		return &miss{at, "has several names in a line, and a line is one name", nextOneName}
	}
	return &miss{at, "has a comment after its name in the line, and a line is one name", nextMoveComment}
}

// missedLoader looks for a line that names module in a file that nobody reads.
func (f *forecast) missedLoader(module string) *miss {
	has := func(file string) *Place {
		text, ok := f.t.read(file, maxFile)
		if !ok {
			return nil
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if words, _ := names(line); slices.Contains(words, canonical(module)) {
				return &Place{file, n}
			}
		}
		return nil
	}
	for _, file := range f.t.passedOver("modules-load.d") {
		if at := has(file.name); at != nil {
			return &miss{*at, "is not read: " + file.why, file.next}
		}
	}
	if at := has("/etc/modules"); at != nil && !f.t.linked("modules-load.d", "/etc/modules") {
		return &miss{*at, "is not read: there is no link to it in modules-load.d", nextMoveModule}
	}
	return nil
}

// unread is a file in the directory of a family that its reader passes over.
type unread struct{ name, why, next string }

// passedOver returns the files that lie in a family's directories, and are not
// read because of their names.
func (t *tree) passedOver(family string) []unread {
	if all, known := t.passed[family]; known {
		return all
	}
	all := []unread{}
	defer func() { t.passed[family] = all }()
	taken := make(map[string]string)
	for _, dir := range below(family) {
		for _, e := range t.list(dir) {
			name, file := e.Name(), path.Join(dir, e.Name())
			first, hidden := taken[name]
			switch {
			case e.IsDir():
			case conf(e) && !hidden:
				taken[name] = file
			case conf(e) && dir == "/lib/"+family && t.same(dir, "/usr/lib/"+family):
			case conf(e):
				all = append(all, unread{file, first + " has the same name and hides it", fmt.Sprintf(nextCopyLine, first)})
			case name[0] == '.' || strings.HasSuffix(name, "~") || name == "README":
			default:
				all = append(all, unread{file, "its name does not end in .conf", fmt.Sprintf(nextRename, path.Join("/etc", family, strings.TrimSuffix(strings.TrimSuffix(name, path.Ext(name)), ".conf")+".conf"))})
			}
		}
	}
	return all
}

// same reports whether two names lead to one directory.
func (t *tree) same(a, b string) bool {
	if t.files == nil {
		return false
	}
	x, err := t.files.Resolve(a)
	y, other := t.files.Resolve(b)
	return err == nil && other == nil && x == y
}

// linked reports whether a file of a family is a link to name.
func (t *tree) linked(family, name string) bool {
	for _, file := range t.systemdDropins(family) {
		if t.same(file, name) {
			return true
		}
	}
	return false
}

// missedLine looks for a line that is meant to set a sysctl as wanted, where
// nothing that is read at boot does. There is nothing to miss where it is set.
func (f *forecast) missedLine(s guard.Setting, set bool) *miss {
	if set {
		return nil
	}
	key := s.Key.Path()
	for i := range f.lines {
		if m := missedAssignment(&f.lines[i], s); m != nil {
			return m
		}
	}
	sets := func(file string) *Place {
		for _, l := range f.t.assignments([]string{file}) {
			if effect, ok := settles(s, l.value); l.sets && l.path == key && ok && guard.SameValue(effect, s.Value) {
				return &l.Place
			}
		}
		return nil
	}
	for _, file := range f.t.passedOver("sysctl.d") {
		if at := sets(file.name); at != nil {
			return &miss{*at, "is not read: " + file.why, file.next}
		}
	}
	if at := sets("/etc/sysctl.conf"); at != nil && !f.t.linked("sysctl.d", "/etc/sysctl.conf") {
		return &miss{*at, "is not read at boot: there is no link to it in sysctl.d", nextMoveSysctl}
	}
	return nil
}

// missedAssignment returns why a line that is read does not set what it names.
func missedAssignment(l *assignment, s guard.Setting) *miss {
	key := s.Key.Path()
	bare, marked := strings.CutPrefix(l.name, mark)
	if !marked && l.sets && l.path != key && !strings.Contains(l.path, "nf") && !strings.Contains(l.path, "ip_f") && simplify(l.path) != key {
		return nil // nearly all lines
	}
	if marked && simplify(swap(strings.TrimPrefix(bare, "-"))) == key {
		return &miss{l.Place, "begins with a byte order mark, which counts as a part of the name", nextBOM}
	}
	if l.sets && l.path != key && simplify(l.path) != key {
		if !misnamed(simplify(l.path), s.Key) {
			return nil
		}
		if effect, ok := settles(s, l.value); ok && guard.SameValue(effect, s.Value) {
			return &miss{l.Place, fmt.Sprintf("sets %s, which is no sysctl", strings.TrimPrefix(l.name, "-")), fmt.Sprintf(nextAssign, s.Key, s.Value)}
		}
		return nil
	}
	if l.sets {
		if _, ok := settles(s, l.value); ok || simplify(l.path) != key {
			return nil
		}
		return &miss{l.Place, fmt.Sprintf("sets it to %q, which the kernel refuses", l.value), fmt.Sprintf(nextAssign, s.Key, s.Value)}
	}
	if words := strings.FieldsFunc(bare, func(r rune) bool { return strings.ContainsRune(blank+":", r) }); len(words) > 1 && simplify(swap(words[0])) == key {
		return &miss{l.Place, "has no \"=\" between the name and the value", fmt.Sprintf(nextAssign, s.Key, s.Value)}
	}
	return nil
}

// misspelt reports whether a word is meant to be a name: it has a letter or two
// more, less or other, or is what people take for br_netfilter's.
func misspelt(word, name string) bool {
	if name == "br_netfilter" && slices.Contains([]string{"bridge_netfilter", "bridge_nf", "br_nf", "netfilter_bridge", "nf_bridge"}, word) {
		return true
	}
	return word != name && distance(word, name) <= 2
}

// bridgeKeys are those of br_netfilter, of which no one is meant to be another.
var bridgeKeys = []string{
	"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables",
	"bridge-nf-filter-vlan-tagged", "bridge-nf-filter-pppoe-tagged", "bridge-nf-pass-vlan-input-dev",
}

// misnamed reports whether a path below /proc/sys, which is not the key's, is meant
// to be. It looks at names that are known to be nobody else's.
func misnamed(path string, key guard.Key) bool {
	last, own := path[strings.LastIndexByte(path, '/')+1:], tail(key.Path())
	last = strings.ReplaceAll(last, "_", "-")
	switch {
	case key.BridgeNF():
		return last == own || !slices.Contains(bridgeKeys, last) && !isGlob(last) && distance(last, own) <= 2
	case key == "net.ipv4.ip_forward":
		return distance(path, key.Path()) <= 2
	}
	return false
}

// distance is how many letters are to be added, removed or changed to make one
// word of the other; two that have changed places count as one.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3 // more is not asked for
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		old, last, now := rows[0], rows[1], rows[2]
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], old[j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = last, now, old
	}
	return rows[1][len(b)]
}
