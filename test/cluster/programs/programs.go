// Package programs builds the programs of a cluster: Kubernetes' own programs, etcd,
// containerd, the CNI plugins and CoreDNS, unmodified, in the versions that the modules
// below it name. They are kept in the user's cache, below nfguard/cluster, so that each
// version is built once.
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

var sets = []set{
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
}

// Dir is where the programs are, or will be when [Build] has been called.
func Dir() (string, error) {
	cache, err := os.UserCacheDir() // $XDG_CACHE_HOME or ~/.cache
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH, sets)
	for _, name := range []string{"kubernetes/go.mod", "kubernetes/go.sum", "node/go.mod", "node/go.sum", "node/coredns/main.go"} {
		text, err := os.ReadFile(filepath.Join(modules(), name))
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	return filepath.Join(cache, "nfguard", "cluster", hex.EncodeToString(sum.Sum(nil))[:16]), nil
}

// Have reports whether the programs are built.
func Have() bool {
	dir, err := Dir()
	if err != nil {
		return false
	}
	_, err = os.Stat(dir)
	return err == nil
}

// Build builds the programs unless they are already built, and writes to progress how far
// it is. It takes about twenty minutes of processor time.
func Build(progress io.Writer) error {
	dir, err := Dir()
	if err != nil || Have() {
		return err
	}
	kept := filepath.Dir(dir)
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(progress, "building Kubernetes, etcd, containerd, the CNI plugins and CoreDNS into %s, once: about 20 minutes of processor time\n", dir)
	made, err := os.MkdirTemp(kept, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made) // no effect after it was renamed
	for _, s := range sets {
		if err := s.build(made, progress); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(made, "server"), filepath.Join(made, "etcd")); err != nil {
		return err
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
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command("nice", append([]string{"-n", "10", "go"}, append(args, s.packages...)...)...)
		cmd.Dir = filepath.Join(modules(), s.module)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = progress
		return cmd
	}
	list, err := command("list", "-deps").Output()
	if err != nil {
		return fmt.Errorf("list what %s is made of: %w", s.module, err)
	}
	all := strings.Count(string(list), "\n")

	cmd := command("build", "-v", "-ldflags", "-s -w", "-o", dir+"/")
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
