package pods_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/kernel/pods"
)

const (
	uid    = "0b6e3b4c-7d55-4f0a-9d0e-3c1f7a2b8e11"
	uid_   = "0b6e3b4c_7d55_4f0a_9d0e_3c1f7a2b8e11"
	static = "6d1c9e2f4b8a70351fe0d2c4b6a89713"
	id     = "2f1a6c0de4b5978812cd3390fe76ab54c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6"
)

// tree makes control groups with the given content of cgroup.procs.
func tree(t *testing.T, groups map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, procs := range groups {
		for dir := path; dir != "."; dir = filepath.Dir(dir) {
			full := filepath.Join(root, dir)
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
			text := ""
			if dir == path {
				text = procs
			}
			if _, err := os.Stat(filepath.Join(full, "cgroup.procs")); err == nil && text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(full, "cgroup.procs"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestRunning(t *testing.T) {
	for _, tt := range []struct {
		name   string
		groups map[string]string
		want   []pods.Process
	}{
		{"none", nil, nil},
		{"no pods", map[string]string{"system.slice/a.service": "1\n"}, nil},
		{
			"systemd's driver",
			map[string]string{
				"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + id + ".scope": "812\n813\n",
				"kubepods.slice/kubepods-pod" + static + ".slice/crio-" + id + ".scope/container":                                  "9\n",
			},
			[]pods.Process{{static, 9}, {uid, 812}},
		},
		{"cgroupfs driver", map[string]string{"kubepods/besteffort/pod" + uid + "/" + id: "7\n"}, []pods.Process{{uid, 7}}},
		{"kind", map[string]string{"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uid_ + ".slice/cri-containerd-" + id + ".scope": "7\n"}, []pods.Process{{uid, 7}}},
		{"k3s in its unit", map[string]string{"system.slice/k3s-agent.service/kubepods/pod" + uid + "/" + id: "7\n"}, []pods.Process{{uid, 7}}},
		{
			"version 1, each once",
			map[string]string{"systemd/kubepods/pod" + uid + "/" + id: "7\n", "pids/kubepods/pod" + uid + "/" + id: "7\n"},
			[]pods.Process{{uid, 7}},
		},
		{"no process, one of another namespace, noise", map[string]string{
			"kubepods/pod" + uid + "/" + id: "", "kubepods/pod" + static + "/" + id: "0\n",
			"kubepods/burstable/pod" + static + "/" + id: "what\n",
		}, nil},
		{"the name of a pod elsewhere", map[string]string{"user.slice/user-1.slice/kubepods/pod" + uid: "7\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := pods.Running(tree(t, tt.groups))
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
