// Package standin builds the stand-in for kube-proxy and runs it in the
// namespaces of tests.
package standin

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// patience is the limit for one sync of a stand-in: iptables-nft takes some 12 s for
// 10,000 Services of one family.
const patience = time.Minute

// Build builds the stand-in with the name kube-proxy and returns its path.
func Build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kube-proxy")
	cmd := exec.Command("go", "build", "-o", path, "github.com/nfguard/nfguard/test/kubeproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the stand-in: %v\n%s", err, out)
	}
	return path
}

// Proxy is a running stand-in.
type Proxy struct {
	cmd   *exec.Cmd
	lines chan string
}

// Start starts the stand-in in ns, and returns when it has synced once. It
// gets SIGKILL at the end of the test at the latest.
func Start(t testing.TB, ns *lab.Namespace, path string, args ...string) *Proxy {
	t.Helper()
	p := &Proxy{cmd: ns.Command(path, args...), lines: make(chan string, 1000)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	p.cmd.Stderr = &said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		for range p.lines {
		}
		_ = p.cmd.Wait() // killed
		if t.Failed() {
			t.Logf("kube-proxy %s said: %s", strings.Join(args, " "), said.String())
		}
	})
	p.AwaitSync(t)
	return p
}

func (p *Proxy) read(out io.Reader) {
	defer close(p.lines)
	for s := bufio.NewScanner(out); s.Scan(); {
		p.lines <- s.Text()
	}
}

// PID is the process of the stand-in.
func (p *Proxy) PID() int { return p.cmd.Process.Pid }

// AwaitSync waits until it has written everything once more.
func (p *Proxy) AwaitSync(t testing.TB) {
	t.Helper()
	select {
	case _, ok := <-p.lines:
		if !ok {
			t.Fatal("the stand-in has ended")
		}
	case <-time.After(patience):
		t.Fatalf("no sync within %v", patience)
	}
}

// Stop ends it by SIGTERM, and waits. Its rules stay.
func (p *Proxy) Stop(t testing.TB) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	for range p.lines {
	}
}
