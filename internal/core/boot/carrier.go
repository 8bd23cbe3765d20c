package boot

import (
	"slices"
	"strings"
)

// carrier names the package that brings br_netfilter for a kernel, by
// os-release(5); in words where the distribution is not known.
//
// Debian has all modules in linux-image. Ubuntu splits them, and keeps
// net/bridge in linux-modules; a few flavours have it in -extra. Red Hat's
// have it in kernel-modules up to 9 (Fedora as well), and moved it to
// kernel-modules-extra with 10, where minimal and cloud images lack it.
func (t *tree) carrier(release string) string {
	text, ok := t.read("/etc/os-release", maxFile)
	if !ok {
		text, _ = t.read("/usr/lib/os-release", maxFile)
	}
	ids := append([]string{shellValue(text, "ID")}, strings.Fields(shellValue(text, "ID_LIKE"))...)
	major, _, _ := strings.Cut(shellValue(text, "VERSION_ID"), ".")
	is := func(id string) bool { return slices.Contains(ids, id) }
	switch {
	case is("ubuntu"):
		return "linux-modules-" + release + " (some flavours: linux-modules-extra-" + release + ")"
	case is("debian"):
		return "linux-image-" + release
	case ids[0] == "fedora":
		return "kernel-modules-" + release + " (or kernel-modules-extra-" + release + ")"
	case ids[0] == "amzn":
		return "the kernel package of " + release + " (or kernel-modules-extra)"
	case is("rhel"), is("centos"), is("fedora"):
		if major >= "10" && len(major) > 1 {
			return "kernel-modules-extra-" + release
		}
		return "kernel-modules-" + release
	case is("suse"), is("opensuse"):
		return "kernel-default of " + release + " (kernel-default-base is not enough)"
	}
	return "the package with the modules of kernel " + release
}
