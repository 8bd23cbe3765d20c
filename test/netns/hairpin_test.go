package netns_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/lab"
)

// hairpin reports whether a port is in hairpin mode.
func (n *node) hairpin(port string) (on bool) {
	n.t.Helper()
	n.Do(func() {
		p, _, err := rtnl.PortNamed(port)
		if err != nil {
			n.t.Error(err)
		}
		on = p.Hairpin
	})
	return on
}

// becomesHairpin waits until a port is in hairpin mode.
func (n *node) becomesHairpin(port string) {
	n.t.Helper()
	for start := time.Now(); !n.hairpin(port); time.Sleep(time.Millisecond) {
		if time.Since(start) > atMost {
			n.t.Fatalf("%s is not in hairpin mode after %v", port, atMost)
		}
	}
}

// connect adds a port to a bridge, of a pod.
func (n *node) connect(port, bridge string) {
	n.t.Helper()
	pod := lab.NewNamespace(n.t)
	n.Run(n.t, "ip", "link", "add", port, "master", bridge, "up", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
}

// switchedOn waits until that many records say that hairpin mode was switched on at
// a port: each of the port, or of its bridge, where news of that came first.
func (n *node) switchedOn(port string, count int) {
	n.t.Helper()
	found := func() (list []string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, r := range n.records {
			own := r["NFGUARD_SUBJECT"] == port && r["NFGUARD_HAVE"] == "no hairpin mode" && r["NFGUARD_WANT"] == "hairpin mode" &&
				strings.HasPrefix(r["MESSAGE"], port+" had no hairpin mode, switched on after ") && strings.Contains(r["MESSAGE"], " (a port of cnio0: ")
			bridge := r["NFGUARD_SUBJECT"] == "cnio0" && strings.Contains(r["MESSAGE"], " switched on at "+port)
			if r["NFGUARD_EVENT"] == "bridge_flag" && r["NFGUARD_OUTCOME"] == "corrected" && (own || bridge) {
				list = append(list, r["MESSAGE"])
			}
		}
		return list
	}
	for deadline := time.Now().Add(atMost); len(found()) < count; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("%d records about %s, want %d: %q", len(found()), port, count, found())
		}
	}
}

// In both scopes hairpin mode is on at the ports of pods that there are and that
// come, and is put back; nobody else's port is touched.
func TestHairpinIsKept(t *testing.T) {
	for name, tt := range map[string]struct{ scope, match string }{
		"host":          {"host", `["cni*"]`},
		"bridges":       {"bridges", `["cni*"]`},
		"host, auto":    {"host", `"auto"`},
		"bridges, auto": {"bridges", `"auto"`},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, fmt.Sprintf("scope = %q\n[timing]\naudit = \"1s\"\n[bridges]\nhairpin = \"keep\"\nmatch = %s\n", tt.scope, tt.match))
			n.write("net.conflist", `{"name": "pods", "plugins": [{"type": "bridge", "bridge": "cnio0"}]}`)
			if tt.match == `"auto"` {
				n.command = func(args ...string) *exec.Cmd { return n.configured("net.conflist", args...) }
			}
			n.Run(t, "ip", "link", "add", "lxdbr0", "type", "bridge")
			n.Run(t, "ip", "link", "add", "plain", "master", "cnio0", "type", "veth", "peer", "name", "beside") // no pod's
			n.connect("veth1", "cnio0")
			n.connect("container", "lxdbr0")
			n.start()
			n.awaitReady()
			if !n.hairpin("veth1") {
				t.Error("veth1 is not in hairpin mode after the first pass")
			}
			n.connect("veth2", "cnio0")
			n.becomesHairpin("veth2")
			n.switchedOn("veth2", 1)
			n.Run(t, "ip", "link", "set", "veth1", "type", "bridge_slave", "hairpin", "off")
			n.becomesHairpin("veth1")
			n.switchedOn("veth1", 2)
			n.Run(t, "ip", "link", "set", "veth1", "nomaster")
			n.Run(t, "ip", "link", "set", "veth1", "master", "cnio0") // the kernel forgets it
			n.becomesHairpin("veth1")
			for _, other := range []string{"plain", "container"} {
				if n.hairpin(other) {
					t.Errorf("%s was touched", other)
				}
			}
			out, err := n.nfguard("check").CombinedOutput()
			if tt.match != `"auto"` && (code(err) != 0 || strings.Contains(string(out), "does not reach its own")) {
				t.Errorf("check exits %d:\n%s", code(err), out)
			}
		})
	}
}

