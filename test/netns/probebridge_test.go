package netns_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// worker is a node with the rules of the stand-in.
func worker(t *testing.T, config string, proxy ...string) *node {
	t.Helper()
	n := wired(t, config)
	standin.Start(t, n.Namespace, standin.Build(t), append([]string{"-services", "300"}, proxy...)...)
	return n
}

// wired is a node with a pod on cnio0, the endpoint of svc-0, and a pod of another node,
// behind a wire, the endpoint of svc-299.
func wired(t *testing.T, config string) *node {
	t.Helper()
	n := newNode(t, config)
	n.Run(t, "ip", "addr", "add", "10.244.0.254/24", "dev", "cnio0")
	n.Run(t, "ip", "addr", "add", "fd00:244::fe/120", "dev", "cnio0", "nodad")
	n.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	n.server("veth0", "cnio0", "10.244.0.1/24", "fd00:244::1/120")
	n.server("wire", "", "10.244.1.44/32", "fd00:244::12c/128")
	n.Run(t, "ip", "addr", "add", "10.250.0.1/24", "dev", "wire")
	n.Run(t, "ip", "addr", "add", "fd00:250::1/64", "dev", "wire", "nodad")
	n.Run(t, "ip", "route", "add", "10.244.1.0/24", "dev", "wire")
	n.Run(t, "ip", "-6", "route", "add", "fd00:244::100/120", "dev", "wire")
	for strings.Contains(n.Run(t, "ip", "addr"), "tentative") || !strings.Contains(n.Run(t, "ip", "-o", "link", "show", "cnio0"), " state UP ") { // a second
		time.Sleep(20 * time.Millisecond)
	}
	return n
}

// server attaches a pod that answers on TCP port 8080, and on UDP port 53.
func (n *node) server(veth, bridge, v4, v6 string) {
	n.t.Helper()
	pod := n.plug(veth, bridge, v4, v6)
	for _, network := range []string{"tcp4", "tcp6"} {
		var l net.Listener
		var err error
		pod.Do(func() { l, err = net.Listen(network, ":8080") })
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { l.Close() })
	}
	var dns net.PacketConn
	var err error
	pod.Do(func() { dns, err = net.ListenPacket("udp4", ":53") })
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { dns.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			size, from, err := dns.ReadFrom(b)
			if err != nil {
				return // closed
			}
			_, _ = dns.WriteTo(b[:size], from) // if it fails, the client asks again
		}
	}()
}

func (n *node) plug(veth, bridge, v4, v6 string) *lab.Namespace {
	n.t.Helper()
	pod := lab.NewNamespace(n.t)
	n.Run(n.t, "ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	if bridge != "" {
		n.Run(n.t, "ip", "link", "set", veth, "master", bridge)
	}
	n.Run(n.t, "ip", "link", "set", veth, "up")
	pod.Run(n.t, "ip", "addr", "add", v4, "dev", "eth0")
	pod.Run(n.t, "ip", "addr", "add", v6, "dev", "eth0", "nodad")
	pod.Run(n.t, "ip", "link", "set", "eth0", "up")
	gateway := []string{"10.250.0.1", "fd00:250::1"}
	if bridge != "" {
		gateway = []string{"10.244.0.254", "fd00:244::fe"}
	}
	pod.Run(n.t, "ip", "route", "add", "default", "via", gateway[0], "dev", "eth0", "onlink")
	pod.Run(n.t, "ip", "-6", "route", "add", "default", "via", gateway[1], "dev", "eth0", "onlink")
	return pod
}

// both are Services with an endpoint on this node and one elsewhere.
var both = []string{
	"--service", "10.96.0.1:80/tcp", "--service", "default/svc-299:http",
	"--service", "[fd00:96::1]:80", "--service", "[fd00:96::12c]:80/tcp",
}

