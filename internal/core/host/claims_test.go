package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
)

// TestDropinSeen: what stands at the path of a drop-in, and what is in the way.
func TestDropinSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(m *machine)
		want guard.Dropin
	}{
		"nothing": {func(*machine) {}, guard.Dropin{Path: "/etc/linked/nfguard.conf", State: guard.Absent}},
		"a file of its own": {
			func(m *machine) { m.write("etc/linked/nfguard.conf", "x") },
			guard.Dropin{Path: "/etc/linked/nfguard.conf", State: guard.Present, Have: "x"},
		},
		"a directory": {
			func(m *machine) { os.MkdirAll(filepath.Join(m.root, "etc/linked/nfguard.conf"), 0o755) },
			guard.Dropin{Path: "/etc/linked/nfguard.conf", State: guard.Present, Have: "a directory", Obstacle: &guard.Obstacle{
				Reason: "it is a directory, not a regular file, and is left as it is",
				Next:   "move it away if nobody needs it there, or name another file: sysctl under [persist]",
			}},
		},
		"the file of another path": {
			func(m *machine) {
				m.write("etc/own/x", "")
				os.Symlink("own", filepath.Join(m.root, "etc/linked"))
			},
			guard.Dropin{Path: "/etc/linked/nfguard.conf", State: guard.Present, Have: "the file of another path", Obstacle: &guard.Obstacle{
				Reason: "it is the same file as /etc/own/nfguard.conf, through a link",
				Next:   "give each a file of its own: sysctl under [persist]",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, host.Options{})
			m.p.ModulesLoad, m.p.SysctlD = "/etc/own/nfguard.conf", "/etc/linked/nfguard.conf"
			tt.make(m)
			if diff := cmp.Diff(tt.want, m.Survey(t.Context(), &m.p, guard.LookAll).Dropins[1]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestModulesInAContainer: it is a matter of the rights that nfguard has there.
func TestModulesInAContainer(t *testing.T) {
	for name, mark := range map[string]string{"a container": "run/.containerenv", "no container": "run/x"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, host.Options{})
			m.write(mark, "x")
			var want *guard.Obstacle
			if name == "a container" && !host.MayLoad() {
				want = &guard.Obstacle{Reason: "this is a container (/run/.containerenv) that may not load modules", Next: "load it on the host: modprobe br_netfilter"}
			}
			if diff := cmp.Diff(want, m.Survey(t.Context(), &m.p, guard.LookAll).Module.Obstacle); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
