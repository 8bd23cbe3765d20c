package netns_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/kubeproxy/upstream"
	"github.com/nfguard/nfguard/test/lab"
)

// atZero has the sysctls kept at 0.
const atZero = `[sysctl]
"net.bridge.bridge-nf-call-iptables" = 0
"net.bridge.bridge-nf-call-ip6tables" = 0
"net.bridge.bridge-nf-call-arptables" = 0
`

// TestTenThousandOnes: beside kube-proxy's rules and a bridge of virtual machines under
// FORWARD DROP, those who write 1 to the sysctls do it ten thousand times. No frame of
// the machines meets a rule, each request to a Service is answered, and every writer is
// named.
func TestTenThousandOnes(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)
	tenThousandOnes(t, func(t *testing.T, n *node) { standin.Start(t, n.Namespace, program, "-backend", "nft") })
}

// TestUpstreamTenThousandOnes is the same with the real kube-proxy.
func TestUpstreamTenThousandOnes(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns, lab.Upstream)
	program := upstream.Build(t)
	tenThousandOnes(t, func(t *testing.T, n *node) {
		n.Run(t, "ip", "link", "set", "lo", "up")
		upstream.Start(t, n.Namespace, program, upstream.Options{Mode: "iptables", Services: upstream.Example(10)})
	})
}

func tenThousandOnes(t *testing.T, startProxy func(t *testing.T, n *node)) {
	for _, mode := range []string{"enforce", "lock"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel() // it mostly waits
			n := wired(t, fmt.Sprintf("mode = %q\nscope = \"bridges\"\nbridges.match = [\"cnio0\"]\n", mode)+unlimited+atZero)
			client := n.plug("veth31", "cnio0", "10.244.0.31/24", "fd00:244::31/120")
			from, to := n.taps()
			startProxy(t, n)
			for _, tables := range []string{"iptables-nft", "ip6tables-nft"} {
				n.Run(t, tables, "-P", "FORWARD", "DROP")
				n.Run(t, tables, "-A", "FORWARD", "-i", "cnio0", "-j", "ACCEPT") // as a CNI plugin has it
				n.Run(t, tables, "-A", "FORWARD", "-i", "virbr0", "-j", "DROP")  // which counts
			}
			n.set("1", "1", "1")
			n.start()
			n.awaitReady()
			n.needRewrite(mode == "enforce")
			n.becomes("0 0 0", atMost)
			n.flagged("cnio0", "1 1 1", atMost)

			done := make(chan struct{})
			var traffic sync.WaitGroup
			var frames, requests atomic.Int64
			goesOn := func(count *atomic.Int64) bool {
				select {
				case <-done:
					return count.Load() < 100
				default:
					return true
				}
			}
			traffic.Go(func() {
				for goesOn(&frames) {
					if !cross(from, to, atMost) {
						t.Errorf("after %d pairs a frame of the virtual machines is lost", frames.Load())
						return
					}
					frames.Add(1)
					time.Sleep(time.Millisecond) // the writers are to have the processors
				}
			})
			traffic.Go(func() {
				for goesOn(&requests) && requests.Load() < 2000 { // a listener that accepts nothing holds 4,096
					if err := connects(client); err != nil {
						t.Errorf("after %d requests: %v", requests.Load(), err)
						return
					}
					requests.Add(1)
					time.Sleep(10 * time.Millisecond)
				}
			})
			outcome := map[string]string{"enforce": "rewritten", "lock": "denied"}[mode]
			wrote := n.writeOnes(10_000, outcome)
			close(done)
			traffic.Wait()

			if got := n.met(); got != "0 0" {
				t.Errorf("frames of the virtual machines met %s rules", got)
			}
			if got := resets(t, client); got != 0 { // a pod answers so to what comes from another address than it asked
				t.Errorf("the client has refused %d answers", got)
			}
			if got := n.values() + ", " + n.flags("cnio0") + ", " + n.flags("virbr0"); got != "0 0 0, 1 1 1, 0 0 0" {
				t.Errorf("the sysctls, and the flags of cnio0 and virbr0: %s", got)
			}
			n.stop()
			// Of writes that are only counted, one can be counted for nobody, where two
			// processors count at once.
			named := n.writers(outcome)
			unnamed, missing := named["[]"], 0
			delete(named, "[]")
			for who, writes := range wrote {
				missing += writes - named[who]
				if named[who] == 0 || named[who] > writes {
					t.Errorf("%s has written %d times, the records stand for %d", who, writes, named[who])
				}
				delete(named, who)
			}
			if missing != unnamed || unnamed > 10 || len(named) > 0 {
				t.Errorf("%d writes are named for nobody, %d are missing of their writers; named are also %v", unnamed, missing, named)
			}
			t.Logf("%d pairs of frames, %d requests; written by %v, of that on record for nobody: %d", frames.Load(), requests.Load(), wrote, unnamed)

			// Both counters count: where neither the sysctl nor the flag is 1, and where the sysctl is.
			n.Run(t, "ip", "link", "set", "cnio0", "type", "bridge", "nf_call_iptables", "0", "nf_call_ip6tables", "0")
			for deadline := time.Now().Add(atMost); resets(t, client) == 0; {
				client.Do(func() {
					if c, err := net.DialTimeout("tcp", "10.96.0.1:80", 50*time.Millisecond); err == nil {
						c.Close()
					}
				})
				if time.Now().After(deadline) {
					t.Fatal("without the flags no answer is refused: the test proves nothing")
				}
			}
			n.set("1", "1", "1")
			cross(from, to, time.Millisecond)
			for deadline := time.Now().Add(atMost); n.met() == "0 0"; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("with the sysctls at 1 no frame of virbr0 meets a rule: the test proves nothing")
				}
			}
		})
	}
}

