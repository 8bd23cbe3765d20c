package vm_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/vm"
)

// zeros is the configuration of a host of virtual machines.
const zeros = "scope = 'bridges'\n[bridges]\nmatch = ['cni*']\n[sysctl]\n" +
	"'" + iptables + "' = 0\n'" + ip6tables + "' = 0\n'" + arptables + "' = 0\n"

// TestKeptAtZero: on a host of virtual machines the sysctls are kept at 0 against k3s and
// against the module, which comes with 1; over a late load and over a reboot. It prints how
// long the 1 of the module stands.
func TestKeptAtZero(t *testing.T) {
	for _, kernel := range []string{"", secondKernel} {
		t.Run("Linux "+kernel, func(t *testing.T) {
			n := &node{Machine: vm.Boot(t, vm.Options{Kernel: kernel})}
			n.makeBridge(t)
			n.makePods(t)
			n.pushProgram(t, onesWriter, "/usr/local/bin/k3s-server")
			n.Sh(t, "mkdir -p /etc/nfguard/conf.d")
			n.Write(t, "/etc/nfguard/conf.d/70-vms.toml", []byte(zeros), 0o644)
			n.install(t)
			n.Sh(t, "nfguard check")
			for _, s := range []struct {
				name string
				tell func(*testing.T)
			}{
				{"k3s starts", n.onesAreKeptOut},
				{"the module is loaded, under the daemon", func(t *testing.T) { n.comesWithOne(t, true) }},
				{"the module is loaded, without the daemon", func(t *testing.T) { n.comesWithOne(t, false) }},
				{"a reboot", n.rebootAtZero},
			} {
				if !t.Run(s.name, s.tell) {
					t.FailNow()
				}
			}
		})
	}
}

// onesWriter writes 1 to the three sysctls, as k3s does at its start.
const onesWriter = `#include <fcntl.h>
#include <unistd.h>
int main(int n, char **a) {
	const char *files[] = { "iptables", "ip6tables", "arptables" };
	if (chdir("/proc/sys/net/bridge")) return 1;
	for (int i = 0; i < 3; i++) {
		char name[64] = "bridge-nf-call-";
		for (int j = 0; (name[15 + j] = files[i][j]); j++);
		int f = open(name, O_WRONLY);
		if (f < 0 || write(f, "1", 1) != 1) return 1;
	}
	return 0;
}
`

// wantZero waits until the sysctls are 0, with the flags of the pods' bridge, by which its
// Services work.
func (n *node) wantZero(t *testing.T) {
	t.Helper()
	n.Until(t, "cd /proc/sys/net/bridge; ! grep -Hvx 0 bridge-nf-call-*tables")
	n.Until(t, "cat /sys/class/net/cnio0/bridge/nf_call_iptables | grep -x 1")
	// Where it does not work it never does; where it does, an emulated machine can still be
	// too slow for one try.
	for tries := 5; !n.serviceWorks(t, 20); tries-- {
		if tries == 0 {
			t.Fatal("a pod does not reach the other pod of its node by the cluster IP")
		}
	}
}

// onesAreKeptOut: the kernel stores 0, or nfguard puts it right, and the writer is named.
func (n *node) onesAreKeptOut(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, "systemd-run --quiet --wait --unit=k3s-once k3s-server")
	n.wantZero(t)
	for _, key := range []string{iptables, ip6tables, arptables} {
		n.records(t, mark, 1, "NFGUARD_EVENT=drift", "NFGUARD_SUBJECT="+key)[0].want(t, map[string]string{
			"OBJECT_COMM": "k3s-server", "NFGUARD_WANT": "0", "NFGUARD_HAVE": "1", "NFGUARD_OUTCOME": "rewritten|corrected",
			"MESSAGE": regexp.QuoteMeta(key) + " (stays 0: k3s-server.* wrote 1, which was rewritten|was 1, set back to 0 after .*written by k3s-server.*)",
		})
	}
}

// standing prints how many microseconds passed from the moment that the sysctl of a module
// which was loaded anew was there until it was 0, or "never 1". LOAD loads it.
const standing = `
	f=/proc/sys/net/bridge/bridge-nf-call-iptables
	(
		exec 2>/dev/null
		echo >/run/looks
		while [ -e $f ]; do :; done
		until read -r v <$f; do :; done
		came=$EPOCHREALTIME one=$v
		until [ "$v" = 0 ]; do read -r v <$f || v=; done
		went=$EPOCHREALTIME
		[ "$one" = 1 ] && echo $((${went/./} - ${came/./})) || echo "never 1"
	) &
	until [ -e /run/looks ]; do :; done
	rmmod br_netfilter
	LOAD
	wait
	rm /run/looks`

// comesWithOne: the module is unloaded and loaded, by the daemon, which looks after it; or,
// while that is stopped, by somebody else, and the packaged rule of udev has the drop-in
// read again.
func (n *node) comesWithOne(t *testing.T, daemon bool) {
	load := ":"
	if !daemon {
		n.Sh(t, "systemctl stop nfguard")
		load = "modprobe br_netfilter"
	}
	const runs = 5
	var took []string
	for range runs {
		out := n.Run(t, "bash", "-c", strings.ReplaceAll(standing, "LOAD", load))
		last := strings.TrimSpace(out.Stdout)
		if micros, err := strconv.Atoi(last); err == nil {
			last = (time.Duration(micros) * time.Microsecond).String()
		} else if last != "never 1" {
			t.Fatalf("exit %d: %q %s", out.Code, out.Stdout, out.Stderr)
		}
		took = append(took, last)
		n.wantZero(t)
	}
	t.Logf("on Linux %s, with the daemon %v, the 1 of the module stood for %s (emulated: the order is right, the figures are not)",
		n.Sh(t, "uname -r"), daemon, strings.Join(took, ", "))
	n.Sh(t, "systemctl start nfguard")
	n.wantZero(t)
	n.Until(t, "nfguard status")
}

// rebootAtZero: the drop-in has the sysctls at 0 before nfguard starts, and k3s, which is
// started at boot, does not change that.
func (n *node) rebootAtZero(t *testing.T) {
	for _, key := range []string{iptables, ip6tables, arptables} {
		n.Until(t, fmt.Sprintf("grep -x '%s = 0' %s", key, sysctlD))
	}
	n.Write(t, "/etc/systemd/system/k3s.service", []byte("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/bin/k3s-server\n[Install]\nWantedBy=multi-user.target\n"), 0o644)
	n.Sh(t, "systemctl daemon-reload; systemctl --quiet enable k3s")
	mark := n.mark(t)
	n.Reboot(t)
	n.Sh(t, "systemctl is-active nfguard k3s")
	boot := "_BOOT_ID=" + n.boot(t)
	n.record(t, mark, boot, "NFGUARD_EVENT=start")
	n.makeBridge(t)
	n.makePods(t)
	n.wantZero(t)
	for _, r := range n.records(t, mark, 3, boot, "NFGUARD_EVENT=drift") {
		r.want(t, map[string]string{"OBJECT_COMM": "k3s-server", "OBJECT_SYSTEMD_UNIT": "k3s.service", "NFGUARD_HAVE": "1"})
	}
	n.Sh(t, "nfguard check")
}
