package vm_test

import (
	"strings"
	"testing"
)

func (n *node) changedDropins(t *testing.T) {
	before := n.Sh(t, "cat "+modulesLoad+" "+sysctlD)
	mark := n.mark(t)
	n.Sh(t, "sed -i s/1$/0/ "+sysctlD+"; rm "+modulesLoad)
	for path, was := range map[string]string{sysctlD: "changed", modulesLoad: "absent"} {
		n.record(t, mark, "NFGUARD_EVENT=dropin", "NFGUARD_SUBJECT="+path).want(t, map[string]string{
			"MESSAGE": path + " was " + was + ", written again", "NFGUARD_OUTCOME": "corrected",
		})
	}
	if after := n.Sh(t, "cat "+modulesLoad+" "+sysctlD); after != before {
		t.Errorf("written again:\n%s\nbefore:\n%s", after, before)
	}
}

func (n *node) reload(t *testing.T) {
	mark := n.mark(t)
	n.Write(t, "/etc/nfguard/conf.d/50-arp.toml", []byte("[sysctl]\n'"+arptables+"' = 'ignore'\n"), 0o644)
	n.Sh(t, "systemctl reload nfguard")
	n.record(t, mark, "NFGUARD_EVENT=config", "MESSAGE=the configuration was reloaded")
	leftAlone := func() {
		t.Helper()
		mark := n.mark(t)
		n.Sh(t, "sysctl -q "+arptables+"=0 "+ip6tables+"=0")
		n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_SUBJECT": ip6tables})
		if got := n.Sh(t, "sysctl -n "+arptables); got != "0" {
			t.Errorf("%s, which nfguard is told to ignore, is %s again", arptables, got)
		}
	}
	leftAlone()

	mark = n.mark(t) // nfguard can notice the file before the reload, and record it twice
	n.Write(t, "/etc/nfguard/conf.d/60-typo.toml", []byte("mode = 'enfroce'\n"), 0o644)
	n.Sh(t, "systemctl reload nfguard")
	n.records(t, mark, 1, "NFGUARD_EVENT=config", "NFGUARD_OUTCOME=failed")[0].want(t, map[string]string{
		"MESSAGE": `the configuration was not reloaded, the old one stays in force: .*/60-typo\.toml:1: mode: .*enfroce.*`,
	})
	leftAlone()
	n.Sh(t, "systemctl is-active nfguard; ! nfguard status") // degraded

	n.unconfigure(t)
}

func (n *node) journaldRestart(t *testing.T) {
	n.Sh(t, "systemctl restart systemd-journald")
	mark := n.mark(t)
	n.Sh(t, "sysctl -q "+arptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_OUTCOME": kept})
	n.wantRight(t)
}

// A key and the module are put right even while D-Bus does not run.
func (n *node) withoutDBus(t *testing.T) {
	n.Sh(t, "systemctl stop dbus.socket dbus.service")
	mark := n.mark(t)
	n.Sh(t, "sysctl -q "+arptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_OUTCOME": kept})
	n.Sh(t, "rmmod br_netfilter")
	n.record(t, mark, "NFGUARD_EVENT=module").want(t, map[string]string{"NFGUARD_OUTCOME": "corrected"})
	n.wantRight(t)

	for _, verb := range []string{"start", "restart"} {
		n.Sh(t, "systemctl "+verb+" dbus.socket dbus.service")
		mark := n.mark(t)
		n.Sh(t, "sysctl -q "+arptables+"=0")
		n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_OUTCOME": kept})
	}
	n.wantService(t)
}

// What happens while nfguard does not run is found at its next start.
func (n *node) killed(t *testing.T) {
	before := n.mainPID(t)
	mark := n.mark(t)
	n.Sh(t, "systemctl kill --signal=KILL nfguard; sysctl -q "+iptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=start")
	n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{
		"MESSAGE": iptables + " was 0, set back to 1, as found at start(; [0-9]+ connections? .* had no reply)?", "NFGUARD_SOURCE": "start",
	})
	n.wantRight(t)
	n.wantService(t)
	if n.mainPID(t) == before {
		t.Error("the killed nfguard still runs")
	}
}

func (n *node) hung(t *testing.T) {
	const dropin = "/run/systemd/system/nfguard.service.d/watchdog.conf"
	n.Write(t, dropin, []byte("[Service]\nWatchdogSec=3s\n"), 0o644)
	n.Sh(t, "systemctl daemon-reload; systemctl restart nfguard")
	mark := n.mark(t)
	n.Sh(t, "systemctl kill --signal=STOP nfguard; sysctl -q "+iptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=start")
	n.wantRight(t)
	if got := n.Sh(t, "journalctl --quiet UNIT=nfguard.service --since="+mark); !strings.Contains(got, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", got)
	}
	n.Sh(t, "rm "+dropin+"; systemctl daemon-reload; systemctl restart nfguard")
}

// systemd does not end a start whose modprobe takes longer than TimeoutStartSec=, and
// status says meanwhile what it is waiting for.
func (n *node) slowStart(t *testing.T) {
	const dropin, slow = "/run/systemd/system/nfguard.service.d/timeout.conf", "/etc/modprobe.d/slow.conf"
	n.Write(t, dropin, []byte("[Service]\nTimeoutStartSec=3s\n"), 0o644)
	n.Write(t, slow, []byte("install br_netfilter sleep 7; /sbin/modprobe --ignore-install br_netfilter\n"), 0o644)
	n.Sh(t, "systemctl stop nfguard; rmmod br_netfilter; systemctl daemon-reload")
	mark := n.mark(t)
	n.Sh(t, "systemctl start --no-block nfguard")
	n.Until(t, "systemctl status nfguard | grep 'Status: \"starting: .*: running modprobe br_netfilter'")
	if got := n.Run(t, "setpriv", "--reuid=65534", "--clear-groups", "nfguard", "status").Code; got != 1 {
		t.Errorf("while it starts, nfguard status as nobody: exit status %d, want 1", got)
	}
	n.record(t, mark, "NFGUARD_EVENT=start")
	n.wantRight(t)
	if got := n.Sh(t, "journalctl --quiet UNIT=nfguard.service --since="+mark); strings.Contains(got, "timed out") {
		t.Errorf("the start was ended:\n%s", got)
	}
	n.Sh(t, "stat -c %a /run/nfguard/lock | grep -x 600")
	n.Sh(t, "rm "+dropin+" "+slow+"; systemctl daemon-reload; systemctl restart nfguard")
}

func (n *node) mainPID(t *testing.T) string {
	t.Helper()
	return n.Sh(t, "systemctl show --value --property=MainPID nfguard")
}
