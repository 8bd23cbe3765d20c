package netns_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// proxyView is what check and status say about kube-proxy.
type proxyView struct {
	Meaning   string `json:"meaning"`
	KubeProxy struct {
		State     string `json:"state"`
		Processes []struct {
			PID  int    `json:"pid"`
			Comm string `json:"comm"`
			Exe  string `json:"exe"`
		} `json:"processes"`
		Rules []struct {
			Mode    string `json:"mode"`
			Backend string `json:"backend"`
			IPv4    bool   `json:"ipv4"`
			IPv6    bool   `json:"ipv6"`
		} `json:"rules"`
	} `json:"kube_proxy"`
	Findings []struct {
		Subject  string `json:"subject"`
		Sentence string `json:"sentence"`
		Next     string `json:"next"`
	} `json:"findings"`
}

// check is nfguard check -o json, whatever its verdict.
func (n *node) check() (v proxyView) {
	n.t.Helper()
	out, err := n.nfguard("check", "-o", "json").Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 2) {
		n.t.Fatalf("check: %v", err)
	}
	lab.Schema(n.t, "check", out)
	if err := json.Unmarshal(out, &v); err != nil {
		n.t.Fatalf("check: %v\n%s", err, out)
	}
	return v
}

// about waits for a record of kube-proxy whose message has all parts.
func (n *node) about(parts ...string) map[string]string {
	n.t.Helper()
	return n.recorded(strings.Join(parts, " … "), func(r map[string]string) bool {
		if r["NFGUARD_EVENT"] != "kube_proxy" {
			return false
		}
		for _, p := range parts {
			if !strings.Contains(r["MESSAGE"], p) {
				return false
			}
		}
		return true
	})
}

// guarded is a node where nfguard is ready. There is no audit for a long time, so
// everything that is found was reported by the kernel.
func guarded(t *testing.T) *node {
	t.Helper()
	n := newNode(t, "[timing]\naudit = \"1h\"\n")
	n.start()
	n.awaitReady()
	return n
}

// TestKubeProxyStarts: in each mode and with each backend, its start, its rules and its
// end are noticed.
func TestKubeProxyStarts(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)
	for _, tt := range []struct {
		name  string
		args  []string
		rules string
	}{
		{"iptables-nft", []string{"-backend", "nft"}, "iptables mode (nf_tables), IPv4 and IPv6"},
		{"iptables-legacy", []string{"-backend", "legacy"}, "iptables mode (legacy), IPv4 and IPv6"},
		{"nftables", []string{"-mode", "nftables"}, "nftables mode, IPv4 and IPv6"},
		{"nftables, IPv6 only", []string{"-mode", "nftables", "-family", "ipv6"}, "nftables mode, IPv6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := guarded(t)
			p := standin.Start(t, n.Namespace, program, tt.args...)
			who := fmt.Sprintf("kube-proxy[%d]", p.PID())
			r := n.about(who+" started", "the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, 1 bridge (cnio0)")
			for field, want := range map[string]string{
				"NFGUARD_OUTCOME": "observed", "OBJECT_PID": strconv.Itoa(p.PID()), "OBJECT_COMM": "kube-proxy", "OBJECT_EXE": program,
			} {
				if r[field] != want {
					t.Errorf("%s is %q, want %q", field, r[field], want)
				}
			}
			// On a busy machine, the look at the drop-ins that were written at the start
			// can come as late as this, and finds kube-proxy first.
			if source := r["NFGUARD_SOURCE"]; source != "exec" && source != "file" {
				t.Errorf("NFGUARD_SOURCE is %q, want exec", source)
			}
			n.about(tt.rules) // with the start, or later
			v := n.check()
			if v.KubeProxy.State != "programmed" || len(v.KubeProxy.Processes) != 1 || v.KubeProxy.Processes[0].PID != p.PID() || len(v.KubeProxy.Rules) != 1 {
				t.Errorf("check says %+v", v.KubeProxy)
			}
			p.Stop(t)
			n.about(who+" ended", "its rules stay", tt.rules)
		})
	}
}

// TestKubeProxyOnANodeThatIsNotReady: mode observe keeps the key at 0.
func TestKubeProxyOnANodeThatIsNotReady(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "mode = \"observe\"\n[timing]\naudit = \"1h\"\n")
	n.start()
	n.awaitReady()
	p := standin.Start(t, n.Namespace, standin.Build(t), "-family", "ipv4")
	n.about(fmt.Sprintf("kube-proxy[%d] started", p.PID()), "the node is not ready: net.bridge.bridge-nf-call-iptables is 0, net.bridge.bridge-nf-call-ip6tables is 0")
	n.set("1", "1", "1")
	n.about("the node is ready", "now, after ", "in which it was not: br_netfilter loaded, 3 of 3 keys as wanted")
}

