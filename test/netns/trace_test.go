package netns_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// tracedNode is a node with two pods and kube-proxy's rules, in which the second
// pod is the endpoint of the first Service.
func tracedNode(t *testing.T, value string) (n *node, client *lab.Namespace) {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	n = newNode(t, "")
	n.set(value, value, value)
	n.Run(t, "ip", "addr", "add", "10.244.0.254/24", "dev", "cnio0")
	n.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	pods := map[string]*lab.Namespace{"31": lab.NewNamespace(t), "1": lab.NewNamespace(t)}
	for host, pod := range pods {
		n.Run(t, "ip", "link", "add", "veth"+host, "up", "master", "cnio0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
		pod.Run(t, "ip", "link", "set", "eth0", "up")
		pod.Run(t, "ip", "addr", "add", "10.244.0."+host+"/24", "dev", "eth0")
		pod.Run(t, "ip", "route", "add", "default", "via", "10.244.0.254")
		cmd := pod.Command("sleep", "60") // the process in the pod
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
	}
	pods["1"].Do(func() {
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, "hello")
				conn.Close()
			}
		}()
	})
	if t.Failed() {
		t.FailNow()
	}
	standin.Start(t, n.Namespace, standin.Build(t), "-family", "ipv4", "-services", "3")
	for _, from := range []*lab.Namespace{pods["31"], n.Namespace} {
		for deadline := time.Now().Add(atMost); connect(from, "10.244.0.1:8080") != nil; {
			if time.Now().After(deadline) {
				t.Fatal("the pod cannot be reached")
			}
		}
	}
	return n, pods["31"]
}

func connect(from *lab.Namespace, to string) (err error) {
	from.Do(func() {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", to, 300*time.Millisecond); err == nil {
			conn.Close()
		}
	})
	return err
}

// trace runs nfguard trace, makes a request as soon as it listens, and ends it by the
// signal or, if that is zero, by its own limit.
func (n *node) trace(client *lab.Namespace, end syscall.Signal, args ...string) (stdout string, code int) {
	n.t.Helper()
	cmd := n.nfguard(append([]string{"trace"}, args...)...)
	said, err := cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	first := make([]byte, 256)
	length, err := said.Read(first)
	if err != nil || !strings.Contains(string(first[:length]), "make the request now\n") {
		n.t.Errorf("it said %q, %v", first[:length], err)
	}
	_ = connect(client, "10.96.0.1:80")
	if end != 0 {
		if err := cmd.Process.Signal(end); err != nil {
			n.t.Error(err)
		}
	}
	if more, _ := io.ReadAll(said); len(more) > 0 {
		n.t.Errorf("it also said %q", more)
	}
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			n.t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return out.String(), code
}

// TestTrace: what a person sees with the key at 0 and at 1; an interrupt ends it, with
// what it has seen; and nothing is left behind.
func TestTrace(t *testing.T) {
	for _, tt := range []struct {
		value, verdict string
		code           int
	}{{"0", "untranslated", 1}, {"1", "answered", 0}} {
		t.Run("key "+tt.value, func(t *testing.T) {
			n, client := tracedNode(t, tt.value)
			before := n.Run(t, "nft", "--stateless", "list", "ruleset")
			for end, args := range map[syscall.Signal][]string{
				0: {"--for", "1s"}, syscall.SIGINT: {"--for", "1h"}, syscall.SIGTERM: {"--for", "1h", "--packets", "1000"},
			} {
				out, code := n.trace(client, end, append(args, "-o", "json", "10.244.0.31", "10.96.0.1:80/tcp")...)
				var way struct {
					Schema  int    `json:"schema"`
					Verdict string `json:"verdict"`
					Devices []struct {
						Name    string `json:"name"`
						Process string `json:"process"`
						Peer    string `json:"peer_address"`
					} `json:"devices"`
				}
				if err := json.Unmarshal([]byte(out), &way); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if way.Schema != 1 || way.Verdict != tt.verdict || code != tt.code {
					t.Errorf("schema %d, %s, exit code %d; want %s, %d", way.Schema, way.Verdict, code, tt.verdict, tt.code)
				}
				tenants := 0
				for _, d := range way.Devices {
					// The first thread of this program may be the one that made the namespace.
					pod := strings.HasPrefix(d.Process, "sleep[") || strings.HasPrefix(d.Process, fmt.Sprintf("%s[%d]", filepath.Base(os.Args[0]), os.Getpid()))
					if pod && strings.HasPrefix(d.Peer, "10.244.0.") {
						tenants++
					}
				}
				if tenants != 2 {
					t.Errorf("two pods are behind the devices, but it says %+v", way.Devices)
				}
				if after := n.Run(t, "nft", "--stateless", "list", "ruleset"); after != before {
					t.Errorf("the rules were changed:\n%s", after)
				}
			}
		})
	}
}
