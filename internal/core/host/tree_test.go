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