// TestKubeProxyElsewhere: in other forms, and where it is not this node's.
func TestKubeProxyElsewhere(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)

	t.Run("pid 1 of a container", func(t *testing.T) {
		n := guarded(t)
		cmd := n.Command("unshare", "--pid", "--fork", "--kill-child", program, "-family", "ipv4")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		n.run(cmd)
		r := n.about("kube-proxy[", "] started")
		pid, err := strconv.Atoi(r["OBJECT_PID"])
		if err != nil {
			t.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("NSpid:\t%d\t1\n", pid)) {
			t.Errorf("pid %d is not pid 1 of a namespace: %v\n%s", pid, err, status)
		}
	})

	t.Run("renames itself", func(t *testing.T) {
		n := newNode(t, "[timing]\naudit = \"1s\"\n")
		n.start()
		n.awaitReady()
		cmd := n.Command("sh", "-c", `printf kube-proxy >/proc/self/comm; echo renamed; while :; do sleep 0.1; done`)
		n.run(cmd)
		// The kernel reports no change of a name. The audit looks through all processes.
		n.about(fmt.Sprintf("kube-proxy[%d] started", cmd.Process.Pid))
	})

	t.Run("a program of another name writes the rules", func(t *testing.T) {
		n := guarded(t)
		other := filepath.Join(t.TempDir(), "services")
		if err := os.Link(program, other); err != nil {
			t.Skipf("link the stand-in: %v", err)
		}
		standin.Start(t, n.Namespace, other, "-mode", "nftables", "-family", "ipv4")
		r := n.about("kube-proxy's rules are there: nftables mode, IPv4")
		if r["NFGUARD_SOURCE"] != "rules" {
			t.Errorf("found by %s, want rules", r["NFGUARD_SOURCE"])
		}
		if v := n.check(); v.KubeProxy.State != "programmed" || len(v.KubeProxy.Processes) != 0 {
			t.Errorf("check says %+v", v.KubeProxy)
		}
	})

	t.Run("in another network namespace", func(t *testing.T) {
		n := guarded(t)
		standin.Start(t, lab.NewNamespace(t), program, "-family", "ipv4")
		time.Sleep(500 * time.Millisecond) // longer than a pass takes
		if v := n.check(); v.KubeProxy.State != "absent" {
			t.Errorf("check says %+v", v.KubeProxy)
		}
	})

	t.Run("was there before nfguard", func(t *testing.T) {
		n := newNode(t, "")
		p := standin.Start(t, n.Namespace, program, "-family", "ipv4")
		n.start()
		n.awaitReady()
		n.about(fmt.Sprintf("kube-proxy[%d] was there before nfguard started (", p.PID()),
			"iptables mode (nf_tables), IPv4); the node was not ready: net.bridge.bridge-nf-call-iptables was 0")
	})
}

// TestKubeProxyInALoop starts and kills it a hundred times in about a second.
func TestKubeProxyInALoop(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := guarded(t)
	program := filepath.Join(t.TempDir(), "kube-proxy")
	sleep := lab.Tool(t, lab.Netns, "sleep")
	if out, err := exec.Command("cp", sleep, program).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", sleep, err, out)
	}
	began := time.Now()
	for range 100 {
		cmd := n.Command(program, "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	took := time.Since(began)
	time.Sleep(500 * time.Millisecond)
	n.mu.Lock()
	records := 0
	for _, r := range n.records {
		if r["NFGUARD_EVENT"] == "kube_proxy" {
			records++
		}
	}
	n.mu.Unlock()
	if records == 0 || records > 10 {
		t.Errorf("%d records of a hundred starts in %v, want 1 to 10", records, took)
	}
	t.Logf("%d records of a hundred starts in %v", records, took)
}

// TestBothBackends: rules in iptables-nft and in iptables-legacy.
func TestBothBackends(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := guarded(t)
	program := standin.Build(t)
	standin.Start(t, n.Namespace, program, "-family", "ipv4", "-backend", "legacy")
	standin.Start(t, n.Namespace, program, "-family", "ipv4", "-backend", "nft")
	const sentence = "IPv4 rules of kube-proxy are in both backends of iptables, nf_tables and legacy: " +
		"the kernel runs both, one of them is not kept up to date, and its stale endpoints take a part of the connections"
	n.about(sentence)
	v := n.check()
	if len(v.Findings) == 0 || v.Findings[0].Sentence != sentence || v.Findings[0].Next == "" {
		t.Errorf("check finds %+v", v.Findings)
	}
}

// TestMeaning is what check says in one line, as the node changes.
func TestMeaning(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "")
	meaning := func(want string) {
		t.Helper()
		if diff := cmp.Diff(want, n.check().Meaning); diff != "" {
			t.Errorf("meaning (-want +got):\n%s", diff)
		}
	}
	meaning("no Linux bridge carries pods here: the setting is not needed, and is kept because mode = enforce")
	pod := lab.NewNamespace(t)
	n.Run(t, "ip", "link", "add", "veth1", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	n.Run(t, "ip", "link", "set", "veth1", "master", "cnio0")
	n.Run(t, "ip", "addr", "add", "10.1.0.1/24", "dev", "cnio0")
	n.Run(t, "ip", "addr", "add", "fd00:1::1/64", "dev", "cnio0", "nodad")
	standin.Start(t, n.Namespace, standin.Build(t), "-mode", "nftables")
	const not = " will not reach Services with an endpoint on this node: their packets are not handed to netfilter"
	const handed = " are handed to netfilter, and nothing that was looked at keeps them from Services with an endpoint on this node"
	meaning("pods on cnio0 (IPv4) and cnio0 (IPv6)" + not)
	n.Run(t, "ip", "link", "set", "cnio0", "type", "bridge", "nf_call_iptables", "1")
	meaning("the packets of pods on cnio0 (IPv4)" + handed + "; pods on cnio0 (IPv6)" + not)
	n.set("1", "1", "1")
	meaning("the packets of pods on cnio0 (IPv4) and cnio0 (IPv6)" + handed)
}

// run starts a program that is killed when the test ends.
func (n *node) run(cmd *exec.Cmd) {
	n.t.Helper()
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
}
