package netns_test

import (
	"net"

	"github.com/cilium/ebpf"
)

// deaths are the connections that fail. The names of processes are made alike by
// the function anonymous.
var deaths = []death{
	{
		name: "a port that nobody listens on", made: "TCP to port 8081 of a pod",
		server:  farAddress + ":8081/tcp",
		verdict: "refused", kind: "not_listening",
		meaning:  "10.244.1.1:8081 refused the connection: no program listens there in the network namespace of sleep[PID]",
		settings: "not_listening",
	},
	{
		name: "a port that nobody listens on, UDP", made: "UDP to port 8081 of a pod",
		server:  farAddress + ":8081/udp",
		verdict: "refused", kind: "not_listening",
		meaning:  "10.244.1.1:8081 refused the connection: no program listens there in the network namespace of sleep[PID]",
		settings: "not_listening",
	},
	{
		name: "a program that listens at 127.0.0.1 only", made: "TCP to port 8084 of a pod",
		server: farAddress + ":8084/tcp", do: func(w *deathLab) {
			w.within(w.far, func() error {
				l, err := net.Listen("tcp4", "127.0.0.1:8084")
				if err == nil {
					w.t.Cleanup(func() { l.Close() })
				}
				return err
			})
		},
		verdict: "refused", kind: "not_listening",
		meaning:  "10.244.1.1:8084 refused the connection: no program listens there in the network namespace of sleep[PID]",
		settings: "not_listening",
	},
	{
		name: "a rule drops", made: "nft: `ip daddr 10.244.1.1 drop comment \"deny\"` at forward",
		do: func(w *deathLab) {
			w.nft(w.Namespace, "table inet rules {\n chain forward { type filter hook forward priority filter; ip daddr 10.244.1.1 drop comment \"deny\"; }\n}\n")
		},
		verdict: "dropped", kind: "rule",
		meaning:  "the request was dropped at ip forward: inet rules forward, by the rule \"deny\"",
		settings: "rule",
	},
	{
		name: "a rule of iptables-legacy drops", made: "`iptables-legacy -A FORWARD -d 10.244.1.1 -j DROP`",
		do:      func(w *deathLab) { w.Run(w.t, "iptables-legacy", "-A", "FORWARD", "-d", farAddress, "-j", "DROP") },
		verdict: "dropped", kind: "rule",
		meaning:  "the request was dropped at ip forward: ip filter FORWARD, by rule 1",
		settings: "rule",
	},
	{
		name: "the policy of FORWARD", made: "`iptables -P FORWARD DROP`",
		do:      func(w *deathLab) { w.Run(w.t, "iptables-nft", "-P", "FORWARD", "DROP") },
		verdict: "dropped", kind: "policy",
		meaning:  "the request was dropped at ip forward: ip filter FORWARD, its policy",
		settings: "policy",
	},
	{
		name: "a Service without endpoints", made: "kube-proxy's `-j REJECT` for one",
		server: "10.96.0.1:80/tcp",
		do: func(w *deathLab) {
			w.Run(w.t, "iptables-nft", "-A", "FORWARD", "-d", "10.96.0.1/32", "-p", "tcp", "--dport", "80",
				"-m", "comment", "--comment", "default/web has no endpoints", "-j", "REJECT")
			w.ip("route add 10.96.0.0/24 dev far")
		},
		verdict: "refused", kind: "rejected_rule",
		meaning:  "the request was rejected by a rule at ip forward: ip filter FORWARD, by the rule \"default/web has no endpoints\"",
		settings: "rejected_rule",
	},
	{
		name: "a rule refuses by RST", made: "nft: `reject with tcp reset` at forward",
		do: func(w *deathLab) {
			w.nft(w.Namespace, "table inet rules {\n chain forward { type filter hook forward priority filter; tcp dport 8080 reject with tcp reset; }\n}\n")
		},
		verdict: "refused", kind: "rejected_rule",
		meaning:  "the request was rejected by a rule at ip forward: inet rules forward, by the rule with handle 2",
		settings: "rejected_rule",
	},
	{
		name: "a rule in the pod drops", made: "nft in the pod: `tcp dport 8080 drop` at input",
		do: func(w *deathLab) {
			w.nft(w.far, "table inet mesh {\n chain input { type filter hook input priority filter; tcp dport 8080 drop; }\n}\n")
		},
		verdict: "dropped", kind: "pod_rule",
		meaning:  "netfilter in the network namespace of sleep[PID] drops the request",
		settings: "unknown",
	},
	{
		name: "a chain at a device drops", made: "nft: `ip daddr 10.244.1.1 drop` in a chain of family netdev at ingress",
		do: func(w *deathLab) {
			w.nft(w.Namespace, "table netdev fast {\n chain in { type filter hook ingress device veth31 priority 0; ip daddr 10.244.1.1 drop; }\n}\n")
		},
		verdict: "dropped", kind: "device_rule",
		meaning:  "netfilter, at veth31, drops the request before the trace sees it: a chain of the family netdev, or one whose priority is below -399",
		settings: "unknown",
	},
	{
		name: "a program of tc drops", made: "a BPF program at tc's ingress that returns TC_ACT_SHOT for IP",
		do:      func(w *deathLab) { w.attach("veth31", ebpf.SchedCLS, ebpf.AttachTCXIngress, 2) },
		verdict: "dropped", kind: "tc",
		meaning:  "a filter or program of tc on this node, at veth31, drops the request",
		settings: "unknown",
	},
	{
		name: "an XDP program drops", made: "a BPF program at XDP (generic) that returns XDP_DROP",
		do:      func(w *deathLab) { w.attach("veth31", ebpf.XDP, ebpf.AttachXDP, 1) },
		verdict: "dropped", kind: "xdp",
		meaning:  "an XDP program on this node, at veth31, drops the request",
		settings: "unknown",
	},
	{
		name: "a queueing discipline drops", made: "`tc qdisc add dev far root tbf rate 8bit burst 10 limit 10`",
		do: func(w *deathLab) {
			w.Run(w.t, "tc", "qdisc", "add", "dev", "far", "root", "tbf", "rate", "8bit", "burst", "10", "limit", "10")
		},
		verdict: "dropped", kind: "qdisc",
		meaning:  "a queueing discipline on this node, at far, drops the request",
		settings: "unknown",
	},
	{
		name: "forwarding is off for the bridge", made: "`sysctl net.ipv4.conf.cnio0.forwarding=0`",
		do:      func(w *deathLab) { w.Run(w.t, "sysctl", "-qw", "net.ipv4.conf.cnio0.forwarding=0") },
		verdict: "dropped", kind: "forwarding_off",
		meaning:  "this node does not forward what comes in by cnio0: net.ipv4.conf.cnio0.forwarding is 0",
		settings: "forwarding_off",
	},
	{
		name: "forwarding is off", made: "`sysctl net.ipv4.ip_forward=0`",
		do:      func(w *deathLab) { w.Run(w.t, "sysctl", "-qw", "net.ipv4.ip_forward=0") },
		verdict: "dropped", kind: "forwarding_off",
		meaning:  "this node does not forward packets: net.ipv4.ip_forward is 0",
		settings: "forwarding_off",
	},
	{
		name: "no route", made: "no route to 10.99.0.7",
		server:  "10.99.0.7:8080/tcp",
		verdict: "dropped", kind: "no_route",
		meaning:  "no route to 10.99.0.7 on this node",
		settings: "no_route",
	},
	{
		name: "no route in the client's pod", made: "`ip route del default` in the pod",
		do:      func(w *deathLab) { w.in(w.client, "route del default") },
		verdict: "unanswered", kind: "no_route",
		meaning:  "the network namespace of sleep[PID] has no route to 10.244.1.1: no packet left it",
		settings: "no_route",
	},
	{
		name: "no route back", made: "`ip route del default` in the pod that is asked",
		do:      func(w *deathLab) { w.in(w.far, "route del default") },
		verdict: "unanswered", kind: "no_route",
		meaning:  "no reply came by: there is no route back to 10.244.0.31 in the network namespace of sleep[PID]",
		settings: "no_route",
	},
	{
		name: "a black hole", made: "`ip route add blackhole 10.98.0.0/24`",
		server:  "10.98.0.7:8080/tcp",
		do:      func(w *deathLab) { w.ip("route add blackhole 10.98.0.0/24") },
		verdict: "dropped", kind: "route_refuses",
		meaning:  "a route of this node refuses packets to 10.98.0.7: its type is blackhole",
		settings: "route_refuses",
	},
	{
		name: "a route that prohibits", made: "`ip route add prohibit 10.98.0.0/24`",
		server:  "10.98.0.7:8080/tcp",
		do:      func(w *deathLab) { w.ip("route add prohibit 10.98.0.0/24") },
		verdict: "refused", kind: "route_refuses",
		meaning:  "a route of this node refuses packets to 10.98.0.7: its type is prohibit",
		settings: "route_refuses",
	},
	{
		name: "no neighbour", made: "nobody has the address 10.244.1.7",
		server:  "10.244.1.7:8080/tcp",
		verdict: "dropped", kind: "no_neighbour",
		meaning:  "nobody answers for the next hop to 10.244.1.7 on its link: this node could not find out the MAC address",
		settings: "no_neighbour",
	},
	{
		name: "a neighbour's old MAC address", made: "`ip neigh replace 10.244.1.1 lladdr 02:00:00:00:00:99 dev far nud permanent`",
		do:      func(w *deathLab) { w.ip("neigh replace 10.244.1.1 lladdr 02:00:00:00:00:99 dev far nud permanent") },
		verdict: "dropped", kind: "wrong_mac",
		meaning:  "the network namespace of sleep[PID] got the request in a frame for another MAC address than its own",
		settings: "unknown",
	},
	{
		name: "rp_filter", made: "`rp_filter` = 1 and a route to the client by another device",
		do: func(w *deathLab) {
			w.Run(w.t, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
			w.ip("route add 10.244.0.31/32 dev far")
		},
		verdict: "dropped", kind: "rp_filter",
		meaning:  "rp_filter on this node refuses the source 10.244.0.31: the route back to it does not lead out by the device that the request came in by",
		settings: "rp_filter",
	},
	{
		name: "the time to live", made: "`net.ipv4.ip_default_ttl` = 1 in the client's pod",
		do:      func(w *deathLab) { w.client.Run(w.t, "sysctl", "-qw", "net.ipv4.ip_default_ttl=1") },
		verdict: "dropped", kind: "ttl",
		meaning:  "the time to live of the request ran out on this node",
		settings: "ttl",
	},
	{
		name: "the MTU", made: "1,400 bytes by UDP, not to be fragmented, over a link with an MTU of 1,280",
		server: farAddress + ":8080/udp", ask: datagram(1400),
		do:      func(w *deathLab) { w.ip("link set far mtu 1280") },
		verdict: "dropped", kind: "mtu",
		meaning:  "the request was too large for the next link, on this node, and is not to be fragmented",
		settings: "mtu",
	},
	{
		name: "the listen queue", made: "a program that never accepts, its queue of 1 full",
		server: farAddress + ":8082/tcp", do: func(w *deathLab) { w.fillQueue() },
		verdict: "unanswered", kind: "listen_queue",
		meaning:  "no reply came by: the listen queue of 10.244.1.1:8082 in the network namespace of sleep[PID] is full, its program does not accept connections fast enough",
		settings: "listen_queue",
	},
	{
		name: "the receive buffer", made: "a program that never reads its UDP socket, whose buffer is full",
		server: farAddress + ":8083/udp", do: func(w *deathLab) { w.fillBuffer() },
		verdict: "dropped", kind: "receive_buffer",
		meaning:  "the receive buffer of 10.244.1.1:8083 in the network namespace of sleep[PID] is full: its program does not read fast enough",
		settings: "receive_buffer",
	},
	{
		name: "conntrack is full", made: "as many connections as `nf_conntrack_max`",
		do:      func(w *deathLab) { w.fillConntrack() },
		verdict: "dropped", kind: "conntrack_full",
		meaning:  "the table of conntrack is full: it drops what begins a connection",
		settings: "conntrack_full",
	},
	{
		name: "hairpin", made: "a pod asks its own Service, the port has hairpin mode off",
		server: "10.96.0.1:80/tcp",
		do: func(w *deathLab) {
			echo(w.t, w.client)
			w.service(clientAddress + ":8080")
		},
		verdict: "dropped", kind: "hairpin",
		meaning:  "the request was for 10.244.0.31 itself: the bridge does not send a frame out by the port that it came in by, whose hairpin mode is off",
		settings: "hairpin",
	},
	{
		name: "isolated ports", made: "`bridge link set dev veth31 isolated on`, and veth1",
		server: nearAddress + ":8080/tcp",
		do: func(w *deathLab) {
			for _, dev := range []string{"veth31", "veth1"} {
				w.Run(w.t, "bridge", "link", "set", "dev", dev, "isolated", "on")
			}
			// They know each other's MAC address already, or could not ask for it.
		},
		verdict: "dropped", kind: "bridge",
		meaning:  "a bridge on this node does not send the request on",
		settings: "bridge",
	},
	{
		name: "IPsec", made: "`ip xfrm policy add dst 10.244.1.1 dir fwd action block`",
		do:      func(w *deathLab) { w.ip("xfrm policy add dst 10.244.1.1 dir fwd action block") },
		verdict: "dropped", kind: "xfrm",
		meaning:  "a policy of IPsec on this node does not allow the request",
		settings: "unknown",
	},
	{
		name: "not translated back", made: "`net.bridge.bridge-nf-call-iptables` = 0, a Service with an endpoint on the same bridge",
		server: "10.96.0.1:80/tcp",
		do: func(w *deathLab) {
			w.set("0", "0", "0")
			w.service(nearAddress + ":8080")
		},
		verdict: "untranslated", kind: "untranslated",
		meaning:  "the reply crossed cnio0 at layer 2 from 10.244.0.1 and was never translated back: client expects 10.96.0.1; br_netfilter did not hand it to netfilter: net.bridge.bridge-nf-call-iptables is 0",
		settings: "untranslated",
	},
	{
		name: "none: it is answered", made: "nothing",
		verdict: "answered",
		meaning: "the reply reached the client as from 10.244.1.1:8080, whom it had asked",
	},
}
