package boot

import (
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestHostileStarts: what is made to take for ever is read as far as allowed.
func TestHostileStarts(t *testing.T) {
	for name, text := range map[string]string{
		"functions": "f() { " + strings.Repeat("f; ", 100) + "}\nf\n",
		"loops":     strings.Repeat("for a in "+strings.Repeat("x ", 200)+"; do\n", 6) + "echo $a\n" + strings.Repeat("done\n", 6),
		"words":     strings.Repeat("a=$a$a; ", 20000),
		"a word":    strings.Repeat("x", maxScript),
		"quotes":    strings.Repeat(`"x`, maxScript/2),
		"subshells": strings.Repeat("$(", maxScript/2),
		"back":      strings.Repeat("`\\", maxScript/2),
		"globs":     strings.Repeat("echo /proc/sys/**/*?*[a-z]*\n", 5000),
		"redirects": strings.Repeat("> /proc/sys/* ", 20000),
		"nested":    "sh -c '" + strings.Repeat(`sh -c "`, 1000),
		"defines":   strings.Repeat("f() { ", 20000),
		"variables": "a=xxxxxxxx; " + strings.Repeat("a=\"$a$a\"; ", 64),
	} {
		o := Options{Module: "br_netfilter"}
		f := forecast{o: &o, t: &tree{}, paths: []string{guard.IPTables.Path()}}
		acts := f.runs(Place{"x", 1}, text, true).acts
		if len(acts) > maxActs || f.spent > allowed+maxScript {
			t.Errorf("%s: %d acts, %d spent", name, len(acts), f.spent)
		}
	}
}
