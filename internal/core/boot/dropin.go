package boot

import (
	"path"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Dropin is how our file in sysctl.d fares among the others, for
// systemd-sysctl.
type Dropin struct {
	Path    string   `json:"path,omitempty"`
	Present bool     `json:"present"`
	Wins    bool     `json:"wins"`            // each guarded key in it gets its value
	After   []string `json:"after,omitempty"` // files read after it that name a guarded key

	// Name is a path that sorts after every file that is there: "" when ours
	// does, or when no name can.
	Name string `json:"name,omitempty"`
}

func (f *forecast) dropin() Dropin {
	d := Dropin{Path: f.o.SysctlD}
	if d.Path == "" {
		return d
	}
	_, d.Present = f.t.read(d.Path, maxFile)
	d.Wins = d.Present
	for _, s := range f.o.Keys {
		key, mine := s.Key.Path(), false
		for _, l := range f.lines {
			if simplify(l.path) != key {
				continue
			}
			mine = mine || l.File == d.Path
			if path.Base(l.File) > path.Base(d.Path) && !slices.Contains(d.After, l.File) {
				d.After = append(d.After, l.File)
			}
		}
		writes, veto := systemdWrites(f.lines, key)
		if mine && (veto != nil || !guard.SameValue(outcome(SystemdSysctl, s, writes).Effect, s.Value)) {
			d.Wins = false
		}
	}
	d.Name = f.lastName(d.Path)
	return d
}

// lastName returns a name for a file in ours' directory that is read after
// all that are there, or "".
func (f *forecast) lastName(ours string) string {
	if len(f.files) == 0 {
		return ""
	}
	last := path.Base(f.files[len(f.files)-1])
	if last <= path.Base(ours) {
		return ""
	}
	for n := 2; n <= 8; n++ {
		if name := strings.Repeat("z", n) + "-nfguard.conf"; name > last {
			return path.Join(path.Dir(ours), name)
		}
	}
	return ""
}
