package vm_test

import (
	"testing"

	"github.com/nfguard/nfguard/test/attack/sandbox"
)

// takenOver acts as a daemon that was taken over: see test/attack/intruder.
func (n *node) takenOver(t *testing.T) {
	const netAdmin = "0000000000001000"
	if got := n.Sh(t, "sed -n 's/^CapBnd:\t//p' /proc/"+n.mainPID(t)+"/status"); got != netAdmin {
		t.Errorf("the daemon has the capabilities %s, want %s", got, netAdmin)
	}
	n.Sh(t, `nfguard status | grep -F "by nfguard-helper"; nfguard status | grep -F "BPF cgroup/sysctl"`)

	const dropin = "/run/systemd/system/nfguard.service.d/intruder.conf"
	const files = "cat " + modulesLoad + " " + sysctlD + "; ls -A /etc/cron.d /etc/sysctl.d /etc/modules-load.d"
	before := n.Sh(t, files)
	n.Push(t, sandbox.Build(t, root), "/intruder", 0o755)
	n.Sh(t, "systemctl stop nfguard; systemd-run --quiet --unit=listener /intruder listen")
	n.Until(t, "test -e /run/intruder.ready")
	n.Write(t, dropin, []byte(sandbox.Dropin), 0o644)
	n.Sh(t, "systemctl daemon-reload; systemctl start nfguard")
	sandbox.Judge(t, n.Sh(t, "cat "+sandbox.Output), n.Sh(t, "/intruder"))
	if after := n.Sh(t, files); after != before {
		t.Errorf("the files before:\n%s\nafter:\n%s", before, after)
	}

	n.Sh(t, "rm -r /run/systemd/system/nfguard.service.d; systemctl daemon-reload; systemctl stop listener; rmmod isofs || true; rm /intruder "+sandbox.Output+" /run/intruder.*")
	n.Sh(t, "systemctl start nfguard")
	n.wantRight(t)
}
