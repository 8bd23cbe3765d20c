package packaging

import (
	"testing"

	"github.com/nfguard/nfguard/test/attack/sandbox"
	"github.com/nfguard/nfguard/test/lab"
)

// TestH3SandboxHolds acts like a daemon that was taken over. Each attempt has to fail
// inside the unit's sandbox, and to succeed outside it.
func TestH3SandboxHolds(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	tree := debian(t)
	run(t, "cp", current(t).deb, tree+"/current.deb")
	run(t, "cp", sandbox.Build(t, root), tree+"/intruder")
	b := boot(t, tree)
	b.sh("dpkg -i /current.deb && systemctl stop nfguard")
	before := b.sh("cat /etc/modules-load.d/nfguard.conf /etc/sysctl.d/99-zz-nfguard.conf; ls -A /etc/cron.d /etc/sysctl.d /etc/modules-load.d")
	b.sh("systemd-run --quiet /intruder listen")
	b.until("somebody listens", func() bool { return b.command("test -e /run/intruder.ready").Run() == nil })

	write(t, tree+"/etc/systemd/system/nfguard.service.d/intruder.conf", sandbox.Dropin)
	b.sh("systemctl daemon-reload && systemctl start nfguard")
	sandbox.Judge(t, b.sh("cat "+sandbox.Output), b.sh("/intruder"), inNoContainer...)
	if after := b.sh("cat /etc/modules-load.d/nfguard.conf /etc/sysctl.d/99-zz-nfguard.conf; ls -A /etc/cron.d /etc/sysctl.d /etc/modules-load.d"); after != before {
		t.Errorf("the files before:\n%s\nafter:\n%s", before, after)
	}
}

// inNoContainer are attempts that nobody can make here, because of this machine's kernel,
// which has no modules, or of systemd-nspawn. TestGuard makes them in a virtual machine.
var inNoContainer = []string{
	"connect to D-Bus",
	"open /proc/sys/kernel/core_pattern to write", "open /proc/sys/kernel/modprobe to write",
	"open /proc/sys/vm/overcommit_memory to write", "open /proc/sys/fs/protected_symlinks to write",
	"open /proc/sysrq-trigger to write", "open /sys/power/state to write",
	"open /dev/kmsg to write", "open /dev/mem to write", "read /proc/kcore", "read /dev/kmsg",
	"load a module", "load a module from memory", "run modprobe",
}
