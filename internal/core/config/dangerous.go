package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// dangerous says what a value of a key does that takes a confirmation, or "".
//
// Not here are kernel.sysrq, whose keys are pressed at the console or written
// by root, and what makes a host stricter, with one exception: nothing but a
// reboot takes back kernel.modules_disabled, and br_netfilter could not be
// loaded again.
func dangerous(k guard.Key, value string) string {
	name := string(k)
	for _, program := range []string{"kernel.core_pattern", "kernel.modprobe", "kernel.hotplug", "kernel.poweroff_cmd"} {
		if name == program {
			return "the kernel runs it as a program, as root"
		}
	}
	for _, family := range []string{"fs.binfmt_misc.", "kernel.usermodehelper."} {
		if strings.HasPrefix(name, family) {
			return "it decides which programs are run, and with what rights"
		}
	}
	if name == "kernel.modules_disabled" {
		return "nothing but a reboot takes it back, and no module can be loaded until then"
	}
	// What a user of the host is kept from, and from which number on. One that
	// cannot be read is none that keeps anybody from anything.
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

// unconfirmed says which guarded keys take a confirmation and have none.
func (l *loader) unconfirmed(at func(key, msg, hint string)) {
	for _, s := range l.config.Sysctl {
		if s.Ignore || slices.Contains(l.config.Confirm.Sysctl, string(s.Key)) {
			continue
		}
		if why := dangerous(s.Key, s.Value); why != "" {
			at(sysctlField(s.Key), why, fmt.Sprintf("if that is meant, name it under [confirm] as well: sysctl = [%q]", s.Key))
		}
	}
}

// confirmedSysctl is the rule of a key that is named for confirmation.
func confirmedSysctl(s string) *Problem {
	key, p := sysctlKey(s)
	if p == nil && string(key) != s {
		p = wrong(fmt.Sprintf("%q is another spelling", s), fmt.Sprintf("write %q", key))
	}
	return p
}
