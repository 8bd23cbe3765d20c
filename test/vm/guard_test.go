package vm_test

import (
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

// story is one step in a worker's life. It leaves the node right for the next one.
type story struct {
	name   string
	proves string // for the README
	both   bool   // also runs on the second kernel
	tell   func(*node, *testing.T)
}

// life are the stories that run in this order on one machine.
var life = []story{
	{"fresh install", "the module is loaded, the sysctls are 1, the drop-ins are there and the unit is active and enabled when `dpkg -i` returns; kube-proxy, which refused to start before, starts", true, (*node).freshInstall},
	{"started together with kube-proxy", "kube-proxy's start job waits for READY, and so for the first pass", true, (*node).beforeKubeProxy},
	{"a writer is corrected and named", "every field of the record, `journalctl OBJECT_PID=`, `-u` of the writer's unit, `-x`", true, (*node).foreignWrite},
	{"sysctl -w", "a writer that is gone at once is known by its pid all the same", true, (*node).sysctlWrite},
	{"a hostile sysctl.d file", "`sysctl --system` and `systemctl restart systemd-sysctl` are corrected and named, key by key", true, (*node).hostileFile},
	{"TuneD", "Debian's TuneD applies a profile and then, by reapply_sysctl, the hostile file: corrected, and TuneD named", false, (*node).tuned},
	{"a fight", "ten reversals within the window are a fight: one record when it begins, and one with their number when it ends", false, (*node).fight},
	{"kube-proxy starts", "a program of that name in whatever unit, its rules, and a known unit whose program has another name; `check` says what it means", true, (*node).kubeProxyStarts},
	{"mode lock", "echo, sysctl, `sysctl --system`, systemd-sysctl, a PID namespace with its own /proc and a static binary are refused and named; killed, the lock is gone", true, (*node).locked},
	{"what will undo it", "a later file and a kernel without the module are told when they appear, and when they go", false, (*node).undone},
	{"scope bridges", "with the sysctls at 0, the pods' bridge works by its own flags, and another bridge is left alone", true, (*node).singleBridges},
	{"the module is loaded late, without nfguard", "the udev rule has the drop-in read again", false, (*node).loadedLate},
	{"rmmod br_netfilter", "loaded again, the bridge and its ports untouched, the new sysctls watched", true, (*node).rmmod},
	{"modprobe -r br_netfilter", "loaded again, and the record names the bridges that the kernel took along", true, (*node).modprobeRemove},
	{"the failure, proven", "with the key at 0 `probe` gets the reply from the pod's own address, and `trace` shows the one that nobody translates; at 1 both see it right; `events` tells who did it", true, (*node).proven},
	{"a drop-in is changed, another removed", "both are written again as they were", false, (*node).changedDropins},
	{"the configuration is reloaded", "a key that is to be ignored is, a mistake changes nothing and is recorded", false, (*node).reload},
	{"journald is restarted", "the next record arrives", false, (*node).journaldRestart},
	{"D-Bus is away, and restarted", "sysctls and the module are put right without it", false, (*node).withoutDBus},
	{"the daemon is taken over", "from inside its sandbox each of some sixty attempts fails that succeeds outside: to start a unit, to reach D-Bus or any other socket, to write, to load a module or a BPF program, to trace, to mount; the helper does nothing but what root's configuration says", true, (*node).takenOver},
	{"killed", "started again by systemd; what happened meanwhile is found", false, (*node).killed},
	{"hung", "the watchdog starts it again", false, (*node).hung},
	{"slow start", "it is given more than TimeoutStartSec= while it gets on", false, (*node).slowStart},
	{"removed", "the daemon is stopped; the live values, the drop-ins and the configuration stay", false, (*node).removed},
	{"installed again", "as after the first installation, with the configuration from before", false, (*node).installedAgain},
	{"purged", "nothing of it is left on the disk; the live values stay", false, (*node).purged},
	{"upgraded", "from an older package: the edited configuration is kept, the running daemon is replaced, and both are on record", false, (*node).upgraded},
	{"the module is blacklisted", "the record and `nfguard check` name file and line; the service stays up, degraded; `check` exits 1", false, (*node).blacklisted},
	{"the module is not on the disk", "the same for a kernel without the module's file", false, (*node).hiddenModule},
	{"a power cut after a drift", "two seconds later the record is on the disk; at the boot with a hostile file kube-proxy still finds the node right", false, (*node).powerCut},
	{"loading modules is switched off", "said plainly, with the only cure", false, (*node).modulesDisabled},
	{"a reboot", "the drop-ins have it right before nfguard looks, and it writes to nothing", true, (*node).reboot},
	{"a boot without the service", "right by the drop-ins alone", false, (*node).bootWithoutService},
	{"the record as a whole", "each record has the promised fields, each field was seen, each kind is explained by `journalctl -x`", false, (*node).wholeRecord},
}

// TestGuard is the life of one worker, and the source of README.md's journal.
func TestGuard(t *testing.T) {
	t.Parallel()
	dist(t) // built now, so that the first story does not seem slow
	n := &node{Machine: vm.Boot(t, vm.Options{})}
	told := n.live(t, life)
	report(t, n, told)
}

// TestSecondKernel runs the stories that depend most on the kernel on a newer one.
func TestSecondKernel(t *testing.T) {
	t.Parallel()
	n := &node{Machine: vm.Boot(t, vm.Options{Kernel: secondKernel})}
	var stories []story
	for _, s := range life {
		if s.both {
			stories = append(stories, s)
		}
	}
	n.live(t, stories)
	t.Logf("told on Linux %s", n.Sh(t, "uname -r"))
}

// live runs stories, one after the other, and returns when each began, by the guest's
// clock. The first failure ends the test, because the next story needs the node as it
// should be.
func (n *node) live(t *testing.T, stories []story) []chapter {
	t.Helper()
	var told []chapter
	for _, s := range stories {
		told = append(told, chapter{s, n.mark(t)})
		if !t.Run(s.name, func(t *testing.T) { s.tell(n, t) }) {
			t.FailNow()
		}
	}
	return told
}

// chapter is a story that has run, and the mark at which it began.
type chapter struct {
	story
	mark string
}

// kubeProxy stands in for kube-proxy: it starts only if bridged packets pass through
// iptables. It knows nothing about nfguard.
const kubeProxy = `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -euc 'cd /proc/sys/net/bridge; ! grep -Hvx 1 bridge-nf-call-*tables'
[Install]
WantedBy=multi-user.target
`

func (n *node) freshInstall(t *testing.T) {
	n.makeBridge(t)
	n.makePods(t)
	n.Write(t, "/etc/systemd/system/kube-proxy.service", []byte(kubeProxy), 0o644)
	n.Sh(t, "systemctl daemon-reload; systemctl --quiet enable kube-proxy")
	if n.Run(t, "systemctl", "start", "kube-proxy").Code == 0 || n.serviceWorks(t, 3) {
		t.Fatal("this node is right without nfguard, so the stories would show nothing")
	}

	n.install(t) // returns when systemd was told READY

	n.Sh(t, `cd /proc/sys/net/bridge; ! grep -Hvx 1 bridge-nf-call-*tables`) // at once
	n.Sh(t, "systemctl is-active nfguard; systemctl is-enabled nfguard; systemctl start kube-proxy")
	n.Sh(t, "grep -x br_netfilter "+modulesLoad)
	n.Sh(t, "grep -x 'net.bridge.bridge-nf-call-iptables = 1' "+sysctlD)
	n.Sh(t, "nfguard check; nfguard status")
	n.connect(t)
	n.wantService(t)
}

// kube-proxy's start job waits for nfguard's if both are in one transaction, as at boot.
// ("systemctl start A B" makes two transactions.)
func (n *node) beforeKubeProxy(t *testing.T) {
	n.Write(t, "/run/systemd/system/worker.target", []byte("[Unit]\nWants=kube-proxy.service nfguard.service\n"), 0o644)
	n.Sh(t, "systemctl stop kube-proxy nfguard; rmmod br_netfilter; systemctl start worker.target")
	n.Sh(t, "systemctl is-active kube-proxy")
	n.wantService(t)
}