// A port that the real CNI plugin bridge adds is in hairpin mode at once, and a
// hundred of them are a few records and no drift.
func TestHairpinOfTheBridgePlugin(t *testing.T) {
	plugins := lab.CNI(t)
	n := newNode(t, "[bridges]\nhairpin = \"keep\"\n")
	n.start()
	n.awaitReady()
	config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cnio0", "isGateway": true,
		"ipam": {"type": "host-local", "dataDir": %q, "subnet": "10.244.0.0/24"}}`, t.TempDir())
	for i := range 20 {
		pod := lab.NewNamespace(t)
		add := n.Command(filepath.Join(plugins, "bridge"))
		add.Env = append(os.Environ(), "CNI_COMMAND=ADD", fmt.Sprint("CNI_CONTAINERID=pod", i), "CNI_NETNS="+pod.Path(), "CNI_IFNAME=eth0", "CNI_PATH="+plugins)
		add.Stdin = strings.NewReader(config)
		out, err := add.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var result struct {
			Interfaces []struct{ Name, Sandbox string }
		}
		if err := json.Unmarshal(out, &result); err != nil {
			t.Fatal(err)
		}
		for _, link := range result.Interfaces {
			if strings.HasPrefix(link.Name, "veth") {
				n.becomesHairpin(link.Name)
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	records := 0
	for _, r := range n.records {
		if r["NFGUARD_EVENT"] == "contention" {
			t.Errorf("pods that come are taken for a fight: %s", r["MESSAGE"])
		}
		if r["NFGUARD_EVENT"] == "bridge_flag" {
			records++
		}
	}
	if records > 11 {
		t.Errorf("%d records of 20 pods", records)
	}
}

// Mode observe tells and touches nothing; and without "keep" it is told before the
// first 1, by check, by apply, and by the daemon.
func TestHairpinIsTold(t *testing.T) {
	const (
		ahead = "a pod on cnio0 will not reach its own Service any more when it is chosen as the endpoint, once its frames are handed to netfilter: 2 of 3 pod ports have no hairpin mode"
		now   = "a pod on cnio0 does not reach its own Service when it is chosen as the endpoint: 2 of 3 pod ports have no hairpin mode"
	)
	n := newNode(t, "")
	for _, port := range []string{"veth1", "veth2", "veth3"} {
		n.connect(port, "cnio0")
	}
	n.Run(t, "ip", "link", "set", "veth3", "type", "bridge_slave", "hairpin", "on")
	says := func(exit int, want string, args ...string) {
		t.Helper()
		out, err := n.nfguard(args...).CombinedOutput()
		if code(err) != exit || !strings.Contains(string(out), want) {
			t.Errorf("nfguard %s exits %d, want %d and %q:\n%s", strings.Join(args, " "), code(err), exit, want, out)
		}
	}
	says(1, ahead, "check")
	says(1, ahead, "apply", "--dry-run")
	n.start()
	n.awaitReady()
	warned := n.recorded("what ends with the first 1", func(r map[string]string) bool { return r["MESSAGE"] == ahead })
	if warned["NFGUARD_EVENT"] != "bridge" || !strings.Contains(warned["NFGUARD_NEXT"], "hairpinMode: true") {
		t.Errorf("recorded: %v", warned)
	}
	n.mu.Lock()
	for _, r := range n.records {
		if r["MESSAGE"] == ahead {
			break
		}
		if r["NFGUARD_EVENT"] == "drift" {
			t.Errorf("before it was told: %s", r["MESSAGE"])
		}
	}
	n.mu.Unlock()
	says(0, now, "check")
	says(0, "3 pods (2 without hairpin mode)", "check")
	says(0, now, "status")
	n.stop()
	n.set("0", "0", "0")
	says(0, "nfguard: warning: "+ahead, "apply")

	n.write("nfguard.toml", "mode = \"observe\"\n[bridges]\nhairpin = \"keep\"\n[persist]\nenabled = false\n")
	os.Remove(n.file("notify"))
	n.start()
	n.awaitReady()
	n.recorded("that it is not as wanted", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "bridge_flag" && r["NFGUARD_OUTCOME"] == "observed" &&
			strings.HasPrefix(r["MESSAGE"], "cnio0 is no hairpin mode at some pod ports, wanted hairpin mode at pod ports: ")
	})
	if n.hairpin("veth1") {
		t.Error("mode observe has changed a port")
	}
}

// Why "keep" is not the default: a pod whose kernel does not know its own question
// takes its address for a duplicate, because the port sends the question back.
func TestHairpinAndDuplicateAddresses(t *testing.T) {
	n := newNode(t, "")
	for _, tt := range []struct{ hairpin, enhanced, want string }{
		{"off", "0", "used"}, {"on", "0", "a duplicate"}, {"on", "1", "used"}, {"off", "1", "used"},
	} {
		pod := lab.NewNamespace(t)
		n.Run(t, "ip", "link", "add", "veth1", "master", "cnio0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
		n.Run(t, "ip", "link", "set", "veth1", "type", "bridge_slave", "hairpin", tt.hairpin)
		pod.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.enhanced_dad="+tt.enhanced, "net.ipv6.conf.eth0.enhanced_dad="+tt.enhanced)
		pod.Run(t, "ip", "addr", "add", "fd00:9::2/64", "dev", "eth0")
		n.Run(t, "ip", "link", "set", "veth1", "up")
		pod.Run(t, "ip", "link", "set", "eth0", "up")
		got := ""
		for deadline := time.Now().Add(atMost); got == ""; time.Sleep(20 * time.Millisecond) {
			switch out := pod.Run(t, "ip", "-6", "addr", "show", "dev", "eth0", "to", "fd00:9::2"); {
			case strings.Contains(out, "dadfailed"):
				got = "a duplicate"
			case strings.Contains(out, "fd00:9::2") && !strings.Contains(out, "tentative"):
				got = "used"
			case time.Now().After(deadline):
				t.Fatalf("still tentative: %s", out)
			}
		}
		if got != tt.want {
			t.Errorf("hairpin %s, enhanced_dad %s: %s, want %s", tt.hairpin, tt.enhanced, got, tt.want)
		}
		n.Run(t, "ip", "link", "del", "veth1")
	}
}
