package vm_test

import (
	"strconv"
	"testing"
)

// makeBridge does the first half of a network plugin's work: it creates a bridge that is
// the pods' gateway. The second time it also attaches the pods' ports again.
func (n *node) makeBridge(t *testing.T) {
	t.Helper()
	n.Sh(t, `
		ip link add cnio0 type bridge
		ip address add 10.200.0.1/24 dev cnio0
		ip link set cnio0 up
		for pod in client server; do
			! ip link show $pod >/dev/null 2>&1 || ip link set $pod master cnio0
		done`)
}

// makePods does the second half, two pods on that bridge, and kube-proxy's part: a
// Service with the cluster IP 10.32.0.102, served by one of them. Port 80 answers hello,
// port 7 echoes what it receives.
func (n *node) makePods(t *testing.T) {
	t.Helper()
	n.Sh(t, `
		sysctl -q net.ipv4.ip_forward=1
		host=2
		for pod in client server; do
			ip netns add $pod
			ip link add $pod type veth peer name eth0 netns $pod
			ip link set $pod master cnio0 up
			ip -n $pod address add 10.200.0.$host/24 dev eth0
			ip -n $pod link set eth0 up
			ip -n $pod route add default via 10.200.0.1
			host=$((host + 1))
		done
		iptables -t nat -A PREROUTING -d 10.32.0.102/32 -p tcp --dport 80 -j DNAT --to-destination 10.200.0.3:8080
		iptables -t nat -A PREROUTING -d 10.32.0.102/32 -p tcp --dport 7 -j DNAT --to-destination 10.200.0.3:8007
		server="systemd-run --quiet --property=NetworkNamespacePath=/run/netns/server"
		$server --unit=hello socat TCP-LISTEN:8080,reuseaddr,fork EXEC:'echo hello'
		$server --unit=echo socat TCP-LISTEN:8007,reuseaddr,fork PIPE`)
	n.Until(t, "ip netns exec client socat - TCP:10.200.0.3:8080 | grep -x hello") // by the pod's own IP
}

// serviceWorks reports whether the client reaches the pod on the same node by the cluster
// IP. If it does not, that takes as many seconds as given.
func (n *node) serviceWorks(t *testing.T, seconds int) bool {
	t.Helper()
	limit := strconv.Itoa(seconds)
	r := n.Run(t, "ip", "netns", "exec", "client", "socat", "-t"+limit, "-T"+limit, "-", "TCP:10.32.0.102:80,connect-timeout="+limit)
	return r.Stdout == "hello\n"
}

// connect opens a connection that has to survive everything that happens to the node:
// what is written to /run/say goes through the cluster IP to the other pod and comes back
// to /run/heard.
func (n *node) connect(t *testing.T) {
	t.Helper()
	n.Sh(t, `
		mkfifo /run/say
		systemd-run --quiet --unit=connection --property=NetworkNamespacePath=/run/netns/client \
			sh -c 'exec socat - TCP:10.32.0.102:7,connect-timeout=3 <>/run/say >/run/heard'`)
}

// wantService checks that a pod reaches the other pod of the node by the cluster IP, with
// a new connection and with the one that [node.connect] has opened.
func (n *node) wantService(t *testing.T) {
	t.Helper()
	if !n.serviceWorks(t, 20) { // an emulated machine can stand still for seconds if others run too
		t.Error("a pod does not reach the other pod of its node by the cluster IP")
	}
	line := n.Sh(t, "systemctl --quiet is-active connection; tee /run/say </proc/sys/kernel/random/uuid")
	n.Until(t, "grep -x "+line+" /run/heard")
}
