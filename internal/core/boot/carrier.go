package boot

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A carrier is a kind of kernel, which its release tells, and the packages that
// can bring br_netfilter for it. Which distribution is installed tells less: a
// host runs kernels of other makers, too.
type carrier struct {
	release *regexp.Regexp
	pkgs    []string // with what the pattern has found; none where it is not known which
	of      string   // what the names leave out: "of version $1"
	image   string   // whose image has all modules, where there are no packages
}

// carriers are the kinds of kernels. The first whose pattern fits counts. A
// package is named only where it is known to exist:
//
// Debian has all modules in linux-image, and so have others who build for it.
// Ubuntu splits them and keeps net/bridge in linux-modules; not every flavour
// has a linux-modules-extra. Proxmox renamed its packages within 6.2. Red Hat's
// have it in kernel (7), in kernel-modules or in what that needs (8 and 9), and
// in kernel-modules-extra since 10, which minimal and cloud images lack. UEK,
// ELRepo and Amazon have several packages, and the release does not tell which.
var carriers = []carrier{
	{release: regexp.MustCompile(`-flatcar$`), image: "Flatcar"},
	{release: regexp.MustCompile(`-talos$`), image: "Talos"},
	{release: regexp.MustCompile(`-linuxkit$`), image: "LinuxKit"},
	{release: regexp.MustCompile(`-microsoft-standard(?:-WSL2)?\+?$`), image: "WSL"},

	{release: regexp.MustCompile(`^((?:[7-9]|\d\d|6\.(?:[5-9]|\d\d))\..*-pve)$`), pkgs: []string{"proxmox-kernel-$1"}},
	{release: regexp.MustCompile(`^((?:[45]|6\.[01])\..*-pve)$`), pkgs: []string{"pve-kernel-$1"}},

	{release: regexp.MustCompile(`^(.*-(?:amd64|arm64|arm64-16k|686|686-pae|armmp|armmp-lpae|powerpc64le|riscv64|s390x|rpi-v6|rpi-v7|rpi-v7l|rpi-v8|rpi-2712))$`), pkgs: []string{"linux-image-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-\d+-(?:generic|aws|azure|gcp|gke|oracle|raspi))$`), pkgs: []string{"linux-modules-$1", "linux-modules-extra-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-\d+-(?:kvm|lowlatency|ibm|generic-64k|lowlatency-64k))$`), pkgs: []string{"linux-modules-$1"}},

	{release: regexp.MustCompile(`^([\d.]+-[\d.]+\.fc\d+\.\w+)$`), pkgs: []string{"kernel-modules-$1", "kernel-modules-extra-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-[\d.]+\.el7(?:_\d+)?(?:\.\d+)*\.` + arch + `)$`), pkgs: []string{"kernel-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-[\d.]+\.el[89](?:_\d+)?(?:\.\d+)*\.` + arch + `)$`), pkgs: []string{"kernel-modules-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-[\d.]+\.el\d\d(?:_\d+)?(?:\.\d+)*\.` + arch + `)$`), pkgs: []string{"kernel-modules-extra-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-[\d.]+\.el9(?:_\d+)?(?:\.\d+)*\.` + arch + `)\+(rt|64k)$`), pkgs: []string{"kernel-${2}-modules-$1"}},
	{release: regexp.MustCompile(`^([\d.]+-[\d.]+\.el\d\d(?:_\d+)?(?:\.\d+)*\.` + arch + `)\+(rt|64k)$`), pkgs: []string{"kernel-${2}-modules-extra-$1"}},

	{release: regexp.MustCompile(`^([\d.]+-[\d.]+)-default$`), pkgs: []string{"kernel-default"}, of: " of version $1 (not kernel-default-base)"},
	{release: regexp.MustCompile(`^([\d.]+-[\d.]+)-(azure|rt|preempt|64kb)$`), pkgs: []string{"kernel-${2}"}, of: " of version $1"},
}

// arch ends the release of an rpm's kernel.
const arch = `(?:x86_64|x86_64_v2|aarch64|ppc64le|s390x)`

// carrier returns the package that brings the module for a kernel, "" where it
// is not known, and the next step to it. What is installed already is not asked
// for again: a package that lacks the module would still lack it.
func (f *forecast) carrier(release string) (pkg, next string) {
	if pkg := f.t.mapped(release, f.o.Module); pkg != "" {
		return pkg, fmt.Sprintf(nextInstall, pkg)
	}
	i := slices.IndexFunc(carriers, func(c carrier) bool { return c.release.MatchString(release) })
	var c carrier
	if i >= 0 {
		c = carriers[i]
	}
	if c.image != "" {
		return "", fmt.Sprintf(nextImage, c.image)
	}
	var missing []string
	for _, name := range c.pkgs {
		if name = c.release.ReplaceAllString(release, name); !f.t.installed(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		pkg = missing[0] + c.release.ReplaceAllString(release, c.of)
		if len(missing) > 1 {
			pkg += " (or " + missing[1] + ")"
		}
		return pkg, fmt.Sprintf(nextInstall, pkg)
	}
	if owner := f.t.owner(release); owner != "" {
		return owner, fmt.Sprintf(nextReinstall, f.within("chroot %s ", ""), owner)
	}
	next = nextOwner
	byRPM := (f.t.exists("/usr/lib/sysimage/rpm") || f.t.exists("/var/lib/rpm")) && !f.t.exists("/etc/debian_version")
	if byRPM && f.t.exists("/lib/modules/"+release) { // rpm says nothing of a file that is not there
		next += fmt.Sprintf(nextOwnerByRPM, f.within("--root %s ", ""), release)
	}
	return "", next
}

// owner returns the installed Debian package that has the modules of a kernel,
// or "".
func (t *tree) owner(release string) string {
	for _, kind := range []string{"linux-modules-", "linux-image-", "linux-image-unsigned-", "proxmox-kernel-", "pve-kernel-"} {
		for _, end := range []string{"-signed", ""} {
			if t.exists("/usr/share/doc/" + kind + release + end) {
				return kind + release + end
			}
		}
	}
	return ""
}

// installed reports whether a Debian package is installed. Each has its copyright
// in a directory of its own; the database is dpkg's alone.
func (t *tree) installed(pkg string) bool {
	return t.exists("/usr/share/doc/"+pkg) || t.exists("/usr/share/doc/"+pkg+"-signed")
}

// mapped returns the package of a module as the kernel's own list has it, which
// UEK 8 brings with each kernel ("kernel/net/bridge/br_netfilter.ko
// kernel-uek-modules-extra-netfilter"), or "".
func (t *tree) mapped(release, module string) string {
	text, ok := t.read("/lib/modules/"+release+"/modules.packages", maxIndex)
	if !ok {
		return ""
	}
	for line := range bytes.Lines(text) {
		words := strings.FieldsFunc(string(line), func(r rune) bool { return strings.ContainsRune(" \t\r\n:", r) })
		if len(words) < 2 {
			continue
		}
		name, rest, ko := strings.Cut(path.Base(words[0]), ".ko")
		if ko && ending(rest) && canonical(name) == canonical(module) {
			if pkg := words[1]; !strings.HasSuffix(pkg, release) {
				return pkg + "-" + release
			}
			return words[1]
		}
	}
	return ""
}
