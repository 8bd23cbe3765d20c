// Package programs builds the programs of a cluster: Kubernetes' own programs, etcd,
// containerd, the CNI plugins and CoreDNS, and Kubernetes' end-to-end tests; all of them
// unmodified, in the versions that the modules below it name. They are kept in the user's
// cache, below nfguard, so that each version is built once.
package programs

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// modules is the directory of this file and of the modules.
func modules() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Dir(here)
}

// A set are programs that one go build builds.
type set struct {
	module   string
	packages []string
}

// Programs are built together, and kept in a directory of the cache that is named after
// what determines their versions.
type Programs struct {
	name    string   // the directory above that
	what    string   // for people
	minutes int      // of a processor; for Conformance, after Cluster and with Go's cache
	files   []string // what determines the versions, beside Go's own
	sets    []set
	test    string            // a package of the last set whose test program is built, too
	rename  map[string]string // programs whose packages have another name
}

// Cluster are the programs of a cluster: those of Kubernetes and of its nodes.
var Cluster = &Programs{
	name: "cluster", what: "Kubernetes, etcd, containerd, the CNI plugins and CoreDNS", minutes: 20,
	files: []string{"kubernetes/go.mod", "kubernetes/go.sum", "node/go.mod", "node/go.sum", "node/coredns/main.go"},
	sets: []set{
		{"kubernetes", []string{
			"go.etcd.io/etcd/server/v3",
			"k8s.io/kubernetes/cmd/kube-apiserver",
			"k8s.io/kubernetes/cmd/kube-controller-manager",
			"k8s.io/kubernetes/cmd/kube-proxy",
			"k8s.io/kubernetes/cmd/kube-scheduler",
			"k8s.io/kubernetes/cmd/kubelet",
		}},
		{"node", []string{
			"github.com/containerd/containerd/v2/cmd/containerd",
			"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			"github.com/containerd/containerd/v2/cmd/ctr",
			"github.com/containernetworking/plugins/plugins/ipam/host-local",
			"github.com/containernetworking/plugins/plugins/main/bridge",
			"github.com/containernetworking/plugins/plugins/main/loopback",
			"./coredns",
		}},
	},
	rename: map[string]string{"server": "etcd"},
}

// Conformance are Kubernetes' own end-to-end tests, among which the conformance tests are,
// and what they use: kubectl, and the program of their pods.
var Conformance = &Programs{
	name: "conformance", what: "Kubernetes' end-to-end tests, agnhost and kubectl", minutes: 3,
	files: []string{"conformance/go.mod", "conformance/go.sum"},
	sets: []set{
		{"conformance", []string{
			"k8s.io/kubernetes/cmd/kubectl",
			"k8s.io/kubernetes/test/images/agnhost",
		}},
	},
	test: "k8s.io/kubernetes/test/e2e",
}

// Dir is where the programs are, or will be when [Programs.Build] has been called.
func (p *Programs) Dir() (string, error) {
	cache, err := os.UserCacheDir() // $XDG_CACHE_HOME or ~/.cache
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH, p.sets)
	for _, name := range p.files {
		text, err := os.ReadFile(filepath.Join(modules(), name))
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	return filepath.Join(cache, "nfguard", p.name, hex.EncodeToString(sum.Sum(nil))[:16]), nil
}

// Have reports whether the programs are built.
func (p *Programs) Have() bool {
	dir, err := p.Dir()
	if err != nil {
		return false
	}
	_, err = os.Stat(dir)
	return err == nil
}

// String names the programs.
func (p *Programs) String() string { return p.what }

// Cost says what it takes to build the programs.
func (p *Programs) Cost() string {
	return fmt.Sprintf("about %d minutes of processor time", p.minutes)
}

// Build builds the programs unless they are already built, and writes to progress how far
// it is. See [Programs.Cost].
func (p *Programs) Build(progress io.Writer) error {
	dir, err := p.Dir()
	if err != nil || p.Have() {
		return err
	}
	kept := filepath.Dir(dir)
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(progress, "building %s into %s, once: %s\n", p, dir, p.Cost())
	made, err := os.MkdirTemp(kept, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made) // no effect after it was renamed
	for _, s := range p.sets {
		if err := s.build(made, progress); err != nil {
			return err
		}
	}
	if p.test != "" {
		last := p.sets[len(p.sets)-1]
		if err := last.buildTest(p.test, made, progress); err != nil {
			return err
		}
	}
	for from, to := range p.rename {
		if err := os.Rename(filepath.Join(made, from), filepath.Join(made, to)); err != nil {
			return err
		}
	}
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(kept, "*"))
	if err != nil {
		return err
	}
	if err := os.Rename(made, dir); err != nil {
		return err
	}
	for _, path := range old { // of other versions
		if path != made {
			os.RemoveAll(path)
		}
	}
	return nil
}

func (s *set) build(dir string, progress io.Writer) error {
	return s.compile(progress, s.packages, "-ldflags", "-s -w", "-o", dir+"/")
}

// buildTest builds the test program of a package. go test -c does not tell how far it is,
// so what the program imports is compiled first.
func (s *set) buildTest(pkg, dir string, progress io.Writer) error {
	list, err := s.command(progress, "list", "-f", `{{join .TestImports "\n"}}{{"\n"}}{{join .XTestImports "\n"}}`, pkg).Output()
	if err != nil {
		return fmt.Errorf("list what the tests of %s import: %w", pkg, err)
	}
	if err := s.compile(progress, strings.Fields(string(list))); err != nil {
		return err
	}
	out := filepath.Join(dir, filepath.Base(pkg)+".test")
	// go vet would take as long as the compiler, for code that is not ours.
	if err := s.command(progress, "test", "-c", "-vet=off", "-ldflags", "-s -w", "-o", out, pkg).Run(); err != nil {
		return fmt.Errorf("build the tests of %s: %w", pkg, err)
	}
	return nil
}

// command returns the go command in the module.
func (s *set) command(progress io.Writer, args ...string) *exec.Cmd {
	cmd := exec.Command("nice", append([]string{"-n", "10", "go"}, args...)...)
	cmd.Dir = filepath.Join(modules(), s.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = progress
	return cmd
}

// compile runs go build with those flags, and tells how far it is.
func (s *set) compile(progress io.Writer, packages []string, flags ...string) error {
	list, err := s.command(progress, append([]string{"list", "-deps"}, packages...)...).Output()
	if err != nil {
		return fmt.Errorf("list what %s is made of: %w", s.module, err)
	}
	all := strings.Count(string(list), "\n")

	cmd := s.command(progress, slices.Concat([]string{"build", "-v"}, flags, packages)...)
	cmd.Stderr = nil
	names, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	started, told, n := time.Now(), time.Now(), 0
	var last []string
	for sc := bufio.NewScanner(names); sc.Scan(); n++ {
		last = append(last, sc.Text())
		last = last[max(0, len(last)-20):]
		if time.Since(told) > 15*time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "%s: %d of at most %d packages after %v\n", s.module, n, all, time.Since(started).Round(time.Second))
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", s.module, err, strings.Join(last, "\n"))
	}
	fmt.Fprintf(progress, "%s: built %d packages in %v\n", s.module, n, time.Since(started).Round(time.Second))
	return nil
}
