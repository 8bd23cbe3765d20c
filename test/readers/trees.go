package readers

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Probes are keys that a test can tell apart by their values, as paths below /proc/sys,
// besides bridge-nf-call-iptables.
var Probes = []string{"net/ipv4/ip_default_ttl", "net/ipv4/tcp_keepalive_probes", "net/ipv4/tcp_orphan_retries"}

// Tree is a set of files by their paths, and of symbolic links with their targets, with
// the kernel's command line.
type Tree struct {
	Files, Links map[string]string
	Cmdline      string
}

func newTree() Tree {
	return Tree{make(map[string]string), make(map[string]string), "quiet ro"}
}

// Write makes the files and links below dir.
func (t Tree) Write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(t.Files)) {
		full := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(t.Files[name]), 0o644)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Links)) {
		full := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.Symlink(t.Links[name], full)); err != nil {
			return err
		}
	}
	return nil
}

// String shows the whole tree, for who has to find out why it is read otherwise.
func (t Tree) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "command line: %s\n", t.Cmdline)
	for _, name := range slices.Sorted(maps.Keys(t.Files)) {
		fmt.Fprintf(&s, "%s:\n%s\n", name, strings.TrimSuffix(t.Files[name], "\n"))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Links)) {
		fmt.Fprintf(&s, "%s -> %s\n", name, t.Links[name])
	}
	return s.String()
}

func (t Tree) has(name string) bool {
	_, file := t.Files[name]
	_, link := t.Links[name]
	return file || link
}

// SysctlTree is a tree for readers of sysctl.d. In lib are more directories to choose
// from.
func SysctlTree(r *rand.Rand, lib ...string) Tree {
	t := newTree()
	dirs := append([]string{"etc/sysctl.d", "etc/sysctl.d", "run/sysctl.d", "usr/lib/sysctl.d", "usr/local/lib/sysctl.d"}, lib...)
	for range 1 + r.IntN(6) {
		name := pick(r, dirs...) + "/" + pick(r, "10-a", "50-b", "99-sysctl", "99-zz-nfguard", "99-zz", "Z", ".h", "zz") + ".conf"
		if r.IntN(8) == 0 {
			name = "etc/sysctl.conf"
		}
		if t.has(name) {
			continue
		}
		if r.IntN(12) == 0 {
			t.Links[name] = pick(r, "/dev/null", "../sysctl.conf", "/etc/sysctl.conf", "/nowhere", "50-b.conf")
			continue
		}
		var text strings.Builder
		for range r.IntN(7) {
			text.WriteString(sysctlLine(r))
		}
		t.Files[name] = text.String()
	}
	return t
}

// sysctlLine is a line as it may stand in a file of sysctl.d.
func sysctlLine(r *rand.Rand) string {
	key := pick(r, append(Probes, "net/bridge/bridge-nf-call-iptables")...)
	bridge := strings.HasPrefix(key, "net/bridge")
	switch r.IntN(5) {
	case 0: // a pattern
		parts := strings.Split(key, "/")
		i := 1 + r.IntN(len(parts)-1)
		cut := 1 + r.IntN(len(parts[i])-1)
		parts[i] = pick(r, parts[i][:cut]+"*", "*"+parts[i][cut:], parts[i][:cut-1]+"?"+parts[i][cut:], parts[i][:cut-1]+"[a-z_-]"+parts[i][cut:])
		key = strings.Join(parts, "/")
	case 1:
		key = pick(r, "/"+key, strings.Replace(key, "/", "//", 1), strings.Replace(key, "/", "/./", 1))
	}
	if r.IntN(2) == 0 && !strings.Contains(key, "/.") {
		key = strings.ReplaceAll(key, "/", ".")
	}
	value := strconv.Itoa(1 + r.IntN(4))
	if bridge {
		value = pick(r, "0", "1", "2")
	}
	if r.IntN(6) == 0 {
		value = pick(r, "0x5", "07", "6 # why", "abc", "", "-", "7x", "8 9")
	}
	switch r.IntN(9) {
	case 0:
		return "-" + key + "\n"
	case 1:
		return "-" + key + "=" + value + "\n"
	case 2:
		return pick(r, "#", ";", " # ", "\t;") + key + "=" + value + "\n"
	case 3:
		return " " + key + " \t= " + value + " \r\n"
	case 4:
		return pick(r, "\n", " \n", key+"\n", "=\n", key+" "+value+"\n", "\\\n")
	}
	return key + "=" + value + "\n"
}