// TestProbeBridge: through the real bridge and each kind of the stand-in's rules, with the
// keys at 0 and at 1.
func TestProbeBridge(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	for _, tt := range []struct {
		name  string
		proxy []string
	}{
		{"iptables-nft", []string{"-backend", "nft"}},
		{"iptables-legacy", []string{"-backend", "legacy"}},
		{"nftables", []string{"-mode", "nftables"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := worker(t, "", tt.proxy...)
			n.wantProbe()
		})
	}
}

// wantProbe probes with the keys at 0 and at 1, and checks that nothing is left.
func (n *node) wantProbe() {
	t := n.t
	t.Helper()
	before := n.inventory()
	answered := []string{"IPv4 answered", "IPv6 answered"}
	for _, at := range []struct {
		key     string
		bridged []string
		verdict string
		exit    int
	}{{"0", []string{"IPv4 wrong source", "IPv6 wrong source"}, "broken", 1}, {"1", answered, "works", 0}} {
		n.set(at.key, at.key, at.key)
		v, exit := n.probe(append([]string{"--bridge", "cnio0", "--yes"}, both...)...)
		if v.Verdict != at.verdict || exit != at.exit || v.Schema != 1 {
			t.Errorf("keys %s: exit %d: %+v", at.key, exit, v)
		}
		for _, c := range []struct {
			path, to string
			want     []string
		}{{"bridged", "pod IP", answered}, {"bridged", "cluster IP", at.bridged}, {"routed", "pod IP", answered}, {"routed", "cluster IP", answered}} {
			if diff := cmp.Diff(c.want, v.outcomes(c.path, c.to)); diff != "" {
				t.Errorf("keys %s: %s, %s (-want +got):\n%s", at.key, c.path, c.to, diff)
			}
		}
		for _, c := range v.Cells {
			if c.Outcome == "wrong source" && c.Source != "10.244.0.1:8080" && c.Source != "[fd00:244::1]:8080" {
				t.Errorf("keys %s: the source is %s", at.key, c.Source)
			}
		}
		if len(v.Address) != 2 || !strings.HasPrefix(v.Address[0], "10.244.0.") || !strings.HasPrefix(v.Address[1], "fd00:244::") {
			t.Errorf("keys %s: addresses %v", at.key, v.Address)
		}
	}
	n.set("0", "0", "0")
	if diff := cmp.Diff(before, n.inventory()); diff != "" {
		t.Errorf("what is left (-before +after):\n%s", diff)
	}
}

// inventory is everything that a probe could leave on a node.
func (n *node) inventory() (all string) {
	for _, words := range inventory {
		f := strings.Fields(words)
		all += n.Run(n.t, f[0], f[1:]...)
	}
	all = strings.ReplaceAll(all, "tentative ", "") // while the kernel looks for duplicates of an address
	return all + ours(n.Run(n.t, "ip", "neigh"))
}

// TestProbeBridgeChooses Services itself, and says which.
func TestProbeBridgeChooses(t *testing.T) {
	n := worker(t, "", "-mode", "nftables", "-family", "ipv4")
	cmd := n.nfguard("probe", "--bridge", "cnio0", "--yes")
	out, err := cmd.CombinedOutput()
	table := regexp.MustCompile(`  +`).ReplaceAllString(string(out), "  ") // the widths depend on the other rows
	for _, want := range []string{
		": a pod on cnio0 with the address 10.244.0.", "; nftables mode, IPv4\n\n",
		"\nIPv4  same node  answered  reply from 10.244.0.1:8080  default/svc-0:http\n",
		"\nbroken  a pod that calls a Service with an endpoint on its own node gets the reply from 10.244.0.1:8080 and not from 10.96.0.1:80, which it asked (IPv4 TCP)\n",
	} {
		if !strings.Contains(table, want) || code(err) != 1 {
			t.Errorf("exit %d, without %q:\n%s", code(err), want, out)
		}
	}
}

