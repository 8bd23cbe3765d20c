package source

import (
	"os"
	"testing"
)

func TestReadWriter(t *testing.T) {
	w := ReadWriter(os.Getpid())
	exe, _ := os.Executable()
	if w.PID != os.Getpid() || w.Exe != exe || w.Comm == "" || w.Cgroup == "" {
		t.Errorf("this process is %+v", w)
	}
	if w := ReadWriter(0); w != (Writer{}) {
		t.Errorf("pid 0 is %+v", w)
	}
	if w := ReadWriter(1 << 29); w != (Writer{PID: 1 << 29}) {
		t.Errorf("a process that is gone is %+v", w)
	}
}

func TestCgroup(t *testing.T) {
	tests := []struct{ name, text, want, unit string }{
		{"version 2", "0::/system.slice/tuned.service\n", "/system.slice/tuned.service", "tuned.service"},
		{"hybrid", "12:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service", "a.service"},
		{
			"version 2, a container below a scope", "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab.scope/init\n",
			"/kubepods.slice/kubepods-pod1.slice/cri-containerd-ab.scope/init", "cri-containerd-ab.scope",
		},
		{"no unit", "0::/\n", "/", ""},
		{"a colon in the path", "0::/a:b.service\n", "/a:b.service", "a:b.service"},
		{"noise", "what\n", "", ""},
	}
	for _, tt := range tests {
		got := cgroup(tt.text)
		if got != tt.want {
			t.Errorf("%s: path %q, want %q", tt.name, got, tt.want)
		}
		if unit := (Writer{Cgroup: got}).Unit(); unit != tt.unit {
			t.Errorf("%s: unit %q, want %q", tt.name, unit, tt.unit)
		}
	}
}
