package vm

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed image.sh
var recipe string

// base is in every image: what the recipe itself uses, and what tests need on a node.
// tuned is installed, but not started at boot.
var base = []string{
	"systemd-sysv", "udev", "kmod", "dbus", "qemu-guest-agent", "busybox-static", "lz4", "zstd",
	"iproute2", "iptables", "nftables", "conntrack", "procps", "netbase",
	"bind9-dnsutils", "curl", "socat",
	"tuned",
}

// image are three files that are never written to after the build.
type image struct {
	kernel string // an uncompressed vmlinux with a PVH entry
	initrd string // loads virtio and mounts the disk
	disk   string // qcow2, an ext4 file system without partitions; a backing file
}

// imageOf returns the image with a kernel as in [Options], the given packages and the
// base ones. If it is not in the cache, it is built first, which takes root, about a
// minute and 450 MB of disk. Builds on one machine wait for each other; an image appears
// completely or not at all. The build ends when ctx or this process ends, or when it has
// been silent for ten minutes. Its output is in build.log in the cache.
func imageOf(ctx context.Context, kernel string, packages []string) (image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return image{}, err
	}
	cache = filepath.Join(cache, "nfguard", "vm")
	if kernel != "" {
		kernel += "-"
	}
	packages = slices.Concat(base, packages, []string{"linux-image-" + kernel + "cloud-amd64"})
	slices.Sort(packages)
	packages = slices.Compact(packages)

	sum := sha256.Sum256([]byte(recipe + strings.Join(packages, " ")))
	dir := filepath.Join(cache, fmt.Sprintf("%x", sum[:8]))
	img := image{
		kernel: filepath.Join(dir, "vmlinux"),
		initrd: filepath.Join(dir, "initrd"),
		disk:   filepath.Join(dir, "disk.qcow2"),
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	if err := os.MkdirAll(filepath.Join(cache, "debs"), 0o755); err != nil {
		return image{}, err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return image{}, err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return img, nil // built while we waited
	}
	if err := build(ctx, cache, dir, packages, lock); err != nil {
		return image{}, fmt.Errorf("build the image: %w", err)
	}
	return img, nil
}

// build runs the recipe in a fresh directory next to dir and renames it to dir. The lock
// is held by us and by the build's processes, which can end a moment later if all are
// killed.
func build(ctx context.Context, cache, dir string, packages []string, lock *os.File) error {
	tmp := filepath.Join(cache, "building") // a fixed name, so that the next build removes what a killed one left
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	log, err := os.Create(filepath.Join(cache, "build.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := untilSilent(ctx, log.Name(), 10*time.Minute)
	defer cancel()
	args := append([]string{"-c", recipe, "image.sh", tmp, filepath.Join(cache, "debs")}, packages...)
	cmd := exec.CommandContext(ctx, "/bin/sh", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock}
	// The shell is PID 1 of its own namespace, so no process of the build outlives it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	p, err := startTied(cmd)
	if err != nil {
		return err
	}
	<-p.done // ctx kills it
	if err := p.err; err != nil {
		err = errors.Join(err, context.Cause(ctx))
		return fmt.Errorf("%w; the end of %s:\n%s", err, log.Name(), tail(log.Name(), 20))
	}
	return os.Rename(tmp, dir)
}

// lockFile waits for the exclusive lock on path. Closing the file releases it,
// and so does the end of this process.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
