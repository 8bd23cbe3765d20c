package trace

import (
	"fmt"
	"strings"
)

// Cause is why a connection was not answered.
type Cause struct {
	Kind  Kind  `json:"kind"`
	Place Place `json:"place,omitzero"` // where it is; the zero value is this node

	// Evidence is what it was concluded from, a sentence each.
	Evidence []string `json:"evidence,omitempty"`
}

// Kind is one of the ways in which a connection fails.
type Kind string

// The kinds.
const (
	NotListening   Kind = "not_listening"   // no program listens on the port: refused
	RejectedByRule Kind = "rejected_rule"   // a rule refuses, and says so to the client
	Reset          Kind = "reset"           // refused by RST, by what is not known
	Prohibited     Kind = "prohibited"      // refused by ICMP: a rule or a route prohibits it
	ByRule         Kind = "rule"            // dropped by a rule that the trace saw
	ByPolicy       Kind = "policy"          // dropped by the policy of a chain
	PodRule        Kind = "pod_rule"        // dropped by netfilter in a pod's namespace
	DeviceRule     Kind = "device_rule"     // dropped by a chain of the family netdev
	TC             Kind = "tc"              // dropped by a program or filter of tc
	XDP            Kind = "xdp"             // dropped by an XDP program
	Queue          Kind = "qdisc"           // dropped by a queueing discipline
	ForwardingOff  Kind = "forwarding_off"  // the sysctl
	NoRoute        Kind = "no_route"        // no route to the address
	RouteRefuses   Kind = "route_refuses"   // a route of type unreachable, prohibit or blackhole
	Unreachable    Kind = "unreachable"     // a router said so by ICMP, and nothing tells why
	NoNeighbour    Kind = "no_neighbour"    // nobody answers for the address on its link
	OtherHost      Kind = "wrong_mac"       // the frame had the MAC address of somebody else
	ReversePath    Kind = "rp_filter"       // rp_filter refused the source address
	Martian        Kind = "invalid_address" // the source or destination is not allowed there
	TTL            Kind = "ttl"             // the time to live ran out
	MTU            Kind = "mtu"             // too large for the next link, and not to be fragmented
	ListenQueue    Kind = "listen_queue"    // the program does not accept fast enough
	ReceiveBuffer  Kind = "receive_buffer"  // the program does not read fast enough
	SocketFilter   Kind = "socket_filter"   // a BPF program at the socket or the cgroup
	ConntrackFull  Kind = "conntrack_full"
	Hairpin        Kind = "hairpin"     // the frame would leave by the port that it came in by
	BridgeDrops    Kind = "bridge"      // the bridge drops it: an isolated port, a port that does not forward
	DeviceDown     Kind = "device_down" // the device is not up
	NoIPv6         Kind = "ipv6_disabled"
	IPsec          Kind = "xfrm"
	Checksum       Kind = "checksum"
	KernelDrops    Kind = "kernel"       // dropped for another reason of the kernel's
	Untranslate    Kind = "untranslated" // the reply was not translated back
	Unknown        Kind = "unknown"
)

// kinds is what the kernel's reasons mean, where one word is enough.
var kinds = map[string]Kind{
	"NO_SOCKET":                NotListening,
	"TCP_LISTEN_OVERFLOW":      ListenQueue,
	"SOCKET_RCVBUFF":           ReceiveBuffer,
	"SOCKET_BACKLOG":           ReceiveBuffer,
	"PROTO_MEM":                ReceiveBuffer,
	"SOCKET_FILTER":            SocketFilter,
	"BPF_CGROUP_EGRESS":        SocketFilter,
	"OTHERHOST":                OtherHost,
	"IP_RPFILTER":              ReversePath,
	"IP_LOCAL_SOURCE":          Martian,
	"IP_INVALID_SOURCE":        Martian,
	"IP_INVALID_DEST":          Martian,
	"IP_LOCALNET":              Martian,
	"UNICAST_IN_L2_MULTICAST":  Martian,
	"IP_OUTNOROUTES":           NoRoute,
	"IP_INNOROUTES":            NoRoute,
	"IP_INADDRERRORS":          NoRoute,
	"NEIGH_CREATEFAIL":         NoNeighbour,
	"NEIGH_FAILED":             NoNeighbour,
	"NEIGH_QUEUEFULL":          NoNeighbour,
	"NEIGH_DEAD":               NoNeighbour,
	"PKT_TOO_BIG":              MTU,
	"TC_INGRESS":               TC,
	"TC_EGRESS":                TC,
	"XDP":                      XDP,
	"QDISC_DROP":               Queue,
	"QDISC_OVERLIMIT":          Queue,
	"QDISC_CONGESTED":          Queue,
	"DEV_READY":                DeviceDown,
	"BRIDGE_INGRESS_STP_STATE": BridgeDrops,
	"NO_TX_TARGET":             BridgeDrops,
	"IPV6DISABLED":             NoIPv6,
	"XFRM_POLICY":              IPsec,
	"IP_CSUM":                  Checksum,
	"TCP_CSUM":                 Checksum,
	"UDP_CSUM":                 Checksum,
	"NETFILTER_DROP":           ByRule,
}

