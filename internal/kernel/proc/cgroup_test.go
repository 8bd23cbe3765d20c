package proc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	id     = "2f1a6c0de4b5978812cd3390fe76ab54c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6"
	outer  = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
	uid    = "0b6e3b4c-7d55-4f0a-9d0e-3c1f7a2b8e11"
	uid_   = "0b6e3b4c_7d55_4f0a_9d0e_3c1f7a2b8e11"
	static = "6d1c9e2f4b8a70351fe0d2c4b6a89713" // a static pod's uid: kubelet's hash of its file
)

// long replaces the short names in the tables by the ids above, longest name first.
var long = strings.NewReplacer("OUTER", outer, "UID_", uid_, "UID", uid, "STATIC", static, "ID", id)

func TestLocate(t *testing.T) {
	for _, tt := range []struct {
		name, path            string
		unit, container, pod_ string
	}{
		{"root", "/", "", "", ""},
		{"nothing", "", "", "", ""},
		{"service", "/system.slice/kube-proxy.service", "kube-proxy.service", "", ""},
		{"below a service", "/system.slice/tuned.service/worker", "tuned.service", "", ""},
		{"session", "/user.slice/user-0.slice/session-3.scope", "session-3.scope", "", ""},
		{"user's service", "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", "user@1000.service", "", ""},

		{
			"containerd, systemd driver, burstable",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
			"cri-containerd-ID.scope", "ID", "UID",
		},
		{
			"containerd, systemd driver, guaranteed",
			"/kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope", "cri-containerd-ID.scope", "ID", "UID",
		},
		{
			"containerd, systemd driver, static pod",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSTATIC.slice/cri-containerd-ID.scope",
			"cri-containerd-ID.scope", "ID", "STATIC",
		},
		{
			"CRI-O, systemd driver",
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-ID.scope",
			"crio-ID.scope", "ID", "UID",
		},
		{
			"CRI-O with crun, which nests",
			"/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope/container", "crio-ID.scope", "ID", "UID",
		},
		{
			"CRI-O's monitor is not in the container",
			"/kubepods.slice/kubepods-podUID_.slice/crio-conmon-ID.scope", "crio-conmon-ID.scope", "", "UID",
		},
		{
			"cri-dockerd, systemd driver",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/docker-ID.scope",
			"docker-ID.scope", "ID", "UID",
		},
		{"cgroupfs driver, burstable", "/kubepods/burstable/podUID/ID", "", "ID", "UID"},
		{"cgroupfs driver, guaranteed", "/kubepods/podUID/ID", "", "ID", "UID"},
		{"cgroupfs driver, static pod", "/kubepods/burstable/podSTATIC/ID", "", "ID", "STATIC"},
		{"cgroupfs driver, CRI-O", "/kubepods/besteffort/podUID/crio-ID", "", "ID", "UID"},
		{"cgroupfs driver, process that a container made a group for", "/kubepods/burstable/podUID/ID/init", "", "ID", "UID"},
		{
			"kubelet with systemd's driver, containerd with cgroupfs's",
			"/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
			"containerd.service", "ID", "UID",
		},
		{"pod's sandbox is not there yet", "/kubepods/burstable/podUID", "", "", "UID"},

		{"k3s itself", "/system.slice/k3s.service", "k3s.service", "", ""},
		{"k3s, nested", "/system.slice/k3s.service/kubepods/burstable/podUID/ID", "k3s.service", "ID", "UID"},
		{
			"k3s, rootless",
			"/user.slice/user-1000.slice/user@1000.service/k3s-rootless.service/kubepods/podUID/ID",
			"user@1000.service", "", "",
		},
		{"k3d: k3s in Docker", "/docker/OUTER/kubepods/besteffort/podUID/ID", "", "OUTER", ""},
		{"k3d: a pod without its container", "/docker/OUTER/kubepods/besteffort/podUID", "", "OUTER", ""},
		{
			"kind: kubelet has a root of its own",
			"/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
			"docker-OUTER.scope", "OUTER", "",
		},
		{
			"kind, from inside",
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope", "cri-containerd-ID.scope", "ID", "UID",
		},
		{"kind: kubelet", "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet.service", "docker-OUTER.scope", "OUTER", ""},

		{"Docker, systemd driver", "/system.slice/docker-ID.scope", "docker-ID.scope", "ID", ""},
		{"Docker, cgroupfs driver", "/docker/ID", "", "ID", ""},
		{"Docker in Docker", "/docker/OUTER/docker/ID", "", "OUTER", ""},
		{"Docker itself", "/system.slice/docker.service", "docker.service", "", ""},
		{"nerdctl", "/default/ID", "", "ID", ""},
		{"Podman", "/machine.slice/libpod-ID.scope/container", "libpod-ID.scope", "ID", ""},
		{"Podman's monitor", "/machine.slice/libpod-conmon-ID.scope", "libpod-conmon-ID.scope", "", ""},
		{
			"Podman, rootless",
			"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", "user@1000.service", "", "",
		},
		{"Podman's pod is not Kubernetes's", "/machine.slice/machine-libpod_pod_OUTER.slice/libpod-ID.scope", "libpod-ID.scope", "ID", ""},
		{"outside of our cgroup namespace", "/../../kubepods/podUID/ID", "", "ID", "UID"},

		{"too short for an id", "/docker/2f1a6c0de4b5", "", "", ""},
		{"too long for an id", "/docker/IDa", "", "", ""},
		{"not a uid", "/kubepods/burstable/pod42/ID", "", "ID", ""},
		{"a service with an id", "/system.slice/docker-ID.service", "docker-ID.service", "", ""},
		{"a service named as a pod", "/system.slice/podUID.service", "podUID.service", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := Place{Unit: long.Replace(tt.unit), Container: long.Replace(tt.container), Pod: long.Replace(tt.pod_)}
			if diff := cmp.Diff(want, Locate(long.Replace(tt.path))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.path, diff)
			}
		})
	}
}

