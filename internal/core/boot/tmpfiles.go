package boot

import (
	"path"
	"strings"
)

// tmpfiles returns what lines of tmpfiles.d(5) write to guarded sysctls: those of
// the type w, which writes to a file that is there, so that it does nothing where
// br_netfilter comes later. systemd-tmpfiles-setup runs when all file systems are
// mounted, systemd-sysctl does not wait for that.
func (f *forecast) tmpfiles() []start {
	for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/"} {
		if f.t.masked(dir + "systemd-tmpfiles-setup.service") {
			return nil
		}
	}
	var acts []act
	for _, file := range f.t.dropins(below("tmpfiles.d"), conf) {
		text, _ := f.t.read(file, maxFile)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if !strings.Contains(line, "/proc/sys/") {
				continue
			}
			line = strings.Trim(line, blank)
			kind, rest := firstWord(line)
			name, rest := firstWord(rest)
			if kind == "" || kind[0] != 'w' || strings.Trim(kind[1:], "+!-=~^$?") != "" {
				continue
			}
			for range 4 { // mode, user, group, age
				_, rest = firstWord(rest)
			}
			value, _, _ := strings.Cut(rest, `\n`)
			for _, key := range f.paths {
				full := "/proc/sys/" + key
				if name = strings.Trim(name, `"'`); path.Clean(name) != full && !globs(name, full) {
					continue
				}
				late := strings.HasPrefix(key, "net/bridge/") && !f.early && !f.builtin()
				acts = append(acts, act{at: Place{file, n}, key: key, value: strings.TrimSpace(value), maybe: late, opaque: strings.ContainsAny(kind, "~^")})
			}
		}
	}
	if len(acts) == 0 {
		return nil
	}
	return []start{{Reader: Tmpfiles, when: "once systemd-tmpfiles runs", acts: acts}}
}

// firstWord is the first word of a line, and what comes behind it.
func firstWord(line string) (first, rest string) {
	line = strings.TrimLeft(line, blank)
	i := strings.IndexAny(line, blank)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], blank)
}
