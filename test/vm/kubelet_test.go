package vm_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/cluster"
	built "github.com/nfguard/nfguard/test/cluster/programs"
	"github.com/nfguard/nfguard/test/kubeproxy/upstream"
	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/vm"
)

// kubeNode is a worker of the classic guides without an API server, whose kubelet and
// kube-proxy are units: cgroup v2 alone, systemd as the kubelet's cgroup driver, IPVS.
type kubeNode struct {
	node
	pods map[string]kubePod
}

type kubePod struct{ uid, ip string }

const (
	kubeService = "10.32.0.101" // its endpoint is the pod "near"
	kubeFiles   = "/opt/cluster"
)

// kubeUnits are the node's services, in the order in which they start.
var kubeUnits = []struct{ name, text string }{
	{"containerd", `[Service]
Type=notify
ExecStart=/opt/cluster/containerd --config /etc/containerd/config.toml
Environment=PATH=/opt/cluster:/usr/sbin:/usr/bin:/sbin:/bin
Delegate=yes
KillMode=process
[Install]
WantedBy=multi-user.target
`},
	{"kubelet", `[Unit]
After=containerd.service
Requires=containerd.service
[Service]
Type=notify
ExecStart=/opt/cluster/kubelet --config /etc/kubernetes/kubelet.json --hostname-override worker --node-ip 10.240.0.11
[Install]
WantedBy=multi-user.target
`},
	{"api", `[Service]
ExecStart=/opt/cluster/serve 127.0.0.1:8090 /etc/kubernetes/services.json
`},
	{"kube-proxy", `[Unit]
After=network-online.target
[Service]
ExecStart=/opt/cluster/kube-proxy --config /etc/kubernetes/kube-proxy.json --v 2
Restart=on-failure
RestartSec=1
[Install]
WantedBy=multi-user.target
`},
}

// TestKubelet: the programs of the cluster of test/cluster, as units of a Debian with
// cgroup v2 alone. The kubelet uses systemd for its control groups and runs static pods,
// and kube-proxy uses IPVS.
func TestKubelet(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM, lab.Cluster)
	t.Parallel()
	disk := clusterDisk(t)
	n := &kubeNode{node: node{Machine: vm.Boot(t, vm.Options{
		Packages: []string{"runc", "ipset"}, Memory: 2048,
		Args: []string{"-drive", "file=" + disk + ",if=none,id=d1,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=d1"},
	})}}
	for _, s := range []struct {
		name string
		tell func(*kubeNode, *testing.T)
	}{
		{"pods run below kubepods.slice", (*kubeNode).podsRun},
		{"a Service fails without nfguard", (*kubeNode).broken},
		{"the package cures it", (*kubeNode).cured},
		{"a pod that writes is named", (*kubeNode).podWrites},
		{"kube-proxy's unit is named", (*kubeNode).proxyRestarts},
		{"a kernel without IPVS is told of", (*kubeNode).lacksIPVS},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.tell(n, t) }) {
			for _, unit := range []string{"containerd", "kubelet", "kube-proxy"} {
				t.Logf("%s", n.Run(t, "journalctl", "--no-pager", "-n", "15", "-u", unit).Stdout)
			}
			t.FailNow()
		}
	}
}

// clusterDisk makes a disk with the programs of the node and the image of its pods: to
// push them would take longer than the whole test.
func clusterDisk(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	bin, err := built.Cluster.Dir()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "kubelet", "kube-proxy", "bridge", "host-local", "loopback"} {
		run(t, "cp", "--reflink=auto", filepath.Join(bin, name), tree)
	}
	run(t, "env", "CGO_ENABLED=0", "go", "build", "-o", filepath.Join(tree, "serve"), root+"/test/kubeproxy/upstream/serve")
	cluster.PodArchive(t, tree)
	disk := filepath.Join(t.TempDir(), "disk")
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "512M")
	return disk
}

// json writes a file of the guest.
func (n *kubeNode) json(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	n.Write(t, path, text, 0o644)
}

type object = map[string]any

