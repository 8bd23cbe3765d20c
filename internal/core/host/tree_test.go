package host_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/keep"
)

// A tree has no method that could reach a kernel, and is no host that a pass
// could be made on.
func TestTreeHasNoKernel(t *testing.T) {
	tree := host.NewTree(t.TempDir())
	var methods []string
	for m := range reflect.TypeOf(tree).Methods() {
		methods = append(methods, m.Name)
	}
	if diff := cmp.Diff([]string{"Forecast", "Survey", "Write"}, methods); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
	if _, ok := any(tree).(keep.Host); ok {
		t.Error("a tree is a host")
	}
	if _, ok := any(tree).(keep.Tree); !ok {
		t.Error("a tree is none")
	}
}

// A drop-in that is absent tells who else does what it would do.
func TestCarried(t *testing.T) {
	const module, sysctls = "etc/modules-load.d/k8s.conf", "etc/sysctl.d/k8s.conf"
	right := map[string]string{module: "overlay\nbr_netfilter\n", sysctls: "net.bridge.bridge-nf-call-iptables = 1\n"}
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"nobody", nil, []string{"", ""}},
		{"both", right, []string{"/etc/modules-load.d/k8s.conf:2", "/etc/sysctl.d/k8s.conf"}},
		{"the module is kept out", map[string]string{module: right[module], "etc/modprobe.d/x.conf": "blacklist br_netfilter\n"}, []string{"", ""}},
		{"another value", map[string]string{module: right[module], sysctls: "net.bridge.bridge-nf-call-iptables = 0\n"}, []string{"/etc/modules-load.d/k8s.conf:2", ""}},
		{"a rule of udev says otherwise", map[string]string{
			sysctls:                    right[sysctls],
			"etc/udev/rules.d/x.rules": `SUBSYSTEM=="module", KERNEL=="br_netfilter", RUN+="/sbin/sysctl -w net.bridge.bridge-nf-call-iptables=0"` + "\n",
		}, []string{"", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, host.Options{})
			for name, text := range tt.files {
				m.write(name, text)
			}
			of := func(list []guard.Dropin) (carried []string) {
				for _, d := range list {
					carried = append(carried, d.Carried)
				}
				return carried
			}
			for _, look := range []guard.Look{0, guard.LookAll} {
				if diff := cmp.Diff(tt.want, of(m.Survey(t.Context(), &m.p, look).Dropins)); diff != "" {
					t.Errorf("of a host, look %d (-want +got):\n%s", look, diff)
				}
			}
			if diff := cmp.Diff(tt.want, of(host.NewTree(m.root).Survey(&m.p).Dropins)); diff != "" {
				t.Errorf("of a tree (-want +got):\n%s", diff)
			}
		})
	}
}

// What cannot be read is unknown; a file in a place that is not part of an image is
// reported.
func TestTreeDropins(t *testing.T) {
	p := guard.Policy{Module: "br_netfilter", ModulesLoad: "/etc/m.conf", SysctlD: "/run/s.conf"}
	dir := t.TempDir()
	got := host.NewTree(dir).Survey(&p).Dropins
	want := []guard.Dropin{
		{Path: "/etc/m.conf", State: guard.Absent},
		{Path: "/run/s.conf", State: guard.Absent, Have: "absent", Obstacle: &guard.Obstacle{
			Reason: "what is there is not kept in an image", Next: "name a file below /etc under [persist]",
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if d := host.NewTree(dir).Survey(&p).Dropins[0]; d.State != guard.Unknown || d.Err == nil {
		t.Errorf("below a file: %+v", d)
	}
	if d := host.NewTree(filepath.Join(dir, "none")).Survey(&p).Dropins[0]; d.State != guard.Unknown || d.Err == nil {
		t.Errorf("of no tree: %+v", d)
	}
	if err := host.NewTree(filepath.Join(dir, "none")).Write("/etc/m.conf", ""); err == nil {
		t.Error("written to no tree")
	}
}