// functions is what a drop without a reason means by the function that dropped
// it, as in older kernels.
var functions = []struct {
	prefix string
	kind   Kind
}{
	{"nf_hook_slow", ByRule},
	{"nft_do_chain", ByRule},
	{"do_xdp_generic", XDP},
	{"netif_receive_generic_xdp", XDP},
	{"br_", BridgeDrops},
	{"__br_forward", BridgeDrops},
	{"maybe_deliver", BridgeDrops},
	{"ip_error", NoRoute},
	{"ip6_pkt_discard", NoRoute},
	{"ip6_pkt_prohibit", RouteRefuses},
	{"dst_discard", RouteRefuses},
	{"neigh_", NoNeighbour},
	{"arp_error_report", NoNeighbour},
	{"ndisc_error_report", NoNeighbour},
	{"ip_fragment", MTU},
	{"tcp_conn_request", ListenQueue},
	{"tcp_v4_syn_recv_sock", ListenQueue},
	{"tcp_v6_syn_recv_sock", ListenQueue},
}

// kind is what a drop means, by the kernel's word for it alone.
func (d *Drop) kind() Kind {
	if k, ok := kinds[d.Reason]; ok {
		return k
	}
	switch {
	case (d.Reason == "IP_INHDR" || d.Reason == "NOT_SPECIFIED") && (d.Function == "ip_forward" || d.Function == "ip6_forward"):
		return TTL
	case d.Reason == "NOT_SPECIFIED":
		for _, f := range functions {
			if strings.HasPrefix(d.Function, f.prefix) {
				return f.kind
			}
		}
	}
	return KernelDrops
}

// harmless are reasons that are part of a connection's normal life.
var harmless = map[string]bool{
	"CONSUMED": true, "TCP_OLD_ACK": true, "TCP_OLD_DATA": true, "TCP_OFOMERGE": true, "TCP_RESET": true,
	"SOCKET_CLOSE": true, "QUEUE_PURGE": true, "UNHANDLED_PROTO": true, "TCP_FLAGS": true, "TCP_CLOSE": true,
}

// deadly is the drop that says most of why there was no answer: of a known kind
// before any other, of a request before a reply, the earliest. It is nil where
// there is none.
func (w *Path) deadly(f *Facts) *Drop {
	var best *Drop
	rank := func(d *Drop) int {
		n := 0
		if d.kind() == KernelDrops {
			n += 2
		}
		if d.Direction == Reply {
			n++
		}
		return n
	}
	for i := range w.Drops {
		d := &w.Drops[i]
		if harmless[d.Reason] {
			continue
		}
		// A bridge that does not know a MAC address sends the frame to all its ports.
		if d.kind() == OtherHost && (f == nil || !f.atEndpoint(d.Place) || d.Direction != Request) {
			continue
		}
		if best == nil || rank(d) < rank(best) {
			best = d
		}
	}
	return best
}

// evidence is the drop in a sentence.
func (d *Drop) evidence() string {
	times := "once"
	if d.Count > 1 {
		times = fmt.Sprintf("%d times", d.Count)
	}
	in := ""
	if d.Function != "" {
		in = " in " + d.Function
	}
	return fmt.Sprintf("the kernel dropped the %s %s%s, %s: %s", d.Direction, times, in, d.Place.in(), d.Reason)
}

// from makes a cause out of a drop.
func (d *Drop) from(k Kind) *Cause {
	return &Cause{Kind: k, Place: d.Place, Evidence: []string{d.evidence()}}
}
