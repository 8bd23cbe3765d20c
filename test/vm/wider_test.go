package vm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pushProgram builds a Go program of this repository or, if source is C, a static C
// program, and copies it into the guest.
func (n *node) pushProgram(t *testing.T, source, path string) {
	t.Helper()
	local := filepath.Join(t.TempDir(), filepath.Base(path))
	build := exec.Command("go", "build", "-o", local, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if strings.HasPrefix(source, "#include") {
		build = exec.Command("gcc", "-x", "c", "-O", "-static", "-o", local, "-")
		build.Stdin = strings.NewReader(source)
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", path, err, out)
	}
	n.Push(t, local, path, 0o755)
}

// configure writes a drop-in of the configuration and waits until it is in force.
func (n *node) configure(t *testing.T, text string) {
	t.Helper()
	mark := n.mark(t)
	n.Write(t, "/etc/nfguard/conf.d/70-story.toml", []byte(text), 0o644)
	n.reloaded(t, mark)
}

// reloaded makes nfguard reload its configuration, if it has not done so since the mark,
// and waits until it has.
func (n *node) reloaded(t *testing.T, mark string) {
	t.Helper()
	n.Sh(t, "systemctl reload nfguard")
	n.records(t, mark, 1, "NFGUARD_EVENT=config", "MESSAGE=the configuration was reloaded")
}

// unconfigure removes it again.
func (n *node) unconfigure(t *testing.T) {
	t.Helper()
	mark := n.mark(t)
	n.Sh(t, "rm /etc/nfguard/conf.d/*")
	n.reloaded(t, mark)
	n.Until(t, "nfguard status")
	n.wantRight(t)
}

// kubeProxyStarts: a program of that name writes real chains, in a unit that nfguard does
// not know; then the known unit restarts with a program of another name.
func (n *node) kubeProxyStarts(t *testing.T) {
	n.pushProgram(t, "github.com/nfguard/nfguard/test/kubeproxy", "/srv/kube-proxy")
	n.Sh(t, "sysctl -qw net.ipv4.ip_forward=1") // as any worker has it
	mark := n.mark(t)
	n.Sh(t, "systemd-run --quiet --unit=proxy /srv/kube-proxy -family ipv4 -services 3")
	pid := n.Sh(t, "systemctl show --value --property=MainPID proxy")
	n.records(t, mark, 1, "NFGUARD_EVENT=kube_proxy", "OBJECT_PID="+pid)[0].want(t, map[string]string{
		"MESSAGE":        `kube-proxy\[` + pid + `\] started \(proxy\.service, .*\); the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, .*`,
		"NFGUARD_SOURCE": "exec", "NFGUARD_OUTCOME": "observed", "NFGUARD_SUBJECT": "kube-proxy",
		"OBJECT_COMM": "kube-proxy", "OBJECT_EXE": "/srv/kube-proxy", "OBJECT_SYSTEMD_UNIT": `proxy\.service`,
	})
	n.Until(t, `nfguard check | grep "programmed: kube-proxy.`+pid+`. (proxy.service).*; iptables mode (nf_tables), IPv4"`)
	n.Sh(t, `nfguard check | grep "the packets of pods on cnio0 are handed to netfilter"`)

	n.Sh(t, "systemctl stop proxy") // on a slow machine, its rules are on record only after that
	n.Until(t, "journalctl -u nfguard -o cat | grep -F 'kube-proxy["+pid+"] ended; '")
	n.Sh(t, "/srv/kube-proxy -cleanup -family ipv4")

	// The known unit, whose program has another name.
	mark = n.mark(t)
	n.Write(t, "/run/systemd/system/k3s.service", []byte("[Service]\nExecStart=/bin/sleep infinity\n"), 0o644)
	n.Sh(t, "systemctl daemon-reload; systemctl start k3s")
	n.records(t, mark, 1, "NFGUARD_EVENT=kube_proxy", "OBJECT_COMM=sleep")[0].want(t, map[string]string{
		"MESSAGE": `sleep\[[0-9]+\] started \(k3s\.service, no rules\); the node was ready: .*`, "NFGUARD_SOURCE": "unit|exec",
	})
	n.Sh(t, "systemctl stop k3s; rm /run/systemd/system/k3s.service; systemctl daemon-reload")
	n.wantService(t)
}

// locked: no foreign value is stored, whoever writes it, and each writer is named.
func (n *node) locked(t *testing.T) {
	n.pushProgram(t, "#include <fcntl.h>\n#include <unistd.h>\n"+
		`int main(int n, char **a) { return write(open(a[1], O_WRONLY), "0", 1) != 1; }`, "/srv/static")
	n.configure(t, "mode = 'lock'\n")
	n.Write(t, hostile, []byte(iptables+" = 0\nnet.ipv4.conf.lo.accept_local = 1\n"), 0o644)
	const file = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	for _, w := range []struct{ comm, command string }{
		{"sh", "! sh -c 'echo 0 >" + file + "'"},
		{"sysctl", "! sysctl -q -w " + iptables + "=0"},
		{"sysctl", "! sysctl --quiet --system"},
		{"systemd-sysctl", "systemctl restart systemd-sysctl"},
		{"sh", "! unshare --pid --fork --mount-proc sh -c 'echo 0 >" + file + "'"},
		{"static", "! /srv/static " + file},
	} {
		mark := n.mark(t)
		n.Sh(t, w.command)
		n.records(t, mark, 1, "NFGUARD_EVENT=denied")[0].want(t, map[string]string{
			"MESSAGE": iptables + ` stays 1: ` + w.comm + `\[[0-9]+\].* wrote 0 and was refused`, "NFGUARD_OUTCOME": "denied",
			"OBJECT_COMM": w.comm, "OBJECT_PID": "[0-9]+", "OLDVALUE": "1", "NEWVALUE": "0", "OURVALUE": "1",
		})
		if got := n.Sh(t, "sysctl -n "+iptables+" net.ipv4.conf.lo.accept_local; sysctl -q net.ipv4.conf.lo.accept_local=0"); !strings.HasPrefix(got, "1\n") {
			t.Errorf("after %s: %s", w.command, got)
		} else if strings.Contains(w.command, "--system") && got != "1\n1" {
			t.Errorf("%s did not go on to the line after the hostile one: %s", w.command, got)
		}
	}
	n.Sh(t, "rm "+hostile)
	n.wantService(t)
	// The lock ends with nfguard.
	n.Sh(t, "systemctl kill --signal=KILL nfguard; while [ -e /proc/"+n.mainPID(t)+" ]; do :; done; sysctl -q -w "+iptables+"=0")
	n.Until(t, "systemctl is-active nfguard")
	n.unconfigure(t)
	n.wantService(t)
}

// undone: a file that will win at the next boot.
func (n *node) undone(t *testing.T) {
	mark := n.mark(t)
	n.Write(t, hostile, []byte("# hardening\n"+iptables+" = 0\n"), 0o644)
	sentence := iptables + " will be 0 at next boot and after `sysctl --system`: " + hostile + ":2 .*"
	n.record(t, mark, "NFGUARD_EVENT=next_boot").want(t, map[string]string{
		"MESSAGE": sentence, "NFGUARD_SUBJECT": iptables, "NFGUARD_NOW": hostile + ":2", "NFGUARD_NEXT": "remove that line.*",
	})
	n.Sh(t, "! nfguard check >/run/check; grep -F 'breaks   "+iptables+" will be 0' /run/check")
	mark = n.mark(t)
	n.Sh(t, "rm "+hostile)
	n.record(t, mark, "NFGUARD_EVENT=next_boot").want(t, map[string]string{"MESSAGE": "no longer so: " + sentence})

	// A kernel that was installed without the module, and that the next boot could use.
	mark = n.mark(t)
	n.Sh(t, `mkdir -p /lib/modules/6.99.0-test; : >/lib/modules/6.99.0-test/modules.dep; : >/lib/modules/6.99.0-test/modules.builtin; cp /boot/vmlinuz-* /boot/vmlinuz-6.99.0-test`)
	n.records(t, mark, 1, "NFGUARD_EVENT=next_boot", "NFGUARD_SUBJECT=6.99.0-test")[0].want(t, map[string]string{
		"MESSAGE": "kernel 6.99.0-test will come up without br_netfilter: .*", "NFGUARD_NEXT": "install the package that owns this kernel, or its modules package, or boot kernel .*, which has it",
	})
	n.Sh(t, "rm -r /lib/modules/6.99.0-test /boot/vmlinuz-6.99.0-test")
	n.Until(t, "nfguard check")
}

// singleBridges: with the sysctls at 0, the bridge that carries pods works because of its
// own flags, and another bridge is left alone.
func (n *node) singleBridges(t *testing.T) {
	n.configure(t, "scope = 'bridges'\n[bridges]\nmatch = ['cni*']\n")
	n.Sh(t, "sysctl -q "+iptables+"=0 "+ip6tables+"=0 "+arptables+"=0; ip link add br-vm type bridge; ip link set br-vm up")
	n.Until(t, "cat /sys/class/net/cnio0/bridge/nf_call_iptables | grep -x 1")
	n.wantService(t)
	mark := n.mark(t)
	n.Sh(t, "echo 0 >/sys/class/net/cnio0/bridge/nf_call_iptables")
	n.Until(t, "cat /sys/class/net/cnio0/bridge/nf_call_iptables | grep -x 1")
	n.records(t, mark, 1, "NFGUARD_EVENT=bridge_flag", "NFGUARD_SUBJECT=cnio0")[0].want(t, map[string]string{"NFGUARD_OUTCOME": "corrected"})
	n.wantService(t)
	got := n.Sh(t, "cat /sys/class/net/br-vm/bridge/nf_call_iptables; sysctl -n "+iptables)
	if got != "0\n0" {
		t.Errorf("the other bridge's flag and the sysctl are %q, want 0 and 0", got)
	}
	n.unconfigure(t)
	n.Until(t, "cat /sys/class/net/cnio0/bridge/nf_call_iptables | grep -x 0") // its flag is taken back
	n.Sh(t, "ip link del br-vm")
	n.wantService(t)
}

// loadedLate: while the daemon is stopped, the module is loaded long after sysctl.d was
// read, and has its default values.
func (n *node) loadedLate(t *testing.T) {
	n.configure(t, fmt.Sprintf("[sysctl]\n'%s' = 0\n", arptables)) // the kernel's default is 1
	n.Until(t, "grep -x '"+arptables+" = 0' "+sysctlD)
	n.Sh(t, "systemctl stop nfguard; rmmod br_netfilter; modprobe br_netfilter")
	n.Until(t, "sysctl -n "+arptables+" | grep -x 0")
	n.Sh(t, "systemctl start nfguard")
	n.unconfigure(t)
	n.wantService(t)
}

// proven: the failure and its correction with real packets, in a throw-away node and on
// the node's own bridge.
func (n *node) proven(t *testing.T) {
	n.Sh(t, "nfguard probe; nfguard check --probe")
	n.configure(t, "mode = 'observe'\n")
	mark := n.mark(t)
	for _, c := range []struct {
		value          string
		seconds        int
		probed, traced string
	}{
		{"0", 3, "reply from 192.0.2.3:7", "never translated"},
		{"1", 20, "gets the answer from the cluster IP", "the reply reached the client as from 10.32.0.102:80"},
	} {
		n.Sh(t, "sysctl -q -w "+iptables+"="+c.value)
		code := map[string]int{"0": 1, "1": 0}[c.value]
		if r := n.Run(t, "nfguard", "probe"); r.Code != code || !strings.Contains(r.Stdout, c.probed) {
			t.Errorf("probe with the key at %s: exit %d\n%s%s", c.value, r.Code, r.Stdout, r.Stderr)
		}
		n.Sh(t, "systemd-run --quiet --unit=trace --property=StandardOutput=file:/run/trace nfguard trace --for 60s 10.200.0.2 10.32.0.102:80/tcp")
		n.Until(t, "nft list tables | grep nfguard")
		if works := n.serviceWorks(t, c.seconds); works != (c.value == "1") {
			t.Errorf("with the key at %s the Service works: %v", c.value, works)
		}
		n.Sh(t, "systemctl kill --signal=INT trace 2>/dev/null ||:") // it has seen enough, unless it has already ended
		n.Until(t, "! systemctl --quiet is-active trace")
		if got := n.Sh(t, "cat /run/trace; systemctl reset-failed trace 2>/dev/null ||:; ! nft list tables | grep nfguard"); !strings.Contains(got, c.traced) {
			t.Errorf("trace with the key at %s lacks %q:\n%s", c.value, c.traced, got)
		}
	}
	n.unconfigure(t)
	out := n.Sh(t, "nfguard events --since "+mark+" --event drift")
	if !strings.Contains(out, iptables) || !strings.Contains(out, "sysctl") {
		t.Errorf("events: %s", out)
	}
	n.wantService(t)
}
