package vm_test

import "testing"

// makeBridge does a network plugin's first half: a bridge that is the pods'
// gateway. The second time it puts the pods' ports back on it.
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

// makePods does the second half, two pods on that bridge, and kube-proxy's
// part: a Service with the cluster IP 10.32.0.102, served by one of them.
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
		systemd-run --quiet --unit=server --property=NetworkNamespacePath=/run/netns/server \
			socat TCP-LISTEN:8080,reuseaddr,fork EXEC:'echo hello'`)
	n.Until(t, "ip netns exec client socat - TCP:10.200.0.3:8080 | grep -x hello") // by the pod's own IP
}

// serviceWorks reports whether the client gets through to the pod beside it
// by the cluster IP. Where it does not, that takes three seconds.
func (n *node) serviceWorks(t *testing.T) bool {
	t.Helper()
	r := n.Run(t, "ip", "netns", "exec", "client", "socat", "-T3", "-", "TCP:10.32.0.102:80,connect-timeout=3")
	return r.Stdout == "hello\n"
}

func (n *node) wantService(t *testing.T) {
	t.Helper()
	if !n.serviceWorks(t) {
		t.Error("a pod does not reach the pod beside it by the cluster IP")
	}
}
