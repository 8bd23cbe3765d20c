package vm_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/vm"
)

// secondKernel is another kernel than Debian 12's own, on which the facts and the most
// important stories have to pass too.
const secondKernel = "6.12"

// TestFacts checks, on both kernels, the behaviour of the kernel and systemd that nfguard
// relies on. If a fact fails on a newer Debian, nfguard has to be reconsidered.
func TestFacts(t *testing.T) {
	t.Parallel()
	for _, kernel := range []struct{ option, version string }{{"", "6.1"}, {secondKernel, secondKernel}} {
		t.Run("Linux "+kernel.version, func(t *testing.T) {
			m := vm.Boot(t, vm.Options{Kernel: kernel.option})
			if release := m.Sh(t, "uname -r"); !strings.HasPrefix(release, kernel.version+".") {
				t.Fatalf("the kernel is %s", release)
			}
			t.Run("probe", func(t *testing.T) { probes(t, m, true) })
			t.Run("the BPF programs", func(t *testing.T) { programs(t, m) })
			for _, fact := range facts() {
				t.Run(fact.name, func(t *testing.T) {
					if d := cmp.Diff(fact.want, m.Sh(t, fact.script)); d != "" {
						t.Errorf("(-want +got)\n%s", d)
					}
				})
			}
		})
	}
}

// programs runs the tests of the BPF programs in the guest: what the verifier accepts,
// and the layout of the kernel's memory, depend on the kernel.
func programs(t *testing.T, m *vm.Machine) {
	bin := filepath.Join(t.TempDir(), "hook.test")
	run(t, "env", "CGO_ENABLED=0", "go", "test", "-c", "-o", bin, root+"/internal/kernel/hook")
	m.Push(t, bin, "/srv/hook.test", 0o755)
	const tests = "^Test(BesideOthers|Capabilities|DoesWithLess|Execs|Limit|LoaderEnds|ManyKeys|OwnWrites|PassedDescriptors|UsedByAnotherProcess|" +
		"Values|VectorOfAnotherNamespace|Wakes|WaysToWrite|Yield)$"
	got := m.Sh(t, "modprobe br_netfilter; cd /srv; NFGUARD_TEST_REQUIRE=root,netns ./hook.test -test.v -test.run '"+tests+"' 2>&1; rmmod br_netfilter; rm hook.test")
	if strings.Count(got, "\n--- PASS: Test") != 15 || strings.Contains(got, "--- FAIL") {
		t.Errorf("%s", got)
	}
	t.Log(got)
}

type fact struct{ name, script, want string }

