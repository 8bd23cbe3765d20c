package boot

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/files"
)

// labels reports drop-ins of ours that systemd may not read at the next boot, because
// they have another SELinux label than the policy has for their paths: the programs
// that read at boot have domains of their own. Seen of Debian 13: of a file that was
// made with the label etc_runtime_t, systemd-sysctl reads nothing, and fails as a whole.
//
// Mode and owner are not looked at: these programs run as root with all rights.
func (f *forecast) labels() {
	if f.t.files == nil || f.off("selinux") || f.off("enforcing") {
		return
	}
	var policy files.Policy
	for i, name := range []string{f.o.SysctlD, f.o.ModulesLoad} {
		if name == "" {
			continue
		}
		f.t.said(name)
		have := f.t.files.LabelOf(name)
		if have == "" {
			continue // not there, or of a host that labels it later
		}
		if !policy.On {
			f.t.said("/etc/selinux/config")
			if policy = f.t.files.SELinux(); !policy.Enforces {
				return
			}
		}
		want := policy.Label(name)
		if want == "" || files.SameLabel(want, have) {
			continue
		}
		reader := []string{"systemd-sysctl", "systemd-modules-load"}[i]
		f.found(Finding{
			Subject: name, Place: Place{File: name}, Breaks: true,
			Sentence: fmt.Sprintf("%s may not be allowed to read %s at next boot: its SELinux label is %s, and the policy's for it is %s", reader, name, have, want),
			Next:     fmt.Sprintf(nextRelabel, f.within("chroot %s ", ""), files.Quote(name)),
		})
	}
}

// off reports whether the kernel's command line switches something off.
func (f *forecast) off(name string) bool {
	w, ok := f.param(name)
	return ok && w.value == "0"
}
