package netns_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

// probeView is the JSON of nfguard probe.
type probeView struct {
	Schema  int      `json:"schema"`
	Verdict string   `json:"verdict"`
	Meaning string   `json:"meaning"`
	Next    string   `json:"next"`
	Hairpin string   `json:"hairpin"`
	Helps   string   `json:"hairpin_next"`
	Bridges []string `json:"bridges"`
	Address []string `json:"addresses"`
	Cells   []struct {
		Path     string `json:"path"`
		To       string `json:"to"`
		Family   string `json:"family"`
		Protocol string `json:"protocol"`
		Service  string `json:"service"`
		Asked    string `json:"asked"`
		Outcome  string `json:"outcome"`
		Source   string `json:"source"`
		Times    int    `json:"times"`
		Port     string `json:"port"`
	} `json:"cells"`
}

// outcomes returns the outcomes of the cells on one path, each once.
func (v *probeView) outcomes(path, to string) (words []string) {
	for _, c := range v.Cells {
		if c.Path == path && c.To == to && !slices.Contains(words, c.Family+" "+c.Outcome) {
			words = append(words, c.Family+" "+c.Outcome)
		}
	}
	return words
}

// probe runs nfguard probe -o json and returns its exit code.
func (n *node) probe(args ...string) (v probeView, exit int) {
	n.t.Helper()
	cmd := n.nfguard(append([]string{"probe", "-o", "json"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if schema := "probe"; err == nil {
		if slices.Contains(args, "--bridge") {
			schema = "probe-bridge"
		}
		lab.Schema(n.t, schema, out)
	}
	if jsonErr := json.Unmarshal(out, &v); jsonErr != nil {
		n.t.Fatalf("probe: %v, %v\n%s%s", err, jsonErr, out, said.String())
	}
	return v, code(err)
}

// TestProbe: the binary, on a node whose keys are 0, then 1, then 0 with the
// flag of the bridge with pods.
func TestProbe(t *testing.T) {
	n := newNode(t, "")
	pod := lab.NewNamespace(t)
	n.Run(t, "ip", "link", "add", "veth1", "master", "cnio0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	n.Run(t, "ip", "link", "set", "veth1", "type", "bridge_slave", "hairpin", "on")
	n.Run(t, "ip", "link", "add", "lxdbr0", "type", "bridge") // ignored, although it has a port
	n.Run(t, "ip", "link", "add", "veth2", "master", "lxdbr0", "type", "veth", "peer", "name", "eth1", "netns", pod.Path())
	answered := []string{"IPv4 answered", "IPv6 answered"}
	for _, tt := range []struct {
		name    string
		prepare func()
		bridged []string
		verdict string
		exit    int
	}{
		{"keys 0", func() {}, []string{"IPv4 wrong source", "IPv6 wrong source"}, "broken", 1},
		{"keys 1", func() { n.set("1", "1", "1") }, answered, "works", 0},
		{"iptables 1, ip6tables 0", func() { n.set("1", "0", "0") }, []string{"IPv4 answered", "IPv6 wrong source"}, "broken", 1},
		{"keys 0, flags 1", func() {
			n.set("0", "0", "0")
			n.Run(t, "ip", "link", "set", "cnio0", "type", "bridge", "nf_call_iptables", "1", "nf_call_ip6tables", "1")
		}, answered, "works", 0},
	} {
		tt.prepare()
		v, exit := n.probe()
		if v.Verdict != tt.verdict || exit != tt.exit || v.Schema != 1 || len(v.Cells) != 20 {
			t.Errorf("%s: exit %d: %+v", tt.name, exit, v)
		}
		for _, c := range []struct {
			path, to string
			want     []string
		}{{"bridged", "pod IP", answered}, {"bridged", "cluster IP", tt.bridged}, {"routed", "pod IP", answered}, {"routed", "cluster IP", answered}, {"hairpin", "cluster IP", answered}} {
			if diff := cmp.Diff(c.want, v.outcomes(c.path, c.to)); diff != "" {
				t.Errorf("%s: %s, %s (-want +got):\n%s", tt.name, c.path, c.to, diff)
			}
		}
		if diff := cmp.Diff([]string{"cnio0"}, v.Bridges); diff != "" {
			t.Errorf("%s: bridges (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestProbeWords: the text for people, and that of check.
func TestProbeWords(t *testing.T) {
	n := newNode(t, "[persist]\nenabled = false\n")
	out, err := n.nfguard("probe").Output()
	for _, want := range []string{
		"br_netfilter loaded; bridge-nf-call-iptables 0, -ip6tables 0, -arptables 0; no bridge carries pods\n",
		"\nIPv4    same node   answered  reply from 192.0.2.3:7\nIPv4    other node  answered  answered\nIPv4    itself      -         answered\n",
		"\nbroken   a pod that calls a Service with an endpoint on its own node gets the reply from 192.0.2.3:7 and not from 203.0.113.3:7, which it asked (IPv4 TCP)\n" +
			"         nfguard apply puts it right once, systemctl start nfguard keeps it right\n",
	} {
		if !strings.Contains(string(out), want) || code(err) != 1 {
			t.Errorf("exit %d, without %q:\n%s", code(err), want, out)
		}
	}

	// check alone looks at the keys. With --probe, a host whose keys are right also has to
	// work, and one whose keys are wrong is wrong anyway.
	n.write("nfguard.toml", "[persist]\nenabled = false\n[sysctl]\n\"net.bridge.bridge-nf-call-iptables\" = \"ignore\"\n"+
		"\"net.bridge.bridge-nf-call-ip6tables\" = \"ignore\"\n\"net.bridge.bridge-nf-call-arptables\" = \"ignore\"\n")
	if out, err := n.nfguard("check").Output(); code(err) != 0 {
		t.Fatalf("check exits %d where nothing is guarded:\n%s", code(err), out)
	}
	if out, err := n.nfguard("check", "--probe").Output(); code(err) != 1 || !strings.Contains(string(out), "\nPROBE\nbr_netfilter loaded; ") || !strings.Contains(string(out), "\nbroken   a pod that calls") {
		t.Errorf("check --probe at 0 exits %d:\n%s", code(err), out)
	}
	n.set("1", "1", "1")
	out, err = n.nfguard("check", "--probe", "-o", "json").Output()
	lab.Schema(t, "check", out)
	var d struct {
		Verdict string
		Probe   probeView
	}
	if jsonErr := json.Unmarshal(out, &d); jsonErr != nil || code(err) != 0 || d.Probe.Verdict != "works" || len(d.Probe.Cells) != 20 {
		t.Errorf("check --probe at 1 exits %d: %v\n%s", code(err), jsonErr, out)
	}
}

// TestProbeWithoutPrivileges: it could not tell, and says why and what to do.
func TestProbeWithoutPrivileges(t *testing.T) {
	n := newNode(t, "")
	open := filepath.Join(t.TempDir(), "nfguard")
	if out, err := exec.Command("cp", binary, open).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for dir := filepath.Dir(open); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := n.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", open, "probe", "--config", "/nonexistent")
	out, err := cmd.CombinedOutput()
	want := "nfguard: error: make a network namespace: operation not permitted\nnfguard: hint: run it as root; uid is 65534\n"
	if diff := cmp.Diff(want, string(out)); diff != "" || code(err) != 2 {
		t.Errorf("exit %d (-want +got):\n%s", code(err), diff)
	}
}

// cage is a user namespace with a network namespace: the kernel counts every network
// namespace that is created in it, until it is completely gone.
type cage struct {
	t   *testing.T
	pid int
}

func newCage(t *testing.T) *cage {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	keeper := exec.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; read end")
	keeper.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := keeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the signal is tied to the thread that forks
	if err := keeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = keeper.Wait() // its stdin has ended
		runtime.UnlockOSThread()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("a user namespace: %v", err)
	}
	return &cage{t, keeper.Process.Pid}
}

func (c *cage) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(c.pid), "--user", "--net", "--", name}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	return cmd
}

func (c *cage) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.command(name, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// limit is how many network namespaces there can be, including the cage's own.
func (c *cage) limit(n int) {
	c.t.Helper()
	c.run("sh", "-c", fmt.Sprintf("echo %d > /proc/sys/user/max_net_namespaces", n))
}

// inventory is everything else that a probe could leave.
func (c *cage) inventory() (all string) {
	for _, words := range inventory {
		f := strings.Fields(words)
		all += c.run(f[0], f[1:]...)
	}
	return all + ours(c.run("ip", "neigh"))
}

var inventory = []string{"ip -o link", "ip -o addr", "ip route", "ip -6 route", "nft -s list ruleset", "sysctl -a -r net.bridge"}

// ours are the lines of a neighbour table with a hardware address of a probe's
// pod.
func ours(table string) (lines string) {
	for line := range strings.Lines(table) {
		if strings.Contains(line, " lladdr 02:6e:66:67:") {
			lines += line
		}
	}
	return lines
}

// TestProbeKilled kills a hundred probes at random moments: nothing is left.
func TestProbeKilled(t *testing.T) {
	c := newCage(t)
	c.killed(4, 40*time.Millisecond, 0, "probe", "--config", "/nonexistent")
}

// killed kills a hundred runs at random moments. Then it lets one run complete with no
// more namespaces than it needs itself: it has to exit normally, and print its JSON.
func (c *cage) killed(needs int, within time.Duration, exit int, args ...string) {
	c.t.Helper()
	before := c.inventory()
	cut := 0
	for range 100 {
		cmd := c.command(binary, args...)
		if err := cmd.Start(); err != nil {
			c.t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(within))))
		_ = cmd.Process.Kill()
		if cmd.Wait() != nil && cmd.ProcessState.ExitCode() == -1 {
			cut++
		}
	}
	c.t.Logf("%d of 100 were killed before their end", cut)
	if cut < 30 {
		c.t.Errorf("only %d of 100 were killed before their end", cut)
	}
	// The kernel removes namespaces some time after their last user has ended.
	c.limit(1 + needs)
	began := time.Now()
	for {
		out, err := c.command(binary, append(args, "-o", "json")...).CombinedOutput()
		if code(err) == exit && json.Valid(out) {
			break
		}
		if time.Since(began) > 30*time.Second {
			c.t.Fatalf("30 s later a run exits %d:\n%s", code(err), out)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Logf("all their namespaces were gone within %v", time.Since(began))
	c.limit(1000)
	for {
		diff := cmp.Diff(before, c.inventory())
		if diff == "" {
			return
		}
		if time.Since(began) > 30*time.Second {
			c.t.Fatalf("what is left (-before +after):\n%s", diff)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestProbeTakesNoTime: half of the runs take much less than a second.
func TestProbeTakesNoTime(t *testing.T) {
	n := newNode(t, "")
	for _, key := range []string{"0", "1"} {
		n.set(key, key, key)
		var took []time.Duration
		for range 20 {
			began := time.Now()
			n.probe()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("keys %s: p50 %v, longest %v of 20", key, took[10], took[19])
		if took[10] > time.Second {
			t.Errorf("keys %s: half of the runs took longer than %v", key, took[10])
		}
	}
}
