package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A crowded host: more drop-ins than any distribution ships, and more kernels than any
// keeps.
const (
	manyDropins = 500
	manyKernels = 5
	perKernel   = 6000 // lines of modules.dep: some 500 kB, as for a distribution's kernel
)

// checked is how long nfguard check takes on such a host, from its start to
// its end.
type checked struct {
	took []time.Duration // in order
	err  error
}

func (b *bench) checks(ctx context.Context) (c checked) {
	progress("check: %d times on %d drop-ins and %d kernels", b.looks, manyDropins, manyKernels)
	root, err := os.MkdirTemp("", "nfguard-bench-")
	if err != nil {
		return checked{err: err}
	}
	defer os.RemoveAll(root)
	if err := plant(root); err != nil {
		return checked{err: err}
	}
	for range b.looks {
		began := time.Now()
		out, err := exec.CommandContext(ctx, b.nfguard, "check", "--root", root).CombinedOutput()
		c.took = append(c.took, time.Since(began))
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // it is not as wanted, of course
			c.err = fmt.Errorf("check: %w\n%s", err, out)
			return c
		}
	}
	slices.Sort(c.took)
	return c
}

// plant creates the tree of the host.
func plant(root string) error {
	var errs []error
	write := func(path, text string) {
		path = filepath.Join(root, path)
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	dirs := []string{"etc", "run", "usr/lib"}
	for i := range manyDropins {
		write(fmt.Sprintf("%s/sysctl.d/%03d.conf", dirs[i%len(dirs)], i),
			"# a comment\nvm.swappiness = 10\nnet.ipv4.conf.*.rp_filter = 1\n-kernel.sysrq = 0\nnet.bridge.bridge-nf-call-iptables = 1\n")
	}
	for i := range 50 {
		write(fmt.Sprintf("etc/modprobe.d/%02d.conf", i), "options a b=1\nblacklist pcspkr\ninstall dccp /bin/false\n")
	}
	for i := range manyKernels {
		release := fmt.Sprintf("6.1.0-%d-amd64", i)
		var dep strings.Builder
		for m := range perKernel {
			fmt.Fprintf(&dep, "kernel/drivers/net/ethernet/vendor/family/module_%d.ko: kernel/drivers/net/phy/phylink.ko\n", m)
		}
		dep.WriteString("kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko\nkernel/net/bridge/bridge.ko:\n")
		dir := "lib/modules/" + release + "/"
		write(dir+"modules.dep", dep.String())
		write(dir+"modules.builtin", "kernel/fs/ext4/ext4.ko\n")
		write(dir+"kernel/net/bridge/br_netfilter.ko", "")
		write(dir+"kernel/net/bridge/bridge.ko", "")
		write("boot/vmlinuz-"+release, "")
	}
	return errors.Join(errs...)
}
