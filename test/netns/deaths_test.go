package netns_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// death is a way in which a connection fails, and what nfguard trace says of it.
type death struct {
	name, made string            // how it is made, for the page
	do         func(w *deathLab) // makes it
	server     string            // whom the client asks; "": 10.244.1.1:8080/tcp
	ask        func(w *deathLab) // makes the request; nil: --send does

	verdict, kind, meaning string

	// What is found out where the kernel has no BPF, and settings and counters have
	// to tell.
	settings string
}

// deathLab is a node with a client's pod and a pod on the same bridge, and one that
// is routed to, as one behind another device or on another node is.
type deathLab struct {
	*node
	client, near, far *lab.Namespace
}

const (
	clientAddress = "10.244.0.31"
	nearAddress   = "10.244.0.1"
	farAddress    = "10.244.1.1"
)

func newDeathLab(t *testing.T) *deathLab {
	t.Helper()
	w := &deathLab{node: newNode(t, ""), client: lab.NewNamespace(t), near: lab.NewNamespace(t), far: lab.NewNamespace(t)}
	w.set("1", "1", "1")
	w.ip("link set lo up", "addr add 10.244.0.254/24 dev cnio0",
		"link add veth31 up master cnio0 type veth peer name eth0 netns "+w.client.Path(),
		"link add veth1 up master cnio0 type veth peer name eth0 netns "+w.near.Path(),
		"link add far up type veth peer name eth0 netns "+w.far.Path(), "addr add 10.244.1.254/24 dev far")
	for pod, address := range map[*lab.Namespace]string{w.client: clientAddress, w.near: nearAddress, w.far: farAddress} {
		w.in(pod, "link set lo up", "link set eth0 up", "addr add "+address+"/24 dev eth0",
			"route add default via "+address[:strings.LastIndexByte(address, '.')]+".254")
		pod.Inhabit(t)
	}
	w.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	echo(t, w.near)
	echo(t, w.far)
	for _, to := range []string{nearAddress, farAddress} {
		for deadline := time.Now().Add(atMost); connect(w.client, to+":8080") != nil; {
			if time.Now().After(deadline) {
				t.Fatalf("%s cannot be reached", to)
			}
		}
	}
	return w
}

// ip gives commands to ip(8) on the node, and in gives them in a pod.
func (w *deathLab) ip(commands ...string) { w.t.Helper(); w.in(w.Namespace, commands...) }

func (w *deathLab) in(ns *lab.Namespace, commands ...string) {
	w.t.Helper()
	cmd := ns.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("ip %q: %v\n%s", commands, err, out)
	}
}

// nft gives rules to nft(8).
func (w *deathLab) nft(ns *lab.Namespace, rules string) {
	w.t.Helper()
	cmd := ns.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// service has the node translate 10.96.0.1:80 to an endpoint.
func (w *deathLab) service(endpoint string) {
	w.t.Helper()
	w.nft(w.Namespace, `table ip service {
	chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 80 dnat to `+endpoint+`; }
	chain post { type nat hook postrouting priority srcnat; ip saddr 10.244.0.31 ip daddr 10.244.0.31 masquerade; }
}
`)
}

// fatal ends the test of a lab from within Namespace.Do.
func (w *deathLab) within(ns *lab.Namespace, do func() error) {
	w.t.Helper()
	var err error
	ns.Do(func() { err = do() })
	if err != nil {
		w.t.Fatal(err)
	}
}

// datagram sends so many bytes that are not to be fragmented.
func datagram(size int) func(w *deathLab) {
	return func(w *deathLab) {
		w.within(w.client, func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE); err != nil {
				return err
			}
			return unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{10, 244, 1, 1}})
		})
	}
}

// followed is what a trace has found.
type followed struct {
	Verdict string `json:"verdict"`
	Meaning string `json:"meaning"`
	Next    string `json:"next"`
	Cause   struct {
		Kind     string   `json:"kind"`
		Evidence []string `json:"evidence"`
	} `json:"cause"`
	code int
	text string
}