// Whatever groups a container or a user makes below its own, the process counts as
// inside that container or user's manager.
func TestL2NestedGroupsForgeNothing(t *testing.T) {
	const pod = "/kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope"
	inPod := Place{Unit: "cri-containerd-ID.scope", Container: "ID", Pod: "UID"}
	for path, want := range map[string]Place{
		pod + "/system.slice/tuned.service": inPod,
		pod + "/tuned.service":              inPod,
		pod + "/docker-OUTER.scope":         inPod,
		pod + "/OUTER":                      inPod,
		pod + "/kubepods-podSTATIC.slice/cri-containerd-OUTER.scope":                          inPod,
		"/kubepods/podUID/ID/kubepods/podSTATIC/OUTER":                                        {Container: "ID", Pod: "UID"},
		"/kubepods/podUID/ID/a.service":                                                       {Container: "ID", Pod: "UID"},
		"/kubepods/podUID/own/OUTER":                                                          {Pod: "UID"},
		"/kubepods/podUID/own/a.service":                                                      {Pod: "UID"},
		"/docker/ID/kubepods/podUID/OUTER":                                                    {Container: "ID"},
		"/machine.slice/libpod-ID.scope/system.slice/kubelet.service":                         {Unit: "libpod-ID.scope", Container: "ID"},
		"/system.slice/containerd.service/kubepods-podUID_.slice:cri-containerd:ID/a.service": {Unit: "containerd.service", Container: "ID", Pod: "UID"},
		"/system.slice/a.service/tuned.service":                                               {Unit: "a.service"},
		"/user.slice/user-1000.slice/user@1000.service/kubepods/podUID/ID":                    {Unit: "user@1000.service"},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/tuned.service":               {Unit: "user@1000.service"},
	} {
		want.Unit, want.Container, want.Pod = long.Replace(want.Unit), long.Replace(want.Container), long.Replace(want.Pod)
		if diff := cmp.Diff(want, Locate(long.Replace(path))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// FuzzLocate: everything that is found is in the path.
func FuzzLocate(f *testing.F) {
	for _, path := range []string{
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
		"/system.slice/containerd.service/kubepods-podUID_.slice:cri-containerd:ID",
		"/docker/OUTER/kubepods/podSTATIC/ID", "/machine.slice/libpod-conmon-ID.scope", "/a.service", "::/-/pod",
	} {
		f.Add(long.Replace(path))
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := Locate(path)
		dashes := strings.ReplaceAll(path, "_", "-")
		if !strings.Contains(path, p.Unit) || !strings.Contains(path, p.Container) || !strings.Contains(dashes, p.Pod) {
			t.Errorf("%q: %+v", path, p)
		}
		if len(p.Container) != 0 && len(p.Container) != 64 || strings.Contains(p.Pod, "_") {
			t.Errorf("%q: %+v", path, p)
		}
		if text := "0::" + path; !strings.Contains(path, "\n") && cgroup(text) != path {
			t.Errorf("%q is read as %q", text, cgroup(text))
		}
	})
}

func TestCgroup(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"version 2", "0::/system.slice/tuned.service\n", "/system.slice/tuned.service"},
		{"hybrid", "12:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service"},
		{"hybrid, of a process that has ended", "12:cpu:/\n1:name=systemd:/\n0::/system.slice/a.service\n", "/system.slice/a.service"},
		{"hybrid, of a container in version 1 only", "1:name=systemd:/kubepods/b\n0::/system.slice/containerd.service\n", "/kubepods/b"},
		{"hybrid, at the root of both", "1:name=systemd:/\n0::/\n", "/"},
		{"version 1 only", "1:name=systemd:/\n", "/"},
		{"version 1 without systemd", "12:cpu:/docker/a\n0::/b\n", "/b"},
		{"a colon in the path", "0::/a:b.service\n", "/a:b.service"},
		{"noise", "what\n", ""},
		{"gone", "", ""},
	} {
		if got := cgroup(tt.text); got != tt.want {
			t.Errorf("%s: path %q, want %q", tt.name, got, tt.want)
		}
	}
}
