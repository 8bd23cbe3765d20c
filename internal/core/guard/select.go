package guard

import (
	"path"
	"strings"
)

// Selection is scope "bridges": the bridges whose own flags are kept at 1,
// instead of the sysctls for all.
type Selection struct {
	Match    []string // patterns of path.Match, well-formed
	Auto     bool     // by evidence that it carries pods, and not by Match
	Ignore   []string // patterns of bridges that are left alone whatever else holds
	Families []Family // whose flags are kept
}

// Choice is what a [Selection] makes of one bridge.
type Choice struct {
	Kept bool
	Why  string // "matches cni*"
	Err  error  // why it is not certain; the bridge is left alone then

	// Gone says that everything was looked at, and nothing speaks for the
	// bridge: what was set on evidence has no reason now.
	Gone bool
}

// Choose says whether the flags of b are kept, and why, or why not. e may be
// nil where the selection is not by evidence.
func (s *Selection) Choose(b *Bridge, e *Evidence) Choice {
	if pattern := matching(s.Ignore, b.Name); pattern != "" {
		return Choice{Why: "ignored by " + pattern, Gone: true}
	}
	if s.Auto {
		if e == nil {
			c := (&Evidence{}).choose(b)
			c.Gone = false // nobody has looked
			return c
		}
		return e.choose(b)
	}
	if pattern := matching(s.Match, b.Name); pattern != "" {
		return Choice{Kept: true, Why: "matches " + pattern}
	}
	return Choice{Why: "no pattern matches"}
}

// Undecided reports whether it depends on kube-proxy's rules if b is kept:
// [Evidence.Endpoints] is to be looked at.
func (s *Selection) Undecided(b *Bridge, e *Evidence) bool {
	return s.Auto && b.Ports.Pods > 0 && b.Ports.apart() && len(b.Addresses) > 0 &&
		matching(s.Ignore, b.Name) == "" && !s.Choose(b, e).Kept
}

// matching returns the first pattern that matches name, or "".
func matching(patterns []string, name string) string {
	for _, pattern := range patterns {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return pattern
		}
	}
	return ""
}

// Flags are the three flags of a bridge, by [Family].
type Flags [3]bool

// text is those flags of f that fs names: "iptables 1, arptables 0".
func (f Flags) text(fs []Family) string {
	var parts []string
	for _, x := range fs {
		value := " 0"
		if f[x] {
			value = " 1"
		}
		parts = append(parts, x.table()+value)
	}
	return strings.Join(parts, ", ")
}

// families are those whose flag is on, in the order of [IPv4], [IPv6], [ARP].
func (f Flags) families() []Family {
	var fs []Family
	for _, x := range allFamilies {
		if f[x] {
			fs = append(fs, x)
		}
	}
	return fs
}

var allFamilies = []Family{IPv4, IPv6, ARP}