// ModprobeTree is a tree for modprobe. The commands of its "install" lines load nothing.
func ModprobeTree(r *rand.Rand, lib ...string) Tree {
	t := newTree()
	dirs := append([]string{"etc/modprobe.d", "etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d", "usr/local/lib/modprobe.d"}, lib...)
	for range 1 + r.IntN(4) {
		name := pick(r, dirs...) + "/" + pick(r, "a.conf", "b.conf", "z.conf", "a.alias", "c", ".h.conf", "a.conf.bak")
		if t.has(name) {
			continue
		}
		if r.IntN(10) == 0 {
			t.Links[name] = pick(r, "/dev/null", "/nowhere", "z.conf")
			continue
		}
		var text strings.Builder
		for range r.IntN(4) {
			text.WriteString(modprobeLine(r))
		}
		t.Files[name] = text.String()
		if r.IntN(6) == 0 {
			t.Files[name] = strings.TrimSuffix(text.String(), "\n") + pick(r, "", "\\", "\\\n")
		}
	}
	if r.IntN(8) == 0 {
		t.Cmdline = pick(r, "modprobe.blacklist=", "modprobe.blacklist=llc,") + module(r) + " ro"
	}
	return t
}

func module(r *rand.Rand) string {
	return pick(r, "br_netfilter", "br_netfilter", "br-netfilter", "bridge", "llc", "nosuch", "br_*", "br?net[a-f]ilter", "BR_NETFILTER")
}

func modprobeLine(r *rand.Rand) string {
	name := module(r)
	line := pick(r,
		"blacklist "+name, "blacklist\t"+name+" # no", " blacklist  "+name, "blacklist llc "+name, "blacklist "+name+"\r", "blacklist",
		"install "+name+" /bin/false", "install "+name+" /bin/true", "install "+name,
		"alias "+name+" off", "alias "+name+" llc", "alias "+name+" br_netfilter", "alias "+name,
		"options "+name+" x=1", "remove "+name+" /bin/false", "softdep br_netfilter pre: "+pick(r, "llc", "absent"),
		"# blacklist "+name, "#blacklist "+name, "", "black\\\nlist "+name, "blacklist \\\n"+name, "# x \\\nblacklist "+name, "blacklist \\ \n"+name)
	return line + "\n"
}

// LoadTree is a tree for systemd-modules-load.
func LoadTree(r *rand.Rand, lib ...string) Tree {
	t := newTree()
	dirs := append([]string{"etc/modules-load.d", "etc/modules-load.d", "run/modules-load.d", "usr/lib/modules-load.d", "usr/local/lib/modules-load.d"}, lib...)
	for range 1 + r.IntN(4) {
		name := pick(r, dirs...) + "/" + pick(r, "a.conf", "b.conf", "z.conf", "c", ".h.conf", "a.conf.bak")
		if t.has(name) {
			continue
		}
		if r.IntN(8) == 0 {
			t.Links[name] = pick(r, "/dev/null", "/nowhere", "z.conf", "../modules")
			continue
		}
		var text strings.Builder
		for range r.IntN(4) {
			name := module(r)
			text.WriteString(pick(r, name, name, " "+name+"\t", name+" # why", "# "+name, "; "+name, name+" llc", "llc,"+name, "\xef\xbb\xbf"+name, name+"\r", "") + "\n")
		}
		t.Files[name] = text.String()
		if r.IntN(6) == 0 {
			t.Files[name] = strings.TrimSuffix(text.String(), "\n")
		}
	}
	if r.IntN(3) == 0 {
		t.Files["etc/modules"] = module(r) + "\n"
	}
	if r.IntN(6) == 0 {
		t.Cmdline = pick(r, "modules_load=", "modules-load=", "modules_load=llc,", "rd.modules_load=") + module(r) + " ro"
	}
	return t
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }
