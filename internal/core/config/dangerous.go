package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// dangerous says why a value of a key takes a confirmation; "" if it does not.
//
// kernel.sysrq takes none: its keys are pressed at the console or written by root.
// Nor do values that make a host stricter, except for kernel.modules_disabled: only a
// reboot undoes it, and br_netfilter could not be loaded again until then.
func dangerous(k guard.Key, value string) string {
	name := string(k)
	for _, program := range []string{"kernel.core_pattern", "kernel.modprobe", "kernel.hotplug", "kernel.poweroff_cmd"} {
		if name == program {
			return "the kernel runs it as a program, as root"
		}
	}
	for _, family := range []string{"fs.binfmt_misc.", "kernel.usermodehelper."} {
		if strings.HasPrefix(name, family) {
			return "it decides which programs are run and with what rights"
		}
	}
	if name == "kernel.modules_disabled" {
		return "only a reboot undoes it, and no module can be loaded until then"
	}
	// Protections against users of the host, which some numbers switch on. A value
	// that is no number does not.
	safe, ok := protections[name]
	if !ok {
		return ""
	}
	if n, err := strconv.ParseInt(value, 0, 64); err != nil || n < safe.least || n > safe.most {
		return "it switches off a protection against the users of the host"
	}
	return ""
}

// protections are the values with which a protection of the kernel is on.
var protections = map[string]struct{ least, most int64 }{
	"dev.tty.ldisc_autoload":                       {0, 0},
	"fs.protected_fifos":                           {1, 2},
	"fs.protected_hardlinks":                       {1, 1},
	"fs.protected_regular":                         {1, 2},
	"fs.protected_symlinks":                        {1, 1},
	"fs.suid_dumpable":                             {0, 0},
	"kernel.apparmor_restrict_unprivileged_userns": {1, 1},
	"kernel.dmesg_restrict":                        {1, 1},
	"kernel.kexec_load_disabled":                   {1, 1},
	"kernel.kptr_restrict":                         {1, 2},
	"kernel.perf_event_paranoid":                   {1, 4},
	"kernel.randomize_va_space":                    {1, 2},
	"kernel.unprivileged_bpf_disabled":             {1, 2},
	"kernel.yama.ptrace_scope":                     {1, 3},
	"net.core.bpf_jit_harden":                      {1, 2},
	"vm.mmap_min_addr":                             {4096, 1 << 62},
	"vm.unprivileged_userfaultfd":                  {0, 0},
}

// unconfirmed reports the guarded keys that take a confirmation and have none.
func (l *loader) unconfirmed(at func(key, msg, hint string)) {
	for _, s := range l.config.Sysctl {
		if s.Ignore || slices.Contains(l.config.Confirm.Sysctl, string(s.Key)) {
			continue
		}
		if why := dangerous(s.Key, s.Value); why != "" {
			at(sysctlField(s.Key), why, fmt.Sprintf("if you mean it, list the key under [confirm] too: sysctl = [%q]", s.Key))
		}
	}
}

// confirmedSysctl is the rule for a key under [confirm].
func confirmedSysctl(s string) *Problem {
	key, p := sysctlKey(s)
	if p == nil && string(key) != s {
		p = wrong(fmt.Sprintf("%q is another spelling", s), fmt.Sprintf("write %q", key))
	}
	return p
}
