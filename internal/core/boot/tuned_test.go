package boot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestTuned: what the loader and the merger of TuneD 2.20 make of the same
// profiles was seen by running them.
func TestTuned(t *testing.T) {
	profiles := txtar.Parse([]byte(`
-- usr/lib/tuned/base/tuned.conf --
[sysctl]
x.y=0
q.r = 5
-- usr/lib/tuned/a/tuned.conf --
[sysctl]
x.y=9
-- etc/tuned/a/tuned.conf --
[main]
include=base
[sysctl]
x.y=1 # c
-- etc/tuned/b/tuned.conf --
[main]
include=base
[sysctl]
replace=1
x.y=3
-- etc/tuned/c/tuned.conf --
[main]
include=base,b
[foo]
type=sysctl
x.y=4
-- etc/tuned/d/tuned.conf --
[main]
include=base
[sysctl]
enabled=false
x.y=3
-- etc/tuned/e/tuned.conf --
[main]
include=a
[sysctl]
x.y=  "5"  # z
;x.y=6
-- etc/tuned/f/tuned.conf --
[main]
include=base
[sysctl]
drop=q.r
x.y=3
-- etc/tuned/circle/tuned.conf --
[main]
include=circle; base
-- usr/lib/tuned/profiles/new/tuned.conf --
[sysctl]
x.y=7
`))
	o := plant(t, profiles)
	o.Keys = []guard.Setting{{Key: "x.y", Value: "1"}, {Key: "q.r", Value: "1"}}
	for active, want := range map[string][]string{
		"a": {"1", "5"}, "b": {"3", ""}, "c": {"4", ""}, "d": {"", ""}, "e": {"5", "5"}, "f": {"3", ""}, "a b": {"3", ""},
		"circle": {"0", "5"}, "new": {"7", ""}, "nosuch": {"", ""}, "../../etc/tuned/a": {"1", "5"},
	} {
		write(t, o.Root, "etc/tuned/active_profile", active+"\n")
		var got []string
		for _, k := range boot.Forecast(o).Keys {
			value := ""
			for _, by := range k.By {
				if by.Reader == boot.TuneD {
					value = by.Effect
				}
			}
			got = append(got, value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", active, diff)
		}
	}
}

// TestStartedScripts: scripts of the active profile and of ufw set it, too, as these
// start them.
func TestStartedScripts(t *testing.T) {
	const key = "net.bridge.bridge-nf-call-iptables"
	const script = "#!/bin/bash\n. /usr/lib/tuned/functions\nstart() {\n  sysctl -w " + key + "=0\n}\nstop() {\n  true\n}\ncase \"$1\" in\nstart) start;;\nesac\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"TuneD": {
			map[string]string{
				"/etc/tuned/active_profile":      "mine\n",
				"/etc/tuned/mine/tuned.conf":     "[main]\ninclude=base\n[script]\nscript=${i:PROFILE_DIR}/script.sh\n",
				"/etc/tuned/mine/script.sh":      script,
				"/usr/lib/tuned/base/tuned.conf": "[sysctl]\nvm.swappiness=10\n",
			},
			[]string{key + " will be 0 once TuneD applies its profile: /etc/tuned/mine/script.sh:4 sets it: remove that command"},
		},
		"ufw": {
			map[string]string{"/etc/ufw/ufw.conf": "ENABLED=yes\n", "/etc/ufw/after.init": script},
			[]string{key + " will be 0 once ufw starts: /etc/ufw/after.init:4 sets it: remove that command"},
		},
		"ufw, switched off": {map[string]string{"/etc/ufw/ufw.conf": "ENABLED=no\n", "/etc/ufw/after.init": script}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range boot.Forecast(hostWith(t, tt.files)).Findings {
				got = append(got, f.Sentence+": "+f.Next)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