// TestProbeBridgeRefuses what it must not do, and gives the next step.
func TestProbeBridgeRefuses(t *testing.T) {
	n := worker(t, "", "-mode", "nftables")
	refuse := func(name, want string, args ...string) {
		t.Helper()
		out, err := n.nfguard(append([]string{"probe"}, args...)...).CombinedOutput()
		if code(err) != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%s: exit %d, want %q:\n%s", name, code(err), want, out)
		}
	}
	before := n.inventory()
	refuse("nobody to ask", "nfguard: error: this adds a port to cnio0 for some seconds, and there is no terminal to ask whether it may\n"+
		"nfguard: hint: say --yes where nobody can be asked\n", append([]string{"--bridge", "cnio0"}, both...)...)
	refuse("no such bridge", "nfguard: error: cnio9: no such bridge\nnfguard: hint: nfguard check lists the bridges\n", "--bridge", "cnio9", "-y")
	refuse("no bridge", "nfguard: error: wire: no such bridge\n", "--bridge", "wire", "-y")
	refuse("a Service that is not there", "nfguard: error: --service 10.96.9.9:80/tcp: it is not in kube-proxy's rules, or has no endpoints\n"+
		"nfguard: hint: write it as kubectl get services shows it, with the port: --service 10.96.0.1:80/tcp, or --service default/svc-0:http\n",
		"--bridge", "cnio0", "-y", "--service", "10.96.9.9:80/tcp")
	refuse("an address in use", "nfguard: error: 10.244.0.1 is in use by ", append([]string{"--bridge", "cnio0", "-y", "--address", "10.244.0.1"}, both...)...)
	refuse("an address in use, IPv6", "nfguard: error: fd00:244::1 is in use by another host: no free address\n"+
		"nfguard: hint: name one that is free with --address\n", append([]string{"--bridge", "cnio0", "-y", "--address", "fd00:244::1"}, both...)...)
	refuse("an address of elsewhere", "nfguard: error: 192.0.2.1 is not an address for a pod on cnio0\n", append([]string{"--bridge", "cnio0", "-y", "--address", "192.0.2.1"}, both...)...)
	refuse("no address", "nfguard: error: --address cnio0: it is no IP address\n", "--bridge", "cnio0", "-y", "--address", "cnio0")
	n.Run(t, "ip", "link", "add", "cnio1", "type", "bridge")
	refuse("a bridge without address", "nfguard: error: cnio1 has no address, so what its pods have for a subnet and a gateway is not known\n", "--bridge", "cnio1", "-y")
	n.Run(t, "ip", "link", "del", "cnio1")
	if diff := cmp.Diff(before, n.inventory()); diff != "" {
		t.Errorf("what is left (-before +after):\n%s", diff)
	}
}

// TestProbeBridgeManaged: if a CNI plugin assigns the addresses and none can be leased, the
// user has to name one. The configurations are in the command's own mount namespace.
func TestProbeBridgeManaged(t *testing.T) {
	n := worker(t, "", "-mode", "nftables", "-family", "ipv4")
	n.Run(t, "ip", "addr", "del", "fd00:244::fe/120", "dev", "cnio0")
	for name, tt := range map[string]struct{ config, who string }{
		"host-local":  {`{"name": "pods", "plugins": [{"type": "bridge", "bridge": "cnio0", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]]}}]}`, "host-local"},
		"whereabouts": {`{"name": "pods", "type": "bridge", "bridge": "cnio0", "ipam": {"type": "whereabouts", "range": "10.244.0.0/24"}}`, "whereabouts"},
		"calico-ipam": {`{"name": "pods", "type": "bridge", "bridge": "cnio0", "ipam": {"type": "calico-ipam"}}`, "calico-ipam"},
		"flannel":     {`{"name": "cbr0", "plugins": [{"type": "flannel", "delegate": {"bridge": "cnio0"}}]}`, "host-local of flannel"},
	} {
		t.Run(name, func(t *testing.T) {
			n.write("net.conflist", tt.config)
			run := func(args ...string) (string, int) {
				out, err := n.configured("net.conflist", append([]string{"probe", "--bridge", "cnio0", "--yes", "--service", "10.96.0.1:80", "--cni-bin", "/none"}, args...)...).CombinedOutput()
				return string(out), code(err)
			}
			want := fmt.Sprintf("nfguard: error: the addresses on cnio0 are handed out by %s, by /etc/cni/net.d/10-pods.conflist, and none could be leased: its program, %s, is not in /none\n"+
				"nfguard: hint: say which is not going to be given to a pod, perhaps --address 10.244.0.", tt.who, strings.Fields(tt.who)[0])
			if out, exit := run(); exit != 2 || !strings.HasPrefix(out, want) {
				t.Errorf("exit %d, want %s:\n%s", exit, want, out)
			}
			out, exit := run("--address", "10.244.0.200")
			// Another pod just had the address, and its neighbours still know that.
			if exit != 1 || !strings.Contains(out, ": a pod on cnio0 with the address 10.244.0.200, given back; ") || !strings.Contains(out, "  reply from 10.244.0.1:8080  ") {
				t.Errorf("with an address: exit %d\n%s", exit, out)
			}
		})
	}
}