// connects asks a Service of either family whose endpoint is on this node.
func connects(client *lab.Namespace) (err error) {
	for _, to := range []string{"10.96.0.1:80", "[fd00:96::1]:80"} {
		client.Do(func() {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", to, atMost); err == nil {
				c.Close()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resets returns how many segments of a namespace's TCP had RST set. Connections that
// are closed by either side as usual have none.
func resets(t *testing.T, ns *lab.Namespace) int {
	t.Helper()
	var text []byte
	var err error
	ns.Do(func() { text, err = os.ReadFile("/proc/thread-self/net/snmp") })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			if name == "OutRsts" {
				n, err := strconv.Atoi(f[i])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatalf("no OutRsts in\n%s", text)
	return 0
}

// writeOnes has stand-ins of k3s, RKE2 and Docker write 1 to the sysctls, and returns how
// often each has, by name and PID. They write all at once, in bursts, and have to see that
// they succeed, or that they are refused. Each burst waits until the one before is on
// record: nfguard queues no more than 256 records for a journal that is slow.
func (n *node) writeOnes(writes int, outcome string) map[string]int {
	n.t.Helper()
	const program = `#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **a) {
	char go;
	while (read(0, &go, 1) == 1)
		for (int i = 0, left = atoi(a[1]); i < left; i++) {
			const char *one = i % 2 ? "1" : "1\n";
			int f = open(a[3 + i % (n - 3)], O_WRONLY);
			if ((write(f, one, strlen(one)) != strlen(one)) != atoi(a[2]) || close(f)) return 1;
		}
	return 0;
}
`
	const burst = 80 // of each
	refused := "0"
	if outcome == "denied" {
		refused = "1"
	}
	dir := n.t.TempDir()
	wrote := make(map[string]int)
	var running []*exec.Cmd
	var begin []io.WriteCloser
	for _, name := range []string{"k3s-server", "rke2", "dockerd"} {
		build := exec.Command(lab.Tool(n.t, lab.Netns, "gcc"), "-x", "c", "-O", "-static", "-o", dir+"/"+name, "-")
		build.Stdin = strings.NewReader(program)
		if out, err := build.CombinedOutput(); err != nil {
			n.t.Fatalf("build the writer: %v\n%s", err, out)
		}
		cmd := n.Command(dir+"/"+name, strconv.Itoa(burst), refused, keyFile("iptables"), keyFile("ip6tables"), keyFile("arptables"))
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			n.t.Fatal(err)
		}
		running, begin = append(running, cmd), append(begin, in)
	}
	for done := 0; done < writes; {
		for i, in := range begin {
			if _, err := in.Write([]byte{'\n'}); err != nil {
				n.t.Error(err)
			}
			done += burst
			wrote[fmt.Sprintf("%s[%d]", filepath.Base(running[i].Args[3]), running[i].Process.Pid)] += burst
		}
		for deadline := time.Now().Add(atMost); ; time.Sleep(10 * time.Millisecond) {
			sum := 0
			for _, writes := range n.writers(outcome) {
				sum += writes
			}
			if sum >= done {
				break
			}
			if time.Now().After(deadline) {
				n.t.Fatalf("of %d writes %d are on record", done, sum)
			}
		}
	}
	for i, cmd := range running {
		begin[i].Close()
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("%s: %v", cmd.Args, err)
		}
	}
	return wrote
}

// writers returns for how many writes with an outcome the records stand, by their
// writers' names and PIDs.
func (n *node) writers(outcome string) map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	named := make(map[string]int)
	for _, r := range n.records {
		if r["NFGUARD_OUTCOME"] == outcome {
			more, _ := strconv.Atoi(r["NFGUARD_SUPPRESSED"]) // "" where there are none
			named[fmt.Sprintf("%s[%s]", r["OBJECT_COMM"], r["OBJECT_PID"])] += 1 + more
		}
	}
	return named
}

// The value that the module comes with, in each namespace, is 1: it is set to 0 as soon as
// nfguard starts, after the flags of the bridges of pods.
func TestZeroOverTheDefault(t *testing.T) {
	for _, mode := range []string{"enforce", "lock", "observe"} {
		t.Run(mode, func(t *testing.T) {
			n := untouchedNode(t, fmt.Sprintf("mode = %q\nscope = \"bridges\"\nbridges.match = [\"cnio0\"]\n", mode)+atZero)
			if got := n.values(); got != "1 1 1" {
				t.Fatalf("the keys come with %s", got)
			}
			n.start()
			n.awaitReady()
			want := "0 0 0"
			if mode == "observe" {
				want = "1 1 1"
			}
			if got := n.values(); got != want {
				t.Errorf("at READY the keys are %s", got)
			}
			n.recorded("start", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "start" })
			n.mu.Lock()
			defer n.mu.Unlock()
			var said []string
			for _, r := range n.records {
				if r["NFGUARD_EVENT"] == "drift" || r["NFGUARD_EVENT"] == "bridge_flag" {
					said = append(said, r["MESSAGE"])
				}
			}
			first := "bridge cnio0 had iptables 0, ip6tables 0, arptables 0, set to 1, as found at start (matches cnio0)"
			then := "net.bridge.bridge-nf-call-iptables was 1, set back to 0, as found at start"
			if mode == "observe" {
				first, then = "net.bridge.bridge-nf-call-iptables is 1, wanted 0; left so in mode observe", ""
			}
			if len(said) < 4 || said[0] != first || then != "" && said[1] != then {
				t.Errorf("records: %q", said)
			}
		})
	}
}

// What check says of sysctls that are kept at 0, of flags, and of what is missing.
func TestCheckOfZero(t *testing.T) {
	n := newNode(t, "scope = \"bridges\"\nbridges.match = [\"cni9\"]\n"+atZero)
	n.plug("veth31", "cnio0", "10.244.0.31/24", "fd00:244::31/120")
	n.sh(ruled)
	out, _ := n.nfguard("check").CombinedOutput()
	for _, want := range []string{
		"ok       net.bridge.bridge-nf-call-iptables   0 ",
		"keys   flags  kept or left\n",
		"0 0 0  0 0 0  left: no pattern matches\n",
		"note     net.bridge.bridge-nf-call-iptables is kept at 0, no bridge has a flag of its own, and kube-proxy has rules (IPv4): " +
			"a pod on cnio0 that calls a Service with an endpoint on its own node gets the reply from the wrong address\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "left alone") {
		t.Errorf("check says that the keys are left alone:\n%s", out)
	}
}

// Where no Linux bridge carries pods, as with Cilium, nothing is needed: nfguard says so,
// has nothing to complain of, and asks for no module.
func TestNothingIsNeeded(t *testing.T) {
	n := untouchedNode(t, "scope = \"bridges\"\nbridges.flags = []\n")
	n.sh(ruled)
	out, err := n.nfguard("check").CombinedOutput()
	for _, want := range []string{"no Linux bridge carries pods here: the setting is not needed\n", "no flag of a bridge is kept, and nothing else asks for it"} {
		if !strings.Contains(string(out), want) || err != nil {
			t.Errorf("check: %v, and does not say %q:\n%s", err, want, out)
		}
	}
	n.start()
	n.awaitReady()
	n.set("0", "1", "0")
	n.recorded("start", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "start" })
	n.stop()
	if got := n.values(); got != "0 1 0" {
		t.Errorf("the keys are %s", got)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.records {
		if e := r["NFGUARD_EVENT"]; e != "start" && e != "stop" && e != "kube_proxy" {
			t.Errorf("recorded: %s: %s", e, r["MESSAGE"])
		}
	}
	for _, name := range []string{"modules.conf", "99-zz-nfguard.conf"} {
		if _, err := os.Stat(n.file(name)); err == nil {
			t.Errorf("%s was written, and there is nothing to be in it", name)
		}
	}
}
