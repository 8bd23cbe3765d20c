// Package lab gives tests real parts: throw-away network namespaces and programs of the
// host. No skip goes unnoticed: a test that needs a layer calls [Need]. If the layer is
// missing, the test is skipped or, if NFGUARD_TEST_REQUIRE names the layer, it fails.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/cluster/programs"
)

// Layer is a part of the machine that a test can need.
type Layer string

// The layers.
const (
	Root  Layer = "root"  // an effective uid of 0 in the initial user namespace
	Netns Layer = "netns" // network namespaces can be created, and br_netfilter is loaded
	VM    Layer = "vm"    // qemu and the image of test/vm
	FUSE  Layer = "fuse"  // a file system that hangs can be mounted

	// Kubernetes' own kube-proxy. Building it takes minutes, so it is only used on
	// request.
	Upstream Layer = "upstream"

	// A build of nfguard that measures coverage, only on request.
	Path Layer = "path"

	// The programs of other releases of Debian that read sysctl.d and such. Fetching
	// them takes the archive, so only on request.
	Readers Layer = "readers"

	// The programs of a Kubernetes cluster, built and in the cache.
	Cluster Layer = "cluster"

	// Kubernetes' own end-to-end tests, built and in the cache.
	Conformance Layer = "conformance"
)

// Need skips the test unless the machine has all layers, or fails it if
// NFGUARD_TEST_REQUIRE (names separated by commas) requires them. With -short, which
// `make quick` uses, it always skips.
func Need(t testing.TB, layers ...Layer) {
	t.Helper()
	if testing.Short() && len(layers) > 0 {
		t.Skipf("layer %s: not with -short", layers[0])
	}
	for _, l := range layers {
		if err := have(l); err != nil {
			absent(t, l, err)
		}
	}
}

// Tool returns the path of a program. If it is missing, layer counts as missing.
func Tool(t testing.TB, layer Layer, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin/", "/sbin/", "/lib/systemd/"} {
			if path, err = exec.LookPath(dir + name); err == nil {
				return path
			}
		}
		absent(t, layer, fmt.Errorf("%s is not installed: run make deps", name))
	}
	return path
}

func absent(t testing.TB, l Layer, err error) {
	t.Helper()
	if required(l) {
		t.Fatalf("NFGUARD_TEST_REQUIRE asks for the layer %s: %v", l, err)
	}
	t.Skipf("layer %s: %v", l, err)
}

func required(l Layer) bool {
	return slices.Contains(strings.Split(os.Getenv("NFGUARD_TEST_REQUIRE"), ","), string(l))
}

func have(l Layer) error {
	switch l {
	case Root:
		if uid := os.Geteuid(); uid != 0 {
			return fmt.Errorf("uid is %d, not 0", uid)
		}
		return nil
	case FUSE:
		_, err := os.Stat("/dev/fuse")
		return err
	case Netns:
		if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
			return fmt.Errorf("br_netfilter is not there: %w", err)
		}
		errc := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its namespace
			errc <- unix.Unshare(unix.CLONE_NEWNET)
		}()
		return <-errc
	case VM:
		_, err := exec.LookPath("qemu-system-x86_64")
		return err
	case Upstream:
		if !required(l) {
			return errors.New("it is built by make proxytest")
		}
		return nil
	case Readers:
		if !required(l) {
			return errors.New("they are fetched by make readers")
		}
		return nil
	case Path:
		if !required(l) {
			return errors.New("it is measured by make path")
		}
		return nil
	case Cluster:
		if !programs.Cluster.Have() {
			return errors.New("its programs are not built: make cluster builds them, once")
		}
		return nil
	case Conformance:
		if !programs.Conformance.Have() {
			return errors.New("the programs are not built: make conformance builds them, once")
		}
		return nil
	}
	return fmt.Errorf("no such layer")
}
