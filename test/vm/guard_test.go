package vm_test

import (
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

// TestGuard is the life of one worker. The stories are told in this order on
// one machine, and each leaves the node right for the next.
func TestGuard(t *testing.T) {
	n := &node{vm.Boot(t, vm.Options{})}
	for _, story := range []struct {
		name string
		tell func(*node, *testing.T)
	}{
		{"fresh install", (*node).freshInstall},
		{"started together with kube-proxy", (*node).beforeKubeProxy},
		{"a writer is corrected and named", (*node).foreignWrite},
		{"sysctl -w", (*node).sysctlWrite},
		{"a hostile sysctl.d file", (*node).hostileFile},
		{"TuneD", (*node).tuned},
		{"rmmod br_netfilter", (*node).rmmod},
		{"modprobe -r br_netfilter", (*node).modprobeRemove},
		{"a drop-in is changed, another removed", (*node).changedDropins},
		{"the configuration is reloaded", (*node).reload},
		{"journald is restarted", (*node).journaldRestart},
		{"D-Bus is away", (*node).withoutDBus},
		{"killed", (*node).killed},
		{"hung", (*node).hung},
		{"the module is blacklisted", (*node).blacklisted},
		{"the module is not on the disk", (*node).hiddenModule},
		{"a power cut after a drift", (*node).powerCut},
		{"loading modules is switched off", (*node).modulesDisabled},
		{"a boot without the service", (*node).bootWithoutService},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(n, t) })
		if t.Failed() {
			t.FailNow() // the next would be told of another node
		}
	}
}

// kubeProxy stands in for kube-proxy: it starts only where bridged packets
// pass through iptables. It does not know of nfguard.
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
	if n.Run(t, "systemctl", "start", "kube-proxy").Code == 0 || n.serviceWorks(t) {
		t.Fatal("this node is right without nfguard, so the stories would show nothing")
	}

	n.install(t) // returns when systemd was told READY

	n.Sh(t, `cd /proc/sys/net/bridge; ! grep -Hvx 1 bridge-nf-call-*tables`) // at once
	n.Sh(t, "systemctl is-active nfguard; systemctl is-enabled nfguard; systemctl start kube-proxy")
	n.Sh(t, "grep -x br_netfilter "+modulesLoad)
	n.Sh(t, "grep -x 'net.bridge.bridge-nf-call-iptables = 1' "+sysctlD)
	n.Sh(t, "nfguard check; nfguard status")
	n.wantService(t)
}

// kube-proxy's start job waits for nfguard's where both are in one transaction,
// as they are at boot. ("systemctl start A B" makes two.)
func (n *node) beforeKubeProxy(t *testing.T) {
	n.Write(t, "/run/systemd/system/worker.target", []byte("[Unit]\nWants=kube-proxy.service nfguard.service\n"), 0o644)
	n.Sh(t, "systemctl stop kube-proxy nfguard; rmmod br_netfilter; systemctl start worker.target")
	n.Sh(t, "systemctl is-active kube-proxy")
	n.wantService(t)
}