// configured is nfguard where that file of the node's is the CNI configuration.
func (n *node) configured(config string, args ...string) *exec.Cmd {
	const script = `mount -t tmpfs tmpfs /etc/cni/net.d 2>/dev/null || { mount -t tmpfs tmpfs /etc && mkdir -p /etc/cni/net.d; }; cp "$1" /etc/cni/net.d/10-pods.conflist; shift; exec "$@"`
	words := []string{"--mount", "--propagation", "private", "sh", "-c", script, "sh", n.file(config), binary}
	cmd := n.Command("unshare", append(append(words, args...), "--config", n.file("nfguard.toml"))...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+n.file("run"), "NO_COLOR=1")
	return cmd
}

// TestProbeBridgeLeases: the real host-local hands out the address and gets it
// back, also from a probe that was killed; and what a pod has meanwhile is
// another one.
func TestProbeBridgeLeases(t *testing.T) {
	plugins := lab.CNI(t)
	n := worker(t, "", "-mode", "nftables")
	n.set("1", "1", "1")
	store := t.TempDir()
	n.write("net.conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cnio0", "ipam": {
		"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.100"}], [{"subnet": "fd00:244::/120", "rangeStart": "fd00:244::64"}]]}}]}`, store))
	leased := func() (list []string) {
		paths, _ := filepath.Glob(filepath.Join(store, "pods", "[0-9f]*"))
		records, _ := filepath.Glob(filepath.Join(n.file("run"), "leases", "*"))
		for _, path := range append(paths, records...) {
			list = append(list, filepath.Base(path))
		}
		return list
	}
	probe := func() *exec.Cmd {
		return n.configured("net.conflist", append([]string{"probe", "-o", "json", "--bridge", "cnio0", "--yes", "--cni-bin", plugins}, both...)...)
	}
	cut := 0
	for i := range 20 {
		cmd, before := probe(), leased() // of one that was killed
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait() // killed
		}()
		if i%2 == 0 { // as soon as it has a lease, or at any moment
			awaitLease(func() bool { now := leased(); return len(now) > 0 && !slices.Equal(now, before) }, ended)
		} else {
			time.Sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond))))
		}
		if len(leased()) > 0 {
			cut++
		}
		_ = cmd.Process.Kill()
		<-ended
	}
	t.Logf("%d of 20 were killed with a lease", cut)
	if cut < 5 {
		t.Errorf("%d of 20 were killed with a lease: too few", cut)
	}
	out, err := probe().Output()
	var v probeView
	if jsonErr := json.Unmarshal(out, &v); jsonErr != nil || code(err) != 0 {
		t.Fatalf("exit %d, %v:\n%s", code(err), jsonErr, out)
	}
	if len(v.Address) != 2 || !strings.HasPrefix(v.Address[0], "10.244.0.1") || !strings.HasSuffix(v.Address[0], "/24") || !strings.HasPrefix(v.Address[1], "fd00:244::") {
		t.Errorf("addresses: %q", v.Address)
	}
	if got := leased(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	dns, err := n.configured("net.conflist", "probe", "dns", "--bridge", "cnio0", "--yes", "--server", "10.96.0.1", "--external=", "--cni-bin", plugins).CombinedOutput()
	if !strings.Contains(string(dns), "asked by a pod on cnio0 with the address 10.244.0.1") {
		t.Errorf("probe dns: exit %d\n%s", code(err), dns)
	}
	if got := leased(); len(got) > 0 {
		t.Errorf("left by probe dns: %q", got)
	}
}

// awaitLease waits for a lease, or for the end of who leases it.
func awaitLease(leased func() bool, ended <-chan struct{}) {
	for !leased() {
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// TestProbeBridgeItself: a pod calls its own Service at 0 and at 1, with its port
// in hairpin mode and without, in both families, by the rules of each kind.
func TestProbeBridgeItself(t *testing.T) {
	for _, proxy := range [][]string{{"-mode", "nftables"}, {"-backend", "legacy"}} {
		n := worker(t, "", proxy...)
		for _, at := range []struct{ key, without string }{{"0", "answered"}, {"1", "timeout"}} {
			n.set(at.key, at.key, at.key)
			v, _ := n.probe(append([]string{"--bridge", "cnio0", "--yes"}, both...)...)
			got := make(map[string]string)
			for _, c := range v.Cells {
				if c.Path == "hairpin" {
					got[c.Family+" "+c.Protocol+" "+c.Port] = c.Outcome
				}
			}
			want := make(map[string]string)
			for _, f := range []string{"IPv4 TCP ", "IPv4 UDP ", "IPv6 TCP ", "IPv6 UDP "} {
				want[f+"no hairpin mode"], want[f+"in hairpin mode"] = at.without, "answered"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, keys %s (-want +got):\n%s", proxy, at.key, diff)
			}
			if told := strings.Contains(v.Helps, `hairpin = "keep"`) && strings.Contains(v.Hairpin, "as long as its port is not in hairpin mode"); told != (at.key == "1") {
				t.Errorf("%s, keys %s: %s, %s", proxy, at.key, v.Hairpin, v.Helps)
			}
		}
		// Pods whose ports are all in it are no reason to ask without.
		n.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "hairpin", "on")
		v, _ := n.probe(append([]string{"--bridge", "cnio0", "--yes"}, both...)...)
		for _, c := range v.Cells {
			if c.Path == "hairpin" && (c.Port != "in hairpin mode" || c.Outcome != "answered") {
				t.Errorf("%s, all in hairpin mode: %+v", proxy, c)
			}
		}
		if v.Hairpin != "" {
			t.Errorf("%s, all in hairpin mode: %s", proxy, v.Hairpin)
		}
	}
}

// TestProbeBridgeOutcomes distinguishes a refusal from silence.
func TestProbeBridgeOutcomes(t *testing.T) {
	n := worker(t, "", "-mode", "nftables", "-family", "ipv4")
	n.set("1", "1", "1")
	n.Run(t, "nft", "add table ip t { chain f { type filter hook forward priority 0; ip daddr 10.244.1.44 drop; }; }")
	n.plug("veth1", "cnio0", "10.244.0.2/24", "fd00:244::2/120") // where nobody listens
	v, exit := n.probe("--bridge", "cnio0", "--yes", "--service", "10.96.0.2:80", "--service", "default/svc-299:http")
	var got []string
	for _, c := range v.Cells {
		if c.Path != "hairpin" {
			got = append(got, c.Path+" "+c.To+" "+c.Outcome)
		}
	}
	want := []string{"bridged pod IP refused", "bridged cluster IP refused", "routed cluster IP timeout", "routed pod IP timeout"}
	meaning := "IPv4 TCP bridged, cluster IP 10.96.0.2:80: refused, and the pod behind it, 10.244.0.2:8080, was not reached either: this says nothing about Services"
	if !slices.Equal(want, got) || exit != 2 || v.Verdict != "unknown" || v.Meaning != meaning {
		t.Errorf("exit %d, %s (-want +got):\n%s", exit, v.Meaning, cmp.Diff(want, got))
	}
}

// TestProbeBridgeMixed: a DNS Service with one of two endpoints on this node is asked until
// that one was chosen. Here the choice is not random: where kube-proxy's rules have
// "random", these have "inc".
func TestProbeBridgeMixed(t *testing.T) {
	n := worker(t, "", "-mode", "nftables", "-family", "ipv6")
	rules := n.Command("nft", "-f", "-")
	rules.Stdin = strings.NewReader(`table ip kube-proxy {
		map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
		chain endpoint-A { meta l4proto udp dnat to 10.244.0.1:53; }
		chain endpoint-B { meta l4proto udp dnat to 10.244.1.44:53; }
		chain service-AAAAAAAA-kube-system/kube-dns/udp/dns { numgen inc mod 2 vmap { 0 : goto endpoint-A, 1 : goto endpoint-B }; }
		chain services { type nat hook prerouting priority -100; ip daddr . meta l4proto . th dport vmap @service-ips; }
	}
	add element ip kube-proxy service-ips { 10.96.0.10 . udp . 53 : goto service-AAAAAAAA-kube-system/kube-dns/udp/dns }`)
	if out, err := rules.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		name, key       string
		cluster, remote string
		exit            int
	}{
		{"keys 0", "0", "wrong source 7", "answered 0", 1},
		{"keys 1", "1", "answered 7", "answered 0", 0},
		{"the endpoint elsewhere is dead", "1", "timeout 7", "timeout 0", 2},
	} {
		n.set(tt.key, tt.key, tt.key)
		if tt.exit == 2 {
			n.Run(t, "ip", "neigh", "replace", "10.244.1.44", "lladdr", "02:00:00:00:00:01", "dev", "wire") // an address that nobody has
		}
		v, exit := n.probe("--bridge", "cnio0", "--yes", "--service", "kube-system/kube-dns:dns")
		var got []string
		for _, c := range v.Cells {
			if c.Path == "hairpin" {
				continue
			}
			got = append(got, fmt.Sprint(c.Protocol, " ", c.Path, " ", c.To, " ", c.Outcome, " ", c.Times))
		}
		want := []string{"UDP bridged pod IP answered 0", "UDP bridged cluster IP " + tt.cluster, "UDP routed pod IP " + tt.remote}
		if !slices.Equal(want, got) || exit != tt.exit {
			t.Errorf("%s: exit %d, %s (-want +got):\n%s", tt.name, exit, v.Meaning, cmp.Diff(want, got))
		}
		if says := "the pod behind it, 10.244.1.44:53, was not reached either"; strings.Contains(v.Meaning, says) != (tt.exit == 2) {
			t.Errorf("%s: %s", tt.name, v.Meaning)
		}
	}
}

// TestProbeBridgeAsks a person at a terminal before it touches a real bridge.
func TestProbeBridgeAsks(t *testing.T) {
	n := worker(t, "", "-mode", "nftables", "-family", "ipv4")
	n.set("1", "1", "1")
	for answer, want := range map[string]struct {
		exit int
		said string
	}{
		"n": {2, "nfguard: error: nothing was done\n"},
		"":  {2, "nfguard: error: nothing was done\n"},
		"y": {0, ": a pod on cnio0 with the address 10.244.0."},
	} {
		master, terminal := openTerminal(t)
		cmd := n.nfguard("probe", "--bridge", "cnio0", "--service", "10.96.0.1:80")
		cmd.Stdin = terminal
		if _, err := master.WriteString(answer + "\n"); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		const question = "For some seconds this adds a port to cnio0, uses a free address of 10.244.0.0/24 and fd00:244::/120, " +
			"and connects to default/svc-0:http (10.96.0.1:80) and to itself. Go on? [y/N] "
		if code(err) != want.exit || !strings.HasPrefix(string(out), question) || !strings.Contains(string(out), want.said) {
			t.Errorf("answered %q: exit %d\n%s", answer, code(err), out)
		}
	}
}

func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// TestProbeTogether: several probes at once, with and without the same bridge, do not
// disturb each other.
func TestProbeTogether(t *testing.T) {
	n := worker(t, "", "-mode", "nftables", "-family", "ipv4")
	before := n.inventory()
	var all sync.WaitGroup
	for i := range 8 {
		args := []string{"probe"}
		if i%2 == 0 {
			args = append(args, "--bridge", "cnio0", "--yes", "--service", "10.96.0.1:80")
		}
		cmd := n.nfguard(args...)
		all.Go(func() {
			out, err := cmd.CombinedOutput()
			if code(err) != 1 || !strings.Contains(string(out), "\nbroken   a pod that calls") {
				t.Errorf("%v: exit %d\n%s", args, code(err), out)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(before, n.inventory()); diff != "" {
		t.Errorf("what is left (-before +after):\n%s", diff)
	}
}

// TestProbeBridgeInterrupted: it removes what it made, and says so.
func TestProbeBridgeInterrupted(t *testing.T) {
	n := worker(t, "", "-mode", "nftables")
	before := n.inventory()
	for _, after := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond} {
		// The endpoint of 10.96.0.2 does not exist, so this takes a second.
		cmd := n.nfguard("probe", "--bridge", "cnio0", "--yes", "--service", "10.96.0.2:80")
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		_ = cmd.Process.Signal(os.Interrupt)
		err := cmd.Wait()
		if code(err) != 2 || said.String() != "nfguard: error: interrupted: what was made is gone\n" {
			t.Errorf("after %v: %v\n%s", after, err, said.String())
		}
		if diff := cmp.Diff(before, n.inventory()); diff != "" {
			t.Errorf("after %v, what is left (-before +after):\n%s", after, diff)
		}
	}
}

// TestProbeBridgeKilled kills a hundred probes of a real bridge at random
// moments: neither a port nor an address nor a neighbour is left.
func TestProbeBridgeKilled(t *testing.T) {
	t.Parallel() // with another test that mostly waits
	c := newCage(t)
	c.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv4.ip_forward=1")
	for _, words := range []string{
		"ip link add cnio0 type bridge", "ip addr add 10.244.0.254/24 dev cnio0", "ip addr add fd00:244::fe/120 dev cnio0 nodad",
		"ip link add veth0 type veth peer name pod0", "ip link set veth0 master cnio0", "ip link set veth0 up", "ip link set pod0 arp off up",
		"ip link set cnio0 up",
	} {
		f := strings.Fields(words)
		c.run(f[0], f[1:]...)
	}
	load := c.command("nft", "-f", "-")
	load.Stdin = strings.NewReader(`table ip kube-proxy {
		map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
		chain endpoint-A { meta l4proto tcp dnat to 10.244.0.1:8080; }
		chain service-AAAAAAAA-default/web/tcp/http { goto endpoint-A; }
		chain services { type nat hook prerouting priority -100; ip daddr . meta l4proto . th dport vmap @service-ips; }
	}
	add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 : goto service-AAAAAAAA-default/web/tcp/http }`)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	for !strings.Contains(c.run("ip", "addr", "show", "dev", "cnio0"), "fe80:") { // it is up
		time.Sleep(10 * time.Millisecond)
	}
	// Nobody has 10.244.0.1, so a run that is not killed cannot tell, and exits 2.
	c.killed(1, 900*time.Millisecond, 2, "probe", "--config", "/nonexistent", "--bridge", "cnio0", "--yes")
}
