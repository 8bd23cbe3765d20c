package netns_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// withCNI returns a command of nfguard on a host with this CNI configuration.
func (n *node) withCNI(args ...string) *exec.Cmd {
	n.write("10-k8s.conflist", `{"name": "k8s", "plugins": [{"type": "bridge", "bridge": "podbr",
		"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.200.2.0/24"}]]}}]}`)
	return n.bare(`mkdir -p /etc/cni/net.d && cp "$0" /etc/cni/net.d/`, n.file("10-k8s.conflist"), args...)
}

// withoutCNI returns a command on a host without any CNI configuration.
func (n *node) withoutCNI(args ...string) *exec.Cmd { return n.bare("true", "sh", args...) }

// bare returns a command on a host whose CNI configuration a script creates, and whose
// control groups of pods are those of [node.pod].
func (n *node) bare(script, arg0 string, args ...string) *exec.Cmd {
	cmd := n.Command("unshare", append([]string{
		"-m", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /var/lib && ` +
			`{ groups=/sys/fs/cgroup/pids; [ -d $groups ] || groups=/sys/fs/cgroup; } && mkdir -p ` + n.file("cgroup") +
			` && mkdir -p ` + n.file("log") + ` && mount --bind ` + n.file("log") + ` /var/log` +
			` && mount --bind ` + n.file("cgroup") + ` $groups && ` + script + ` && exec "$@"`, arg0, binary,
	}, append(args, "--config", n.file("nfguard.toml"))...)...)
	cmd.Env = n.nfguard().Env
	return cmd
}

// container attaches a container that is not a pod to a bridge, and returns a process in
// it.
func (n *node) container(bridge string) (pid int) {
	n.t.Helper()
	ns := lab.NewNamespace(n.t)
	n.Run(n.t, "ip", "link", "add", "veth-"+bridge, "master", bridge, "type", "veth", "peer", "name", "eth0", "netns", ns.Path())
	process := ns.Command("sleep", "inf")
	if err := process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	return process.Process.Pid
}

// pod attaches an empty pod to a bridge.
func (n *node) pod(bridge string) {
	n.t.Helper()
	pid := n.container(bridge)
	if err := os.MkdirAll(n.file(fmt.Sprintf("log/pods/default_on-%s_%032x", bridge, pid)), 0o755); err != nil {
		n.t.Fatal(err)
	}
	dir := n.file(fmt.Sprintf("cgroup/kubepods/pod%032x/%064x", pid, pid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Appendln(nil, pid), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// With match = "auto", bridges are kept by evidence, uncertain ones are not touched, and
// check says why.
func TestEvidence(t *testing.T) {
	n := newScopedNode(t, "match = \"auto\"\n")
	for _, name := range []string{"podbr", "cni0", "docker0", "empty", "virbr0"} {
		n.Run(t, "ip", "link", "add", name, "type", "bridge")
	}
	n.Run(t, "ip", "addr", "add", "10.200.2.1/24", "dev", "cni0")
	for _, name := range []string{"podbr", "cni0", "docker0"} {
		n.pod(name)
	}
	n.Run(t, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
	n.Run(t, "ip", "link", "set", "tap0", "master", "podbr")

	out, err := n.withCNI("check", "-o", "json").Output()
	lab.Schema(t, "check", out)
	var d struct {
		Scope       string
		Sysctls     map[string]bool
		FlagsAtBoot string `json:"flags_at_boot"`
		Items       []struct{ Kind, Subject, Verdict, Want, Have, Action string }
		Bridges     []struct {
			Name string
			Kept bool
			Why  string
			Pods []string `json:"pod_names"`
		}
		Findings []struct{ Subject, Sentence string }
	}
	if jsonErr := json.Unmarshal(out, &d); jsonErr != nil || code(err) != 1 {
		t.Fatalf("exit %d, %v\n%s", code(err), jsonErr, out)
	}
	why := make(map[string]string)
	for _, b := range d.Bridges {
		if got, want := strings.Join(b.Pods, " "), "default/on-"+b.Name; b.Name == "podbr" && got != want {
			t.Errorf("behind %s: %q, want %q", b.Name, got, want)
		}
		why[b.Name] = map[bool]string{true: "kept: ", false: "left: "}[b.Kept] + b.Why
	}
	const ports = "a port leads into other network namespaces, "
	want := map[string]string{
		"podbr":   "kept: " + ports + "and /etc/cni/net.d/10-k8s.conflist (k8s) names it",
		"cni0":    "kept: " + ports + "and its address 10.200.2.1 is in 10.200.2.0/24 of /etc/cni/net.d/10-k8s.conflist (k8s)",
		"docker0": "left: " + ports + "but no CNI configuration has its name or its subnet",
		"empty":   "left: no port leads into another network namespace",
		"virbr0":  "left: ignored by virbr*",
	}
	if diff := cmp.Diff(want, why); diff != "" {
		t.Errorf("bridges (-want +got):\n%s", diff)
	}
	var about []string
	for _, f := range d.Findings {
		what := "else"
		if strings.Contains(f.Sentence, " will not reach its own Service any more ") {
			what = "hairpin"
		}
		about = append(about, f.Subject+": "+what)
	}
	slices.Sort(about)
	if diff := cmp.Diff([]string{"cni0: hairpin", "podbr: else", "podbr: hairpin"}, about); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if d.Scope != "bridges" || d.FlagsAtBoot == "" ||
		cmp.Diff(map[string]bool{"iptables": false, "ip6tables": false, "arptables": false}, d.Sysctls) != "" {
		t.Errorf("%s", out)
	}
	if it := d.Items[1]; it.Kind != "bridge" || it.Subject != "cni0" || it.Verdict != "wrong" || it.Action != "flag" ||
		it.Want != "iptables 1, ip6tables 1, arptables 1" || it.Have != "iptables 0, ip6tables 0, arptables 0" {
		t.Errorf("item: %+v", it)
	}

	if out, err := n.withCNI("apply").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "flag podbr: iptables 0, ip6tables 0, arptables 0 → iptables 1, ip6tables 1, arptables 1\n") {
		t.Errorf("apply: %v\n%s", err, out)
	}
	for name, want := range map[string]string{"podbr": "1 1 1", "cni0": "1 1 1", "docker0": "0 0 0", "empty": "0 0 0", "virbr0": "0 0 0"} {
		if got := n.flags(name); got != want {
			t.Errorf("%s has the flags %s, want %s", name, got, want)
		}
	}
	text, err := n.withCNI("check").CombinedOutput()
	for _, want := range []string{
		"left     net.bridge.bridge-nf-call-*  iptables 0, ip6tables 0, arptables 0; left alone: scope = \"bridges\"\n",
		"yes (flag)", "behind podbr: default/on-podbr\n", "ok       podbr", "note     no file can set a bridge's own flags: nfguard.service",
		"note     podbr is kept (" + ports + "and /etc/cni/net.d/10-k8s.conflist (k8s) names it) and carries virtual machines, too",
	} {
		if !strings.Contains(string(text), want) || err != nil {
			t.Errorf("check: %v, and not said: %s\n%s", err, want, text)
		}
	}
}

// The daemon sets the flags as soon as the first pod is on the bridge.
func TestEvidenceAppears(t *testing.T) {
	n := newScopedNode(t, "match = \"auto\"\n")
	n.command = n.withCNI
	n.start()
	n.awaitReady()
	n.Run(t, "ip", "link", "add", "podbr", "up", "type", "bridge")
	time.Sleep(300 * time.Millisecond)
	if got := n.flags("podbr"); got != "0 0 0" {
		t.Errorf("without a pod it is not certain, and the flags are %s", got)
	}
	n.pod("podbr")
	n.flagged("podbr", "1 1 1", 500*time.Millisecond) // before the audit
}

// newAutoNode is a node with match = "auto" on which the daemon looks only at events.
func newAutoNode(t *testing.T) *node {
	n := newNode(t, "scope = \"bridges\"\n[timing]\naudit = \"1h\"\n[bridges]\nmatch = \"auto\"\n")
	n.Run(t, "ip", "link", "del", "cnio0")
	n.command = n.withoutCNI
	return n
}

// A bridge without a CNI configuration is kept as soon as kube-proxy's rules send packets
// to a pod on it, and again whenever its flags are cleared. Bridges to which the rules
// send nothing, or with virtual machines, are left alone.
func TestEvidenceOfRules(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)
	for _, args := range []string{"-backend=nft", "-mode=nftables"} {
		t.Run(args, func(t *testing.T) {
			n := newAutoNode(t)
			for name, address := range map[string]string{"podbr": "10.244.0.250/24", "docker0": "172.17.0.1/16", "vms": "10.244.0.251/24"} {
				n.Run(t, "ip", "link", "add", name, "up", "type", "bridge")
				n.Run(t, "ip", "addr", "add", address, "dev", name)
				n.pod(name)
			}
			n.Run(t, "ip", "link", "add", "tenants", "up", "type", "bridge")
			n.Run(t, "ip", "addr", "add", "10.244.0.252/24", "dev", "tenants")
			n.container("tenants")
			n.Run(t, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
			n.Run(t, "ip", "link", "set", "tap0", "master", "vms")
			n.start()
			n.awaitReady()
			if got := n.flags("podbr"); got != "0 0 0" {
				t.Errorf("without rules it is not certain, and the flags are %s", got)
			}
			standin.Start(t, n.Namespace, program, args, "-services=3")
			n.flagged("podbr", "1 1 1", atMost)
			const why = "(a port leads into other network namespaces, one to a pod, and kube-proxy's rules send to 10.244.0.1, in its network 10.244.0.0/24)"
			if got := n.bridgeRecords("podbr", 1); !strings.HasSuffix(got[0], why) {
				t.Errorf("record: %s\nwant it to end with %s", got[0], why)
			}
			n.Run(t, "ip", "link", "set", "podbr", "type", "bridge", "nf_call_iptables", "0")
			n.flagged("podbr", "1 1 1", atMost)
			for _, name := range []string{"docker0", "vms", "tenants"} {
				if got := n.flags(name); got != "0 0 0" {
					t.Errorf("%s was touched: %s", name, got)
				}
			}
		})
	}
}

// The kernel does not report changes by iptables-legacy: an audit finds them.
func TestEvidenceOfLegacyRules(t *testing.T) {
	n := newScopedNode(t, "match = \"auto\"\n") // audits each second
	n.command = n.withoutCNI
	n.Run(t, "ip", "link", "add", "podbr", "up", "type", "bridge")
	n.Run(t, "ip", "addr", "add", "fd00:244::250/64", "dev", "podbr", "nodad")
	n.pod("podbr")
	n.start()
	n.awaitReady()
	standin.Start(t, n.Namespace, standin.Build(t), "-backend=legacy", "-family=ipv6")
	n.flagged("podbr", "1 1 1", atMost)
}

// k3s starts: it writes flannel's configuration to a place of its own, in directories
// that did not exist before.
func TestEvidenceOfFlannel(t *testing.T) {
	n := newAutoNode(t)
	n.Run(t, "ip", "link", "add", "cni0", "up", "type", "bridge")
	n.pod("cni0")
	n.start()
	n.awaitReady()
	if got := n.flags("cni0"); got != "0 0 0" {
		t.Errorf("without a configuration it is not certain, and the flags are %s", got)
	}
	const place = "/var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist"
	path := fmt.Sprintf("/proc/%d/root%s", n.cmd.Process.Pid, place)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
		{"type": "flannel", "delegate": {"hairpinMode": true, "forceAddress": true, "isDefaultGateway": true}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	n.flagged("cni0", "1 1 1", atMost)
	const why = "(a port leads into other network namespaces, and " + place + " (cbr0) names it)"
	if got := n.bridgeRecords("cni0", 1); !strings.HasSuffix(got[0], why) {
		t.Errorf("record: %s\nwant it to end with %s", got[0], why)
	}
}