func (n *kubeNode) podsRun(t *testing.T) {
	n.Sh(t, `
		mkdir -p /opt/cluster /opt/cni/bin
		mount -o ro /dev/vdb /opt/cluster
		cp /opt/cluster/bridge /opt/cluster/host-local /opt/cluster/loopback /opt/cni/bin
		ip link add eth0 type veth peer name wire
		ip address add 10.240.0.11/24 dev eth0
		ip link set eth0 up
		ip link set wire up
		sysctl -q net.ipv4.ip_forward=1`)
	n.Write(t, "/etc/containerd/config.toml", fmt.Appendf(nil, `version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/opt/cni/bin']
conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '%s'
`, cluster.PodImage), 0o644)
	n.json(t, "/etc/cni/net.d/10-bridge.conflist", object{
		"cniVersion": "1.0.0", "name": "bridge", "plugins": []object{{
			"type": "bridge", "bridge": "cnio0", "isGateway": true, "ipMasq": true,
			"ipam": object{"type": "host-local", "ranges": [][]object{{{"subnet": "10.200.1.0/24"}}}, "routes": []object{{"dst": "0.0.0.0/0"}}},
		}},
	})
	n.json(t, "/etc/cni/net.d/99-loopback.conf", object{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"})
	n.json(t, "/etc/kubernetes/kubelet.json", object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": object{"anonymous": object{"enabled": true}, "webhook": object{"enabled": false}},
		"authorization":  object{"mode": "AlwaysAllow"}, "resolvConf": "",
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock", "cgroupDriver": "systemd",
		"staticPodPath": "/etc/kubernetes/manifests", "fileCheckFrequency": "1s", "imageGCHighThresholdPercent": 100,
		"evictionHard": object{"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
	})
	for _, name := range []string{"client", "near", "writer"} {
		container := object{"name": "main", "image": cluster.PodImage, "imagePullPolicy": "Never", "args": []string{"serve"}}
		spec := object{"containers": []object{container}, "terminationGracePeriodSeconds": 0}
		if name == "writer" {
			spec["hostNetwork"], container["securityContext"] = true, object{"privileged": true}
		}
		n.json(t, "/etc/kubernetes/manifests/"+name+".json", object{
			"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name, "namespace": "default"}, "spec": spec,
		})
	}
	for _, u := range kubeUnits {
		n.Write(t, "/etc/systemd/system/"+u.name+".service", []byte(u.text), 0o644)
	}
	n.Sh(t, "systemctl daemon-reload; systemctl start containerd")
	n.Until(t, "/opt/cluster/ctr -n k8s.io images import /opt/cluster/pod.tar")
	n.Sh(t, "systemctl start kubelet")
	n.pods = n.running(t, "client", "near", "writer")

	if got := n.Sh(t, "stat -f -c %T /sys/fs/cgroup; grep -c cgroup /proc/mounts"); got != "cgroup2fs\n1" {
		t.Errorf("the control groups are %s", got)
	}
	uid := strings.ReplaceAll(n.pods["near"].uid, "-", "_")
	n.Sh(t, "ls -d /sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod"+uid+".slice/cri-containerd-*.scope")
}

// running asks the kubelet for its pods until those run.
func (n *kubeNode) running(t *testing.T, names ...string) map[string]kubePod {
	t.Helper()
	text := n.Until(t, `curl -skf https://127.0.0.1:10250/pods >/run/pods
		[ $(grep -o '"phase":"Running"' /run/pods | wc -l) -eq `+fmt.Sprint(len(names))+` ]
		cat /run/pods`)
	var list struct {
		Items []struct {
			Metadata struct{ Name, UID string }
			Status   struct{ PodIP string }
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	pods := map[string]kubePod{}
	for _, p := range list.Items {
		pods[strings.TrimSuffix(p.Metadata.Name, "-worker")] = kubePod{p.Metadata.UID, p.Status.PodIP}
	}
	for _, name := range names {
		if pods[name].uid == "" || name != "writer" && pods[name].ip == "" {
			t.Fatalf("the pods are %v", pods)
		}
	}
	return pods
}

// tell has the program in a pod do something, by a request from the node, and returns its
// answer.
func (n *kubeNode) tell(t *testing.T, ip, what string, args ...string) string {
	t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Set(args[i], args[i+1])
	}
	return n.Sh(t, "curl -sSf 'http://"+ip+":8080/"+what+"?"+q.Encode()+"'")
}

// wantAnswer has the client ask an address three times. An emulated machine can stand
// still for seconds, so what is to be answered has more time than what is not.
func (n *kubeNode) wantAnswer(t *testing.T, address string, answered bool) {
	t.Helper()
	limit, want := "2000", `{"Answered":0,"Failed":{"timeout":3}}`
	if answered {
		limit, want = "20000", `{"Answered":3,`
	}
	if got := n.tell(t, n.pods["client"].ip, "ask", "address", address, "ms", limit); !strings.HasPrefix(got, want) {
		t.Errorf("%s: %s, want %s", address, got, want)
	}
}

func (n *kubeNode) broken(t *testing.T) {
	near := netip.MustParseAddr(n.pods["near"].ip)
	n.json(t, "/etc/kubernetes/services.json", []upstream.Service{{
		Name: "near", ClusterIP: netip.MustParseAddr(kubeService), Port: 80, PortName: "http", Protocol: "TCP",
		Endpoints: []netip.AddrPort{netip.AddrPortFrom(near, 8080)},
	}})
	n.json(t, "/etc/kubernetes/kubeconfig.json", object{
		"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": []object{{"name": "x", "cluster": object{"server": "http://127.0.0.1:8090"}}},
		"users":    []object{{"name": "x", "user": object{}}},
		"contexts": []object{{"name": "x", "context": object{"cluster": "x", "user": "x"}}},
	})
	n.json(t, "/etc/kubernetes/kube-proxy.json", object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "ipvs", "hostnameOverride": "worker", "clusterCIDR": "10.200.0.0/16",
		"clientConnection": object{"kubeconfig": "/etc/kubernetes/kubeconfig.json", "contentType": "application/json", "acceptContentTypes": "application/json"},
	})
	n.Sh(t, "systemctl start api kube-proxy")
	n.rules(t)
	n.Sh(t, "grep ^ip_vs_rr /proc/modules") // loaded by the kernel when kube-proxy asked for it
	n.wantAnswer(t, near.String()+":8080", true)
	n.wantAnswer(t, kubeService+":80", false)
	// The same with the module loaded, at 0.
	n.Sh(t, "modprobe br_netfilter; sysctl -q "+iptables+"=0")
	n.wantAnswer(t, kubeService+":80", false)
	n.Sh(t, "rmmod br_netfilter")
}

// rules waits until the Service is in IPVS, as hexadecimal numbers.
func (n *kubeNode) rules(t *testing.T) {
	t.Helper()
	ip := netip.MustParseAddr(n.pods["near"].ip).As4()
	n.Until(t, fmt.Sprintf("grep 0A200065:0050 /proc/net/ip_vs; grep -i %X:1F90 /proc/net/ip_vs", ip[:]))
}

func (n *kubeNode) cured(t *testing.T) {
	n.install(t)
	n.wantRight(t)
	n.wantAnswer(t, kubeService+":80", true)
	n.Until(t, "nfguard check >/run/check; grep 'programmed: kube-proxy.*(kube-proxy.service).*ipvs mode' /run/check")
	t.Log(n.Sh(t, "cat /run/check; nfguard status"))
}

func (n *kubeNode) podWrites(t *testing.T) {
	mark := n.mark(t)
	got := n.tell(t, "127.0.0.1", "write", "path", "/proc/sys/net/bridge/bridge-nf-call-iptables", "value", "0")
	if !strings.HasPrefix(got, `{"Answered":1`) {
		t.Errorf("the pod's write: %s", got)
	}
	n.records(t, mark, 1, "NFGUARD_EVENT=drift")[0].want(t, map[string]string{
		"NFGUARD_SUBJECT": iptables, "NFGUARD_OUTCOME": kept, "OBJECT_COMM": "pod",
		"NFGUARD_POD_UID": n.pods["writer"].uid, "NFGUARD_POD_NAMESPACE": "default", "NFGUARD_POD_NAME": "writer-worker", "NFGUARD_CONTAINER_NAME": "main",
		"OBJECT_SYSTEMD_UNIT": `cri-containerd-[0-9a-f]{64}\.scope`,
	})
	n.wantRight(t)
	n.wantAnswer(t, kubeService+":80", true)
}

func (n *kubeNode) proxyRestarts(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, "systemctl restart kube-proxy")
	pid := n.Sh(t, "systemctl show --value --property=MainPID kube-proxy")
	n.records(t, mark, 1, "NFGUARD_EVENT=kube_proxy", "OBJECT_PID="+pid)[0].want(t, map[string]string{
		"MESSAGE":     `kube-proxy\[` + pid + `\] started \(kube-proxy\.service, .*\)(, in place of kube-proxy\[\d+\])?; the node was ready: .*`,
		"OBJECT_COMM": "kube-proxy", "OBJECT_SYSTEMD_UNIT": `kube-proxy\.service`,
	})
	n.rules(t)
	n.wantAnswer(t, kubeService+":80", true)
}

// lacksIPVS: of another kernel that is installed, check tells which of the modules it
// does not have that kube-proxy needs in this mode.
func (n *kubeNode) lacksIPVS(t *testing.T) {
	n.Sh(t, `cd /lib/modules; cp -r $(uname -r) 6.99.0-test; cp /boot/vmlinuz-$(uname -r) /boot/vmlinuz-6.99.0-test
		cd 6.99.0-test; sed -i '\,/ip_vs_rr\.ko,d; \,/ip_set\.ko:,d' modules.dep; ! grep /ip_vs_rr.ko modules.dep`)
	out := n.Run(t, "nfguard", "check").Stdout
	if want := "the installed Linux 6.99.0-test has no "; !strings.Contains(out, want) || !strings.Contains(out, "ip_vs_rr") {
		t.Errorf("check lacks %q or ip_vs_rr:\n%s", want, out)
	}
	t.Log(out)
	n.Sh(t, "rm -r /lib/modules/6.99.0-test /boot/vmlinuz-6.99.0-test")
	n.Until(t, "nfguard check >/run/check; ! grep 6.99.0-test /run/check")
}
