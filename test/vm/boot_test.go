package vm_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

// The record of a drift survives a power cut two seconds later. At the next boot a
// hostile file sets the keys before nfguard starts, and still kube-proxy finds the node
// right.
func (n *node) powerCut(t *testing.T) {
	n.makeHostile(t)
	n.Sh(t, "sync")
	mark := n.mark(t)
	n.Sh(t, "sysctl -q "+iptables+"=0; sleep 2")
	n.PowerCut(t)
	n.record(t, mark, "_BOOT_ID="+n.bootBefore(t), "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_SUBJECT": iptables})
	for _, r := range n.records(t, mark, 3, "_BOOT_ID="+n.boot(t), "NFGUARD_EVENT=drift") {
		r.want(t, map[string]string{"NFGUARD_SOURCE": "start|sysctl", "NFGUARD_OUTCOME": kept}) // the write was seen, or the value was found
	}
	n.wantRight(t)
	n.Sh(t, "systemctl is-active nfguard kube-proxy")
	n.Sh(t, "rm "+hostile)
	n.makeNetwork(t)
	n.wantService(t)
}

func (n *node) reboot(t *testing.T) {
	mark := n.mark(t)
	n.Reboot(t)
	n.Sh(t, "systemctl is-active nfguard kube-proxy")
	boot := "_BOOT_ID=" + n.boot(t)
	n.record(t, mark, boot, "NFGUARD_EVENT=start")
	if before := n.Journal(t, boot, "NFGUARD_OUTCOME=corrected"); len(before) > 0 {
		t.Errorf("nfguard had to correct %v", before)
	}
	n.Sh(t, "nfguard check")
	n.makeNetwork(t)
	n.wantService(t)
}

// makeNetwork is what the network plugin and kube-proxy do on each boot.
func (n *node) makeNetwork(t *testing.T) {
	t.Helper()
	n.makeBridge(t)
	n.makePods(t)
	n.connect(t)
}

func (n *node) boot(t *testing.T) string {
	t.Helper()
	return strings.ReplaceAll(n.Sh(t, bootID), "-", "")
}

// bootBefore is the id of the boot before this one.
func (n *node) bootBefore(t *testing.T) string {
	t.Helper()
	return n.Sh(t, "journalctl --quiet --boot=-1 --lines=1 --output=json | grep -o '\"_BOOT_ID\":\"[0-9a-f]*' | grep -o '[0-9a-f]*$'")
}

func (n *node) bootWithoutService(t *testing.T) {
	n.Sh(t, "systemctl --quiet disable nfguard")
	n.Reboot(t)
	if got := n.Run(t, "systemctl", "is-active", "nfguard").Stdout; got != "inactive\n" {
		t.Fatalf("nfguard, disabled, is %s", got)
	}
	n.Sh(t, "nfguard check; systemctl is-active kube-proxy")
	n.makeNetwork(t)
	n.wantService(t)
}

// TestRestrictedKernel: kernels that are restricted by their boot options.
func TestRestrictedKernel(t *testing.T) {
	t.Parallel()
	n := &node{Machine: vm.Boot(t, vm.Options{Append: "ipv6.disable=1 lockdown=confidentiality"})}
	t.Run("probe", func(t *testing.T) { probes(t, n.Machine, false) })
	n.Sh(t, "modprobe br_netfilter; sysctl -q "+iptables+"=0 "+ip6tables+"=0 "+arptables+"=0")
	n.install(t)
	t.Run("without IPv6", n.withoutIPv6)
	t.Run("locked down", n.lockedDown)
}

// If IPv6 is switched off at boot, br_netfilter drops bridged IPv6 frames while ip6tables
// is 1. So this sysctl is left as it is, and nfguard says so.
func (n *node) withoutIPv6(t *testing.T) {
	n.Sh(t, "cd /proc/sys/net/bridge; grep -x 1 bridge-nf-call-iptables; grep -x 1 bridge-nf-call-arptables; grep -x 0 bridge-nf-call-ip6tables")
	n.Sh(t, "! grep ip6tables "+sysctlD)

	mark := n.mark(t)
	n.Sh(t, "sysctl -q "+ip6tables+"=1; sysctl -q "+ip6tables+"=0; sysctl -q "+iptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_SUBJECT": iptables})
	if got := n.Sh(t, "sysctl -n "+ip6tables); got != "0" {
		t.Errorf("%s is %s", ip6tables, got)
	}
	n.Sh(t, "nfguard status")
	check := n.Sh(t, "nfguard check") // exits 0: that is as it should be
	if !strings.Contains(check, "left     "+ip6tables+"  0, wanted 1  next boot: as the kernel has it\n         IPv6 is switched off in this kernel") {
		t.Errorf("nfguard check:\n%s", check)
	}
}

// If BPF cannot read the kernel's memory, no write can be refused. The writer is known all
// the same, and mode "lock" says what it does instead.
func (n *node) lockedDown(t *testing.T) {
	n.Sh(t, `grep -F '[confidentiality]' /sys/kernel/security/lockdown`)
	mark := n.mark(t)
	n.Sh(t, "unshare --pid --fork --mount-proc sh -c 'echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables'")
	n.records(t, mark, 1, "NFGUARD_EVENT=drift")[0].want(t, map[string]string{
		"NFGUARD_OUTCOME": "corrected", "NFGUARD_SUBJECT": iptables, "NFGUARD_SOURCE": "sysctl", "OBJECT_COMM": "sh",
	})
	const instead = `mode = "lock" is not in force: foreign values are put right and not kept out: `
	mark = n.mark(t)
	n.configure(t, "mode = 'lock'\n")
	n.record(t, mark, "PRIORITY=3").want(t, map[string]string{"MESSAGE": regexp.QuoteMeta(instead) + ".* locked down .*"})
	n.Sh(t, "sysctl -q -w "+iptables+"=0") // is not refused
	n.Until(t, "sysctl -n "+iptables+" | grep -x 1")
	for _, command := range []string{"status", "check"} {
		if got := n.Sh(t, "nfguard "+command); !strings.Contains(got, instead) {
			t.Errorf("nfguard %s:\n%s", command, got)
		}
	}
}
