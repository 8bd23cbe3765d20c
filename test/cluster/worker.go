package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type object = map[string]any

// file writes a file of the node, and returns its path.
func (n *Node) file(name string, content any) string {
	n.t.Helper()
	text, ok := content.(string)
	if !ok {
		b, err := json.MarshalIndent(content, "", "\t")
		if err != nil {
			n.t.Fatal(err)
		}
		text = string(b)
	}
	path := filepath.Join(n.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// Path is the path of a node's file outside the node.
func (n *Node) Path(name string) string { return fmt.Sprintf("/proc/%d/root%s", n.holder, name) }

// A Worker is a node on which pods run.
type Worker struct {
	*Node
	Containerd *Process
	Kubelet    *Process
	Proxy      *Process

	kubeconfig string // empty without an API server
	pods       string // the directory of static pods
}

const socket = "/run/containerd/containerd.sock"

// containerd starts containerd, with the images of pods and the classic configuration of
// the CNI plugin bridge: it does not mention br_netfilter or hairpin mode.
func (w *Worker) containerd(t testing.TB, images []string) {
	t.Helper()
	w.cni()
	w.startContainerd(t)
	for _, image := range images {
		w.Run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", image)
	}
}

func (w *Worker) cni() {
	list := w.file("cni/10-bridge.conflist", object{
		"cniVersion": "1.0.0", "name": "bridge", "plugins": []object{{
			"type": "bridge", "bridge": "cnio0", "isGateway": true, "ipMasq": true,
			"ipam": object{
				"type":   "host-local",
				"ranges": [][]object{{{"subnet": w.Pods4.String()}}, {{"subnet": w.Pods6.String()}}},
				"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
			},
		}},
	})
	loopback := w.file("cni/99-loopback.conf", object{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"})
	w.Run("mkdir", "-p", "/etc/cni/net.d", "/opt/cni/bin")
	w.Run("cp", list, loopback, "/etc/cni/net.d/")
	for _, plugin := range []string{"bridge", "loopback", "host-local"} { // where all guides put them
		w.Run("cp", filepath.Join(bin, plugin), "/opt/cni/bin/")
	}
}

func (w *Worker) startContainerd(t testing.TB) {
	t.Helper()
	// restrict_oom_score_adj, because without CAP_SYS_RESOURCE no process can get a lower
	// oom_score_adj than this one has.
	config := w.file("containerd.toml", fmt.Sprintf(`version = 3
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/opt/cni/bin']
conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '%s'
`, PodImage))
	w.Containerd = w.Start(t, "containerd", "--config", config)
	await(t, "containerd", func() string {
		out, err := w.Command("test.service", "ctr", "-a", socket, "version").CombinedOutput()
		if err != nil {
			return string(out)
		}
		return ""
	})
}

// startKubelet starts the kubelet; without an API server it runs static pods.
func (w *Worker) startKubelet(t testing.TB) {
	t.Helper()
	w.pods = filepath.Join(w.dir, "pods")
	if err := os.MkdirAll(w.pods, 0o755); err != nil {
		t.Fatal(err)
	}
	none := object{"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"}
	config := w.file("kubelet.json", object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": object{"anonymous": object{"enabled": true}, "webhook": object{"enabled": false}},
		"authorization":  object{"mode": "AlwaysAllow"},
		"clusterDNS":     []string{dnsIP}, "clusterDomain": "cluster.local", "resolvConf": "",
		"containerRuntimeEndpoint": "unix://" + socket,
		"cgroupDriver":             "cgroupfs", "failCgroupV1": false, "failSwapOn": false, "enforceNodeAllocatable": []string{"none"},
		"evictionHard": none, "imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": false,
		"fileCheckFrequency": "1s", "staticPodPath": w.pods, "maxPods": 200,
		"enableServer": true, "oomScoreAdj": 0,
	})
	args := []string{"--config", config, "--hostname-override", w.Name, "--node-ip", w.V4.String() + "," + w.V6.String(), "--v", "2"}
	if w.kubeconfig != "" {
		args = append(args, "--kubeconfig", w.kubeconfig)
	}
	w.Kubelet = w.Start(t, "kubelet", args...)
}

// proxyConfig is kube-proxy's configuration.
func (w *Worker) proxyConfig(mode, kubeconfig string) string {
	return w.file("kube-proxy.json", object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": strings.TrimSuffix(mode, "-legacy"), "hostnameOverride": w.Name, "clusterCIDR": podsCIDR,
		"clientConnection": object{"kubeconfig": kubeconfig, "contentType": "application/json", "acceptContentTypes": "application/json"},
		// These sysctls are those of the whole host.
		"conntrack": object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	})
}

// legacy is kube-proxy's mode iptables with the legacy backend.
const legacy = "iptables-legacy"

// proxyPath is kube-proxy's PATH; in mode legacy, the programs of that backend come
// first.
func (w *Worker) proxyPath(mode string) string {
	path := "/usr/sbin:/usr/bin:/sbin:/bin"
	if mode != legacy {
		return path
	}
	d := filepath.Join(w.dir, legacy)
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		w.Run("sh", "-c", fmt.Sprintf("mkdir -p %[1]s && ln -sf $(command -v %[2]s) %[1]s/%[3]s", d, strings.Replace(name, "tables", "tables-legacy", 1), name))
	}
	return d + ":" + path
}

// StartProxy starts kube-proxy in a mode, "iptables", "nftables" or legacy, and
// returns when all those addresses are in its rules.
func (w *Worker) StartProxy(t testing.TB, mode string, addresses ...string) {
	t.Helper()
	cmd := w.Command("kube-proxy.service", "kube-proxy", "--config", w.proxyConfig(mode, w.kubeconfig), "--v", "2")
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+w.proxyPath(mode))
	w.Proxy = w.start(t, cmd, "kube-proxy")
	w.awaitRules(t, mode, append(addresses, dnsIP)...)
}

// rules returns kube-proxy's rules.
func (w *Worker) rules(mode string) string {
	if mode == "nftables" {
		// Only its own tables: those of iptables still exist when it starts.
		out, _ := w.Command("test.service", "sh", "-c", "nft list table ip kube-proxy; nft list table ip6 kube-proxy").Output()
		return string(out)
	}
	if mode == legacy {
		return w.Run("iptables-legacy-save") + w.Run("ip6tables-legacy-save")
	}
	return w.Run("iptables-save") + w.Run("ip6tables-save")
}

func (w *Worker) awaitRules(t testing.TB, mode string, want ...string) {
	t.Helper()
	await(t, "the rules of kube-proxy on "+w.Name, func() string {
		rules := w.rules(mode)
		for _, s := range want {
			if !strings.Contains(rules, s) {
				return "they lack " + s
			}
		}
		return ""
	})
}

// keys returns the three sysctls, as "1 1 1".
func (w *Worker) keys() string {
	return strings.Join(strings.Fields(w.Run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables", "net.bridge.bridge-nf-call-arptables")), " ")
}

// setKeys sets them.
func (w *Worker) setKeys(value string) {
	for _, k := range []string{"iptables", "ip6tables", "arptables"} {
		w.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-"+k+"="+value)
	}
}
