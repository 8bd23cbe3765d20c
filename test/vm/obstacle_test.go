package vm_test

import (
	"regexp"
	"testing"
)

func (n *node) blacklisted(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, "echo blacklist br_netfilter >/etc/modprobe.d/hardening.conf; rmmod br_netfilter")
	n.record(t, mark, "NFGUARD_EVENT=module").want(t, map[string]string{
		"MESSAGE":         "br_netfilter is not loaded, wanted loaded: /etc/modprobe.d/hardening.conf:1 forbids it: blacklist br_netfilter",
		"PRIORITY":        "3", // err
		"NFGUARD_OUTCOME": "failed",
		"NFGUARD_NEXT":    "remove that line, or set override_blacklist = true under .*",
	})
	n.wantDegraded(t, "/etc/modprobe.d/hardening.conf:1 forbids it: blacklist br_netfilter", "remove that line")
	n.Sh(t, "rm /etc/modprobe.d/hardening.conf; systemctl reload nfguard")
	n.wantRight(t)
	n.wantService(t)
}

func (n *node) hiddenModule(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, `
		file=$(modinfo -n br_netfilter)
		ln -s "$file" /root/hidden
		mv "$file" "$file".hidden
		depmod
		rmmod br_netfilter`)
	n.record(t, mark, "NFGUARD_EVENT=module").want(t, map[string]string{
		"MESSAGE":         "br_netfilter is not loaded, wanted loaded: it is not in /lib/modules/.*",
		"NFGUARD_OUTCOME": "failed",
		"NFGUARD_NEXT":    "install linux-image-6.*",
	})
	n.wantDegraded(t, "it is not in /lib/modules/", "install linux-image-")
	n.Sh(t, `
		file=$(readlink /root/hidden)
		mv "$file".hidden "$file"
		depmod
		systemctl reload nfguard`)
	n.wantRight(t)
	n.wantService(t)
}

// The switch also forbids unloading, so the module has to go before.
func (n *node) modulesDisabled(t *testing.T) {
	n.Sh(t, "systemctl stop nfguard; rmmod br_netfilter; sysctl -q kernel.modules_disabled=1")
	mark := n.mark(t)
	n.Sh(t, "systemctl start nfguard") // it is of use all the same: the drop-ins, and the record
	n.record(t, mark, "NFGUARD_EVENT=module").want(t, map[string]string{
		"MESSAGE":         `br_netfilter is not loaded, wanted loaded: loading modules is switched off until the next boot \(kernel\.modules_disabled = 1\)`,
		"NFGUARD_OUTCOME": "failed",
		"NFGUARD_NEXT":    "reboot: .*",
	})
	n.wantDegraded(t, "loading modules is switched off until the next boot", "reboot:")
}

// wantDegraded checks that the service runs, that nfguard status says that it cannot do
// its job, and that nfguard check says why and what to do.
func (n *node) wantDegraded(t *testing.T, texts ...string) {
	t.Helper()
	n.Sh(t, "systemctl is-active nfguard")
	n.Until(t, "nfguard status | grep ^degraded")
	if got := n.Run(t, "nfguard", "status").Code; got != 1 {
		t.Errorf("nfguard status: exit status %d, want 1", got)
	}
	check := n.Run(t, "nfguard", "check")
	if check.Code != 1 {
		t.Errorf("nfguard check: exit status %d, want 1", check.Code)
	}
	for _, text := range texts {
		if !regexp.MustCompile(`(?m)^ +` + regexp.QuoteMeta(text)).MatchString(check.Stdout) {
			t.Errorf("nfguard check does not say %q:\n%s", text, check.Stdout)
		}
	}
}
