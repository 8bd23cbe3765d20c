// Package upstream runs the real kube-proxy in the namespaces of tests. Instead of a
// cluster, a server of the test gives it Services, endpoints and nodes.
package upstream

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// Build builds kube-proxy and returns its path. The first time takes minutes.
func Build(t testing.TB) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(t.TempDir(), "kube-proxy")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Dir = filepath.Join(filepath.Dir(here), "program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build kube-proxy: %v\n%s", err, out)
	}
	return path
}

// Options say how kube-proxy works.
type Options struct {
	Mode     string // "iptables" or "nftables"
	Legacy   bool   // use iptables-legacy
	Services []Service
}

// Proxy is a running kube-proxy.
type Proxy struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed
}

// patience is the limit for kube-proxy to write its rules for the first time.
const patience = time.Minute

// Start starts the program at path in ns, whose loopback has to be up, and
// returns when all rules are written. It gets SIGKILL at the end of the test
// at the latest.
func Start(t testing.TB, ns *lab.Namespace, path string, o Options) *Proxy {
	t.Helper()
	var l net.Listener
	var err error
	ns.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		t.Fatal(err)
	}
	api := &http.Server{Handler: newCluster(o.Services), ReadHeaderTimeout: patience}
	go func() { _ = api.Serve(l) }() // it ends with the test
	t.Cleanup(func() { api.Close() })

	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kubeconfig := write("kubeconfig", fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": [{"name": "x", "cluster": {"server": "http://%s"}}],
		"users": [{"name": "x", "user": {}}],
		"contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}`, l.Addr()))
	config := write("config", fmt.Sprintf(`{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": %q, "hostnameOverride": %q, "detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cnio0"},
		"clientConnection": {"kubeconfig": %q, "contentType": "application/json", "acceptContentTypes": "application/json"},
		"conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}`,
		o.Mode, nodeName, kubeconfig))

	p := &Proxy{ns.Command(path, "--config", config), make(chan struct{})}
	p.cmd.Env = os.Environ()
	if o.Legacy {
		p.cmd.Env = append(p.cmd.Env, "PATH="+legacy(t)+":"+os.Getenv("PATH"))
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // a signal ends it
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("kube-proxy said: %s", text)
		}
	})
	p.await(t, ns, o)
	return p
}

// legacy returns a directory in which iptables and related programs are those of the
// legacy backend.
func legacy(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		program := lab.Tool(t, lab.Netns, strings.Replace(name, "tables", "tables-legacy", 1))
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// await waits until each Service is in the rules.
func (p *Proxy) await(t testing.TB, ns *lab.Namespace, o Options) {
	t.Helper()
	save := [][]string{{"iptables-save", "-t", "nat"}, {"ip6tables-save", "-t", "nat"}}
	switch {
	case o.Mode == "nftables":
		save = [][]string{{"nft", "list", "ruleset"}}
	case o.Legacy:
		save[0][0], save[1][0] = "iptables-legacy-save", "ip6tables-legacy-save"
	}
	var rules string
	lacks := func() netip.Addr {
		for _, s := range o.Services {
			for _, e := range s.Endpoints {
				if !strings.Contains(rules, e.Addr().String()) {
					return e.Addr()
				}
			}
		}
		return netip.Addr{}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		rules = ""
		for _, args := range save {
			rules += ns.Run(t, args[0], args[1:]...)
		}
		if lacks() == (netip.Addr{}) {
			return
		}
		select {
		case <-p.ended:
			t.Fatal("kube-proxy has ended")
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("kube-proxy has written no rule for %v within %v", lacks(), patience)
		}
	}
}

// PID is the process of kube-proxy.
func (p *Proxy) PID() int { return p.cmd.Process.Pid }

// Stop ends it by SIGTERM, and waits. Its rules stay.
func (p *Proxy) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
}