func facts() []fact {
	return []fact{
		{
			name: "module absent: sysctl fails, systemd-sysctl exits 0",
			script: `
				sysctl -w net.bridge.bridge-nf-call-iptables=1 2>&1 || echo "exit status $?"
				echo net.bridge.bridge-nf-call-iptables = 1 >/etc/sysctl.d/50-bridge.conf
				systemctl restart systemd-sysctl && echo "systemd-sysctl is content"
				rm /etc/sysctl.d/50-bridge.conf`,
			want: `sysctl: cannot stat /proc/sys/net/bridge/bridge-nf-call-iptables: No such file or directory
exit status 1
systemd-sysctl is content`,
		},
		{
			name:   "loading makes the keys, with the right values",
			script: `modprobe br_netfilter; cd /proc/sys/net/bridge; grep . *`,
			want: `bridge-nf-call-arptables:1
bridge-nf-call-ip6tables:1
bridge-nf-call-iptables:1
bridge-nf-filter-pppoe-tagged:0
bridge-nf-filter-vlan-tagged:0
bridge-nf-pass-vlan-input-dev:0`,
		},
		{
			name: "loading it twice changes nothing",
			script: `
				sysctl -q net.bridge.bridge-nf-call-iptables=0
				modprobe br_netfilter
				sysctl net.bridge.bridge-nf-call-iptables`,
			want: "net.bridge.bridge-nf-call-iptables = 0",
		},
		{
			name: "an open descriptor does not hold the module, nor come back with it",
			script: `
				exec 3</proc/sys/net/bridge/bridge-nf-call-iptables
				cat <&3
				rmmod br_netfilter
				test -e /proc/sys/net/bridge || echo the keys are gone
				cat <&3 2>&1 || true
				modprobe br_netfilter
				cat <&3 2>&1 || true
				cat /proc/sys/net/bridge/bridge-nf-call-iptables`,
			want: `0
the keys are gone
cat: -: No such file or directory
cat: -: No such file or directory
1`,
		},
		{
			name: "unloading and loading send uevents",
			script: `
				systemd-run --quiet --unit=monitor --property=StandardOutput=file:/run/uevents udevadm monitor --kernel --subsystem-match=module
				until grep -q ^KERNEL /run/uevents; do sleep 0.1; done
				rmmod br_netfilter
				modprobe br_netfilter
				until grep -q add /run/uevents; do sleep 0.1; done
				systemctl stop monitor
				sed -En 's/^KERNEL\[[0-9.]+\] +([a-z]+) +/\1@/p' /run/uevents`,
			want: `remove@/module/br_netfilter (module)
add@/module/br_netfilter (module)`,
		},
		{
			name: "loading sets the keys in every network namespace, bridges keep their flags",
			script: `
				key=net.bridge.bridge-nf-call-iptables
				ip netns add other
				ip netns exec other sysctl $key
				ip link add br0 type bridge nf_call_iptables 1
				ip link add br1 type bridge
				sysctl -q $key=0
				ip netns exec other sysctl -q $key=0
				rmmod br_netfilter
				modprobe br_netfilter
				sysctl $key
				ip netns exec other sysctl $key
				grep . /sys/class/net/br?/bridge/nf_call_iptables
				ip link delete br0
				ip link delete br1
				ip netns delete other`,
			want: `net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-iptables = 1
/sys/class/net/br0/bridge/nf_call_iptables:1
/sys/class/net/br1/bridge/nf_call_iptables:0`,
		},
		{
			name: "rmmod leaves the bridges, modprobe -r destroys them in every namespace",
			script: `
				bridges() { ip -o link show type bridge | cut -d ' ' -f 2; ip -n other -o link show type bridge | cut -d ' ' -f 2; }
				ip netns add other
				ip link add br0 type bridge
				ip -n other link add br1 type bridge
				rmmod br_netfilter
				bridges
				modprobe br_netfilter
				modprobe -r br_netfilter
				echo then
				bridges
				ip netns delete other`,
			want: "br0:\nbr1:\nthen",
		},
		{
			name: "a blacklist stops only modprobe -b, an install line everybody",
			script: `
				echo blacklist br_netfilter >/etc/modprobe.d/test.conf
				modprobe -b br_netfilter; test -e /proc/sys/net/bridge || echo blacklisted
				modprobe br_netfilter; test -e /proc/sys/net/bridge && echo loaded by name
				rmmod br_netfilter
				echo install br_netfilter /bin/false >/etc/modprobe.d/test.conf
				modprobe br_netfilter 2>&1 || echo "exit status $?"
				rm /etc/modprobe.d/test.conf`,
			want: `blacklisted
loaded by name
modprobe: ERROR: ../libkmod/libkmod-module.c:1047 command_do() Error running install command '/bin/false' for module br_netfilter: retcode 1
modprobe: ERROR: could not insert 'br_netfilter': Invalid argument
exit status 1`,
		},
		{
			name: "modules_disabled", // last, because only a reboot undoes it
			script: `
				sysctl -q kernel.modules_disabled=1
				modprobe br_netfilter 2>&1 || echo "exit status $?"`,
			want: `modprobe: ERROR: could not insert 'br_netfilter': Operation not permitted
exit status 1`,
		},
	}
}