// trace follows the request of a death.
func (w *deathLab) trace(d *death, args ...string) (f followed) {
	w.t.Helper()
	server := d.server
	if server == "" {
		server = farAddress + ":8080/tcp"
	}
	if d.ask == nil {
		args = append(args, "--send", "--for", "6s")
	} else {
		args = append(args, "--for", "2s")
	}
	cmd := w.nfguard(append(append([]string{"trace", "-o", "json"}, args...), clientAddress, server)...)
	if w.withoutBPF {
		self, err := os.Executable()
		if err != nil {
			w.t.Fatal(err)
		}
		env := append(cmd.Env, roleEnv+"="+roleWithoutBPF)
		cmd = w.Command(self, append([]string{binary}, cmd.Args[4:]...)...)
		cmd.Env = env
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	first := make([]byte, 512)
	n, err := said.Read(first)
	if err != nil || !strings.HasPrefix(string(first[:n]), "following ") {
		w.t.Errorf("it said %q, %v", first[:n], err)
	}
	if d.ask != nil {
		d.ask(w)
	}
	more, _ := io.ReadAll(said)
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			w.t.Fatal(err)
		}
		f.code = exit.ExitCode()
	}
	lab.Schema(w.t, "trace", out.Bytes())
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		w.t.Fatalf("%v\n%s%s", err, out.Bytes(), more)
	}
	f.text = out.String()
	return f
}

// process is the first process in a pod, whose number is another one in each run.
// It is sleep, or this program, one of whose threads made the namespace.
var process = regexp.MustCompile(`[a-z.]+\[\d+\]`)

func anonymous(s string) string { return process.ReplaceAllString(s, "sleep[PID]") }

// TestDeaths makes connections that fail, and nfguard trace names why: with the
// kernel's reasons for drops, and without them.
func TestDeaths(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	seen, settings := make([]followed, len(deaths)), make([]followed, len(deaths))
	next := make(chan int)
	var group sync.WaitGroup
	for range 8 { // they mostly wait, so more at a time than there are processors
		group.Go(func() {
			for i := range next {
				d := &deaths[i]
				t.Run(d.name, func(t *testing.T) { seen[i], settings[i] = d.try(t) })
			}
		})
	}
	for i := range deaths {
		next <- i
	}
	close(next)
	group.Wait()
	documentDeaths(t, seen, settings)
}

// try makes the connection and has it followed, with the kernel's reasons for
// drops and without.
func (d *death) try(t *testing.T) (f, without followed) {
	w := newDeathLab(t)
	if d.do != nil {
		d.do(w)
	}
	before := w.Run(t, "nft", "--stateless", "list", "ruleset")
	f = w.trace(d)
	code := 1
	if d.verdict == "answered" {
		code = 0
	}
	got := fmt.Sprintf("%s, %s, exit code %d: %s", f.Verdict, f.Cause.Kind, f.code, anonymous(f.Meaning))
	want := fmt.Sprintf("%s, %s, exit code %d: %s", d.verdict, d.kind, code, d.meaning)
	if got != want {
		t.Errorf("got  %s\nwant %s\n%s", got, want, strings.Join(f.Cause.Evidence, "\n"))
	}
	if d.kind != "" && len(f.Cause.Evidence) == 0 {
		t.Error("it does not say from what it concluded")
	}

	w.withoutBPF = true
	without = w.trace(d)
	got, want = fmt.Sprintf("%s, exit code %d", without.Cause.Kind, without.code), fmt.Sprintf("%s, exit code %d", d.settings, code)
	if got != want || !strings.Contains(without.text, "the kernel's reasons for drops are missing") {
		t.Errorf("without BPF: got %s, want %s: %s\n%s", got, want, without.Meaning, strings.Join(without.Cause.Evidence, "\n"))
	}
	if after := w.Run(t, "nft", "--stateless", "list", "ruleset"); after != before {
		t.Errorf("the rules were changed:\n%s", after)
	}
	return f, without
}
