package trace

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDeaths: what is said of a connection, whole: the verdict, the kind of the
// cause, the meaning, and what was seen.
func TestDeaths(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	pod := Place{PodName: "shop/cart"}
	asked := request(0, 1, "tcp/1", client)
	late := request(9_500_000, 1, "tcp/1", client) // half a second before the trace ends
	early := []Event{at(0, 1, IP, "prerouting", 1, 0, client, service, "tcp/1")}
	bridged := []Event{at(0, 1, Bridge, "prerouting", 2, 0, client, service, "tcp/1")}
	handed := []Event{
		at(0, 1, Bridge, "prerouting", 2, 0, client, service, "tcp/1"),
		at(1, 1, IP, "prerouting", 2, 0, client, endpoint, "tcp/1"),
	}
	itself := netip.AddrPortFrom(client.Addr(), 8080)
	own := []Event{
		at(0, 1, Bridge, "prerouting", 2, 0, client, service, "tcp/1"),
		at(1, 1, IP, "prerouting", 2, 0, client, itself, "tcp/1"),
	}
	answered := append(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client)...)
	reset := append(request(0, 1, "tcp/1", client), reply(10, 2, "RST ACK", "tcp/2", client)...)
	ruled := func(verdict string, r *Rule) []Event {
		e := at(1, 1, IP, "forward", 1, 3, client, endpoint, "tcp/1")
		e.Own, e.Backend, e.Table, e.Chain, e.Rule, e.Verdict = false, "nf_tables", "ip filter", "FORWARD", r, verdict
		return append(request(0, 1, "tcp/1", client), e)
	}
	// an error of ICMP about the request
	told := func(from, flags string, before ...Event) []Event {
		e := at(20, 7, IP, "prerouting", 3, 0, netip.AddrPortFrom(netip.MustParseAddr(from), 0), netip.AddrPortFrom(client.Addr(), 0), "icmp/7")
		e.Headers.Protocol, e.Headers.Flags = ICMP, flags
		return append(before, e)
	}
	drop := func(reason string, p Place) KernelDrop {
		return KernelDrop{Reason: reason, Place: p, Headers: &Headers{Protocol: TCP, Source: client, Destination: endpoint, Flags: "SYN"}}
	}
	dropAt := func(reason, device string) []KernelDrop {
		d := drop(reason, Place{})
		d.Device = device
		return []KernelDrop{d}
	}
	one := func(reason string) []KernelDrop { return []KernelDrop{drop(reason, Place{})} }
	inPod := func(reason string) []KernelDrop { return []KernelDrop{drop(reason, pod)} }
	by := func(reason, function string) []KernelDrop {
		d := drop(reason, Place{})
		d.Function = function
		return []KernelDrop{d, d, d}
	}
	back := func(reason string) []KernelDrop {
		return []KernelDrop{{Reason: reason, Headers: &Headers{Protocol: TCP, Source: endpoint, Destination: client}}}
	}
	to := func(missing string) *Lookup {
		return &Lookup{Address: endpoint.Addr(), Missing: missing, Device: "cni0", Next: endpoint.Addr()}
	}
	neighbour := func(state string) *Facts {
		l := to("")
		l.Neighbour = state
		return &Facts{To: l}
	}
	full := &Facts{ConntrackCount: 8, ConntrackMax: 8}
	room := &Facts{ConntrackCount: 7, ConntrackMax: 8}
	waits := func(counter string, waiting int, rose uint64) *Facts {
		return &Facts{
			Endpoint: &Endpoint{Place: pod, Listeners: []Listener{{Address: netip.MustParseAddrPort("0.0.0.0:8080"), Waiting: waiting}}},
			Counters: []Counter{{Place: pod, Name: counter, Rose: rose}},
		}
	}
	rose := func(counter string) *Facts {
		return &Facts{Counters: []Counter{{Name: counter, Rose: 3}}, ReversePath: map[string]int{"cni0": 1}}
	}
	listens := func(addrs ...string) *Facts {
		e := &Endpoint{Place: pod}
		for _, a := range addrs {
			e.Listeners = append(e.Listeners, Listener{Address: netip.MustParseAddrPort(a)})
		}
		return &Facts{Endpoint: e}
	}
	for name, tt := range map[string]struct {
		events []Event
		drops  []KernelDrop
		facts  *Facts
		sent   *Sent
		want   []string
	}{
		// by the kernel's word
		"answered": {events: answered, want: []string{
			"answered",
			"the reply reached the client as from 10.96.0.1:80, whom it had asked",
		}},
		"no socket": {events: asked, drops: inPod("NO_SOCKET"), want: []string{
			"dropped, not_listening",
			"no program listens on 10.0.0.32:8080 in pod shop/cart",
			"seen: the kernel dropped the request once, in pod shop/cart: NO_SOCKET",
		}},
		"listen overflow": {events: asked, drops: inPod("TCP_LISTEN_OVERFLOW"), want: []string{
			"dropped, listen_queue",
			"the listen queue of 10.0.0.32:8080 in pod shop/cart is full: its program does not accept connections fast enough",
			"seen: the kernel dropped the request once, in pod shop/cart: TCP_LISTEN_OVERFLOW",
		}},
		"receive buffer": {events: asked, drops: inPod("SOCKET_RCVBUFF"), want: []string{
			"dropped, receive_buffer",
			"the receive buffer of 10.0.0.32:8080 in pod shop/cart is full: its program does not read fast enough",
			"seen: the kernel dropped the request once, in pod shop/cart: SOCKET_RCVBUFF",
		}},
		"socket filter": {events: asked, drops: inPod("SOCKET_FILTER"), want: []string{
			"dropped, socket_filter",
			"a BPF program of a socket or a cgroup in pod shop/cart drops the request",
			"seen: the kernel dropped the request once, in pod shop/cart: SOCKET_FILTER",
		}},
		"other host": {events: asked, drops: inPod("OTHERHOST"), facts: listens(), want: []string{
			"dropped, wrong_mac",
			"pod shop/cart got the request in a frame for another MAC address than its own",
			"seen: the kernel dropped the request once, in pod shop/cart: OTHERHOST",
		}},
		"rp_filter": {events: asked, drops: one("IP_RPFILTER"), want: []string{
			"dropped, rp_filter",
			"rp_filter on this node refuses the source 10.0.0.31: the route back to it does not lead out by the device that the request came in by",
			"seen: the kernel dropped the request once, on this node: IP_RPFILTER",
		}},
		"martian": {events: asked, drops: one("IP_INVALID_SOURCE"), want: []string{
			"dropped, invalid_address",
			"this node does not allow a packet from 10.0.0.31 to 10.0.0.32 there",
			"seen: the kernel dropped the request once, on this node: IP_INVALID_SOURCE",
		}},
		"no route": {events: asked, drops: one("IP_OUTNOROUTES"), want: []string{
			"dropped, no_route",
			"no route to 10.0.0.32 on this node",
			"seen: the kernel dropped the request once, on this node: IP_OUTNOROUTES",
		}},
		"no route, and there is one": {events: asked, drops: one("IP_OUTNOROUTES"), facts: &Facts{To: to("")}, want: []string{
			"dropped, no_route",
			"no route to 10.0.0.32 on this node",
			"seen: the kernel dropped the request once, on this node: IP_OUTNOROUTES",
			"seen: the route to 10.0.0.32 leads out by cni0",
		}},
		"no route, by way of a gateway": {events: asked, drops: one("IP_OUTNOROUTES"), facts: &Facts{To: &Lookup{Address: endpoint.Addr(), Device: "eth0", Next: netip.MustParseAddr("10.0.0.254")}}, want: []string{
			"dropped, no_route",
			"no route to 10.0.0.32 on this node",
			"seen: the kernel dropped the request once, on this node: IP_OUTNOROUTES",
			"seen: the route to 10.0.0.32 leads out by eth0 by way of 10.0.0.254",
		}},
		"no route, and the look has none": {events: asked, drops: one("IP_OUTNOROUTES"), facts: &Facts{To: to("no_route")}, want: []string{
			"dropped, no_route",
			"no route to 10.0.0.32 on this node",
			"seen: the kernel dropped the request once, on this node: IP_OUTNOROUTES",
			"seen: this node has no route to 10.0.0.32",
		}},
		"no route, forwarding off": {events: asked, drops: one("IP_INNOROUTES"), facts: &Facts{Forwarding: "0", ForwardingKey: "net.ipv4.ip_forward"}, want: []string{
			"dropped, forwarding_off",
			"this node does not forward packets: net.ipv4.ip_forward is 0",
			"seen: the kernel dropped the request once, on this node: IP_INNOROUTES",
			"seen: net.ipv4.ip_forward is 0",
		}},
		"no route, forwarding of a device": {events: asked, drops: one("IP_INNOROUTES"), facts: &Facts{Forwarding: "0", ForwardingKey: "net.ipv4.conf.cni0.forwarding", ForwardingOf: "cni0"}, want: []string{
			"dropped, forwarding_off",
			"this node does not forward what comes in by cni0: net.ipv4.conf.cni0.forwarding is 0",
			"seen: the kernel dropped the request once, on this node: IP_INNOROUTES",
			"seen: net.ipv4.conf.cni0.forwarding is 0",
		}},
		"no route, of a type": {events: asked, drops: one("IP_INNOROUTES"), facts: &Facts{To: to("blackhole")}, want: []string{
			"dropped, route_refuses",
			"a route of this node refuses packets to 10.0.0.32: its type is blackhole",
			"seen: the kernel dropped the request once, on this node: IP_INNOROUTES",
			"seen: the route to 10.0.0.32 is of type blackhole",
		}},
		"no route, for the reply": {events: asked, drops: back("IP_OUTNOROUTES"), facts: &Facts{Back: &Lookup{Address: client.Addr(), Missing: "no_route"}}, want: []string{
			"dropped, no_route",
			"no route to 10.0.0.31 on this node",
			"seen: the kernel dropped the reply once, on this node: IP_OUTNOROUTES",
			"seen: this node has no route to 10.0.0.31",
		}},
		"no route, refused by rp_filter": {events: asked, drops: one("IP_OUTNOROUTES"), facts: &Facts{To: to("rp_filter")}, want: []string{
			"dropped, rp_filter",
			"rp_filter on this node refuses the source 10.0.0.31: the route back to it leads elsewhere",
			"seen: the kernel dropped the request once, on this node: IP_OUTNOROUTES",
			"seen: a look at the routes for a packet from the client is refused as rp_filter refuses it",
		}},
		"a route refuses": {events: asked, drops: by("NOT_SPECIFIED", "dst_discard"), want: []string{
			"dropped, route_refuses",
			"a route on this node refuses packets to 10.0.0.32",
			"seen: the kernel dropped the request 3 times in dst_discard, on this node: NOT_SPECIFIED",
		}},
		"no neighbour": {events: asked, drops: one("NEIGH_FAILED"), want: []string{
			"dropped, no_neighbour",
			"nobody answers for the next hop to 10.0.0.32 on its link: this node could not find out the MAC address",
			"seen: the kernel dropped the request once, on this node: NEIGH_FAILED",
		}},
		"no neighbour, and its entry": {events: asked, drops: one("NEIGH_FAILED"), facts: neighbour("failed"), want: []string{
			"dropped, no_neighbour",
			"nobody answers for the next hop to 10.0.0.32 on its link: this node could not find out the MAC address",
			"seen: the kernel dropped the request once, on this node: NEIGH_FAILED",
			"seen: the neighbour 10.0.0.32 on cni0 is failed",
		}},
		"time to live": {events: asked, drops: by("NOT_SPECIFIED", "ip_forward"), want: []string{
			"dropped, ttl",
			"the time to live of the request ran out on this node",
			"seen: the kernel dropped the request 3 times in ip_forward, on this node: NOT_SPECIFIED",
		}},
		"too large": {events: asked, drops: one("PKT_TOO_BIG"), want: []string{
			"dropped, mtu",
			"the request was too large for the next link, on this node, and is not to be fragmented",
			"seen: the kernel dropped the request once, on this node: PKT_TOO_BIG",
		}},
		"tc": {events: asked, drops: dropAt("TC_INGRESS", "veth1"), want: []string{
			"dropped, tc",
			"a filter or program of tc on this node, at veth1, drops the request",
			"seen: the kernel dropped the request once, on this node: TC_INGRESS",
		}},
		"XDP": {events: asked, drops: dropAt("XDP", "eth0"), want: []string{
			"dropped, xdp",
			"an XDP program on this node, at eth0, drops the request",
			"seen: the kernel dropped the request once, on this node: XDP",
		}},
		"qdisc": {events: asked, drops: one("QDISC_DROP"), want: []string{
			"dropped, qdisc",
			"a queueing discipline on this node drops the request",
			"seen: the kernel dropped the request once, on this node: QDISC_DROP",
		}},
		"device down": {events: asked, drops: one("DEV_READY"), want: []string{
			"dropped, device_down",
			"a device on the way is not up, on this node",
			"seen: the kernel dropped the request once, on this node: DEV_READY",
		}},
		"IPv6 disabled": {events: asked, drops: one("IPV6DISABLED"), want: []string{
			"dropped, ipv6_disabled",
			"IPv6 is disabled on this node",
			"seen: the kernel dropped the request once, on this node: IPV6DISABLED",
		}},
		"IPsec": {events: asked, drops: one("XFRM_POLICY"), want: []string{
			"dropped, xfrm",
			"a policy of IPsec on this node does not allow the request",
			"seen: the kernel dropped the request once, on this node: XFRM_POLICY",
		}},
		"checksum": {events: asked, drops: one("TCP_CSUM"), want: []string{
			"dropped, checksum",
			"the checksum of the request was wrong, on this node",
			"seen: the kernel dropped the request once, on this node: TCP_CSUM",
		}},
		"a bridge": {events: asked, drops: one("NO_TX_TARGET"), want: []string{
			"dropped, bridge",
			"a bridge on this node does not send the request on",
			"seen: the kernel dropped the request once, on this node: NO_TX_TARGET",
		}},
		"netfilter, in a pod": {events: asked, drops: inPod("NETFILTER_DROP"), want: []string{
			"dropped, pod_rule",
			"netfilter in pod shop/cart drops the request",
			"seen: the kernel dropped the request once, in pod shop/cart: NETFILTER_DROP",
		}},
		"netfilter, conntrack full": {events: asked, drops: one("NETFILTER_DROP"), facts: full, want: []string{
			"dropped, conntrack_full",
			"the table of conntrack is full: it drops what begins a connection",
			"seen: the kernel dropped the request once, on this node: NETFILTER_DROP",
			"seen: conntrack has 8 connections of 8 (net.netfilter.nf_conntrack_max)",
		}},
		"netfilter, before the trace": {drops: []KernelDrop{{Reason: "NETFILTER_DROP", Device: "eth0", Headers: &Headers{Protocol: TCP, Source: client, Destination: service}}}, want: []string{
			"dropped, device_rule",
			"netfilter, at eth0, drops the request before the trace sees it: a chain of the family netdev, or one whose priority is below -399",
			"seen: the kernel dropped the request once, on this node: NETFILTER_DROP",
		}},
		"netfilter, no rule seen": {events: asked, drops: one("NETFILTER_DROP"), facts: room, want: []string{
			"dropped, rule",
			"netfilter on this node drops the request; the trace saw no rule that does",
			"seen: the kernel dropped the request once, on this node: NETFILTER_DROP",
		}},
		"another word": {events: asked, drops: by("UDP_PORT_UNKNOWN", "udp_rcv"), want: []string{
			"dropped, kernel",
			"this node dropped the request: UDP_PORT_UNKNOWN",
			"seen: the kernel dropped the request 3 times in udp_rcv, on this node: UDP_PORT_UNKNOWN",
		}},
		"in a named namespace": {events: asked, drops: []KernelDrop{drop("NO_SOCKET", Place{Namespace: "blue"})}, want: []string{
			"dropped, not_listening",
			"no program listens on 10.0.0.32:8080 in the network namespace blue",
			"seen: the kernel dropped the request once, in the network namespace blue: NO_SOCKET",
		}},
		"in a namespace with a program": {events: asked, drops: []KernelDrop{drop("NO_SOCKET", Place{Namespace: "net:[1]", Process: "nginx[812]"})}, want: []string{
			"dropped, not_listening",
			"no program listens on 10.0.0.32:8080 in the network namespace of nginx[812]",
			"seen: the kernel dropped the request once, in the network namespace of nginx[812]: NO_SOCKET",
		}},
		"hairpin, by the kernel's word": {events: own, drops: []KernelDrop{{Reason: "NO_TX_TARGET", Headers: &Headers{Protocol: TCP, Source: client, Destination: itself}}}, facts: &Facts{NoHairpin: map[string]bool{"veth1": true}}, want: []string{
			"dropped, hairpin",
			"the request was for 10.0.0.31 itself: the bridge does not send a frame out by the port that it came in by, whose hairpin mode is off",
			"seen: the kernel dropped the request once, on this node: NO_TX_TARGET",
			"seen: hairpin mode of veth1 is off",
		}},
		// by rules
		"a rule rejects": {events: ruled("drop", &Rule{Action: "reject", Number: 3}), want: []string{
			"refused, rejected_rule",
			"the request was rejected by a rule at ip forward: ip filter FORWARD, by rule 3",
			"seen: the trace of nf_tables saw it end at ip forward",
		}},
		"a rule drops": {events: ruled("drop", &Rule{Action: "drop", Handle: 17}), want: []string{
			"dropped, rule",
			"the request was dropped at ip forward: ip filter FORWARD, by the rule with handle 17",
			"seen: the trace of nf_tables saw it end at ip forward",
		}},
		"a rule without a number": {events: ruled("drop", &Rule{Action: "drop"}), want: []string{
			"dropped, rule",
			"the request was dropped at ip forward: ip filter FORWARD",
			"seen: the trace of nf_tables saw it end at ip forward",
		}},
		"a rule with a comment": {events: ruled("drop", &Rule{Action: "drop", Comment: "no shop", Number: 3}), want: []string{
			"dropped, rule",
			`the request was dropped at ip forward: ip filter FORWARD, by the rule "no shop"`,
			"seen: the trace of nf_tables saw it end at ip forward",
		}},
		"a policy drops": {events: ruled("drop", nil), want: []string{
			"dropped, policy",
			"the request was dropped at ip forward: ip filter FORWARD, its policy",
			"seen: the trace of nf_tables saw it end at ip forward",
		}},
		// by a RST
		"RST": {events: reset, want: []string{
			"refused, reset",
			"10.0.0.32:8080 refused the connection (RST)",
			"seen: a RST from 10.0.0.32:8080 came by",
		}},
		"RST, nobody listens": {events: reset, drops: inPod("NO_SOCKET"), want: []string{
			"refused, not_listening",
			"10.0.0.32:8080 refused the connection: no program listens there in pod shop/cart",
			"seen: a RST from 10.0.0.32:8080 came by",
			"seen: the kernel dropped the request once, in pod shop/cart: NO_SOCKET",
		}},
		"RST, a rule in the pod": {events: reset, drops: inPod("NETFILTER_DROP"), want: []string{
			"refused, rejected_rule",
			"10.0.0.32:8080 refused the connection: a rule in pod shop/cart rejects it",
			"seen: a RST from 10.0.0.32:8080 came by",
			"seen: the kernel dropped the request once, in pod shop/cart: NETFILTER_DROP",
		}},
		"RST, the program listens elsewhere": {events: reset, facts: listens("127.0.0.1:8080"), want: []string{
			"refused, not_listening",
			"10.0.0.32:8080 refused the connection: no program listens there in pod shop/cart",
			"seen: a RST from 10.0.0.32:8080 came by",
			"seen: the programs in pod shop/cart that listen on port 8080 do so at 127.0.0.1:8080 only",
		}},
		"RST, no socket": {events: reset, facts: listens(), want: []string{
			"refused, not_listening",
			"10.0.0.32:8080 refused the connection: no program listens there in pod shop/cart",
			"seen: a RST from 10.0.0.32:8080 came by",
			"seen: no socket in pod shop/cart listens on port 8080",
		}},
		"RST, a program listens": {events: reset, facts: listens("10.0.0.32:8080"), want: []string{
			"refused, reset",
			"10.0.0.32:8080 refused the connection (RST)",
			"seen: a RST from 10.0.0.32:8080 came by",
		}},
		// by ICMP
		"ICMP, port unreachable": {events: told("10.0.0.32", "port unreachable", asked...), want: []string{
			"refused, reset",
			"10.0.0.32 refused it (ICMP port unreachable)",
			"seen: ICMP from 10.0.0.32 told the client: port unreachable",
		}},
		"ICMP, port unreachable, nobody listens": {events: told("10.0.0.32", "port unreachable", asked...), drops: inPod("NO_SOCKET"), want: []string{
			"refused, not_listening",
			"10.0.0.32:8080 refused the connection: no program listens there in pod shop/cart",
			"seen: ICMP from 10.0.0.32 told the client: port unreachable",
			"seen: the kernel dropped the request once, in pod shop/cart: NO_SOCKET",
		}},
		"ICMP, port unreachable, a rule": {events: told("10.0.0.32", "port unreachable", asked...), drops: inPod("NETFILTER_DROP"), want: []string{
			"refused, rejected_rule",
			"10.0.0.32 refused it: a rule in pod shop/cart rejects it",
			"seen: the kernel dropped the request once, in pod shop/cart: NETFILTER_DROP",
			"seen: ICMP from 10.0.0.32 told the client: port unreachable",
		}},
		"ICMP, prohibited": {events: told("10.0.0.254", "communication administratively prohibited", asked...), want: []string{
			"refused, prohibited",
			"10.0.0.254 refused it: a rule or a route there prohibits it",
			"seen: ICMP from 10.0.0.254 told the client: communication administratively prohibited",
		}},
		"ICMP, prohibited by a route": {events: told("10.0.0.254", "communication administratively prohibited", asked...), facts: &Facts{To: to("prohibit")}, want: []string{
			"refused, route_refuses",
			"a route of this node refuses packets to 10.0.0.32: its type is prohibit",
			"seen: the route to 10.0.0.32 is of type prohibit",
			"seen: ICMP from 10.0.0.254 told the client: communication administratively prohibited",
		}},
		"ICMP, host unreachable": {events: told("10.0.0.254", "host unreachable", asked...), want: []string{
			"dropped, unreachable",
			"10.0.0.254 did not send it on: host unreachable",
			"seen: ICMP from 10.0.0.254 told the client: host unreachable",
		}},
		"ICMP, host unreachable, and the setting": {events: told("10.0.0.254", "host unreachable", asked...), facts: neighbour("failed"), want: []string{
			"unanswered, no_neighbour",
			"nobody answers for 10.0.0.32 on cni0: its MAC address could not be found out",
			"seen: the neighbour 10.0.0.32 on cni0 is failed",
			"seen: ICMP from 10.0.0.254 told the client: host unreachable",
		}},
		"ICMP, time exceeded": {events: told("10.0.0.254", "time exceeded", asked...), want: []string{
			"dropped, ttl",
			"the time to live of the request ran out at 10.0.0.254",
			"seen: ICMP from 10.0.0.254 told the client: time exceeded",
		}},
		"ICMP, too large": {events: told("10.0.0.254", "fragmentation needed", asked...), want: []string{
			"dropped, mtu",
			"the request was too large to be sent on at 10.0.0.254",
			"seen: ICMP from 10.0.0.254 told the client: fragmentation needed",
		}},
		// by settings
		"silence": {events: asked, want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		}},
		"silence, and time is short": {events: late, want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		}},
		"silence, forwarding off": {events: early, facts: &Facts{Forwarding: "0", ForwardingKey: "net.ipv4.ip_forward", To: to("")}, want: []string{
			"unanswered, forwarding_off",
			"this node does not forward packets: net.ipv4.ip_forward is 0",
			"seen: net.ipv4.ip_forward is 0",
		}},
		"silence, forwarding off for a device": {events: early, facts: &Facts{Forwarding: "0", ForwardingKey: "net.ipv4.conf.cni0.forwarding", ForwardingOf: "cni0", To: to("")}, want: []string{
			"unanswered, forwarding_off",
			"this node does not forward what comes in by cni0: net.ipv4.conf.cni0.forwarding is 0",
			"seen: net.ipv4.conf.cni0.forwarding is 0",
		}},
		"silence, forwarding off and a local server": {events: early, facts: &Facts{Forwarding: "0", ForwardingKey: "net.ipv4.ip_forward", To: &Lookup{Address: service.Addr(), Local: true}}, want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip prerouting, on its way to 10.96.0.1:80",
		}},
		"silence, conntrack full": {events: early, facts: full, want: []string{
			"unanswered, conntrack_full",
			"the table of conntrack is full: it drops what begins a connection",
			"seen: conntrack has 8 connections of 8 (net.netfilter.nf_conntrack_max)",
		}},
		"silence, conntrack nearly full": {events: early, facts: room, want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip prerouting, on its way to 10.96.0.1:80",
		}},
		"silence, rp_filter by a look": {events: early, facts: &Facts{To: to("rp_filter"), ReversePath: map[string]int{"cni0": 1}}, want: []string{
			"unanswered, rp_filter",
			"rp_filter refuses the source 10.0.0.31 at cni0: the route to it leads elsewhere",
			"seen: rp_filter of cni0 is 1",
		}},
		"silence, rp_filter by a counter": {events: early, facts: rose("TcpExt IPReversePathFilter"), want: []string{
			"unanswered, rp_filter",
			"rp_filter refuses the source 10.0.0.31 at cni0: the route to it leads elsewhere",
			"seen: rp_filter of cni0 is 1",
			"seen: the counter TcpExt IPReversePathFilter of this node rose by 3 meanwhile, for this connection or another",
		}},
		"silence, no route": {events: early, facts: &Facts{To: to("no_route")}, want: []string{
			"unanswered, no_route",
			"this node has no route to 10.0.0.32",
			"seen: this node has no route to 10.0.0.32",
		}},
		"silence, a route of a type": {events: early, facts: &Facts{To: to("unreachable")}, want: []string{
			"unanswered, route_refuses",
			"a route of this node refuses packets to 10.0.0.32: its type is unreachable",
			"seen: the route to 10.0.0.32 is of type unreachable",
		}},
		"silence, a header refused": {events: early, facts: rose("Ip InHdrErrors"), want: []string{
			"unanswered, ttl",
			"a header of IP was refused on this node, most likely since its time to live ran out",
			"seen: the counter Ip InHdrErrors of this node rose by 3 meanwhile, for this connection or another",
		}},
		"silence, no neighbour": {events: asked, facts: neighbour("failed"), want: []string{
			"unanswered, no_neighbour",
			"nobody answers for 10.0.0.32 on cni0: its MAC address could not be found out",
			"seen: the neighbour 10.0.0.32 on cni0 is failed",
		}},
		"silence, no neighbour so far": {events: asked, facts: neighbour("incomplete"), want: []string{
			"unanswered, no_neighbour",
			"nobody has answered for 10.0.0.32 on cni0 so far: its MAC address is not known",
			"seen: the neighbour 10.0.0.32 on cni0 is incomplete",
		}},
		"silence, a neighbour": {events: asked, facts: neighbour("reachable"), want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		}},
		"silence, no route back": {events: asked, facts: &Facts{Endpoint: &Endpoint{Place: pod, Back: &Lookup{Address: client.Addr(), Missing: "no_route"}}}, want: []string{
			"unanswered, no_route",
			"no reply came by: there is no route back to 10.0.0.31 in pod shop/cart",
			"seen: a look at the routes there: no_route",
		}},
		"silence, the listen queue": {events: asked, facts: waits("TcpExt ListenOverflows", 5, 2), want: []string{
			"unanswered, listen_queue",
			"no reply came by: the listen queue of 10.0.0.32:8080 in pod shop/cart is full, its program does not accept connections fast enough",
			"seen: the counter TcpExt ListenOverflows of pod shop/cart rose by 2 meanwhile, for this connection or another",
			"seen: connections that wait at 10.0.0.32:8080 to be accepted: 5",
		}},
		"silence, nobody waits": {events: asked, facts: waits("TcpExt ListenOverflows", 0, 2), want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		}},
		"silence, the receive buffer": {events: asked, facts: waits("Udp RcvbufErrors", 4096, 2), want: []string{
			"unanswered, receive_buffer",
			"no reply came by: the receive buffer of 10.0.0.32:8080 in pod shop/cart is full, its program does not read fast enough",
			"seen: the counter Udp RcvbufErrors of pod shop/cart rose by 2 meanwhile, for this connection or another",
			"seen: bytes that wait at 10.0.0.32:8080 to be read: 4096",
		}},
		"silence, in a bridge": {events: bridged, want: []string{
			"unanswered, bridge",
			"no reply came by: cni0 took the request in and did not send it on",
			"seen: the request came to cni0 by veth1, and to none of the hooks by which it would leave it",
		}},
		"silence, in a bridge, conntrack full": {events: handed, facts: full, want: []string{
			"unanswered, conntrack_full",
			"the table of conntrack is full: it drops what begins a connection",
			"seen: conntrack has 8 connections of 8 (net.netfilter.nf_conntrack_max)",
		}},
		"silence, in a bridge, conntrack not full": {events: handed, facts: room, want: []string{
			"unanswered, bridge",
			"no reply came by: cni0 took the request in and did not send it on",
			"seen: the request came to cni0 by veth1, and to none of the hooks by which it would leave it",
		}},
		"silence, to itself": {events: own, want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip prerouting, on its way to 10.0.0.31:8080",
		}},
		"silence, to itself, hairpin mode off": {events: own, facts: &Facts{NoHairpin: map[string]bool{"veth1": true}}, want: []string{
			"unanswered, hairpin",
			"the request was for 10.0.0.31 itself: the bridge does not send a frame out by the port that it came in by, whose hairpin mode is off",
			"seen: the port of 10.0.0.31 has hairpin mode off",
		}},
		"ICMP, fragments not put together": {events: told("10.0.0.254", "fragment reassembly time exceeded", asked...), want: []string{
			"dropped, unreachable",
			"10.0.0.254 did not send it on: fragment reassembly time exceeded",
			"seen: ICMP from 10.0.0.254 told the client: fragment reassembly time exceeded",
		}},
		"ICMP, port unreachable, and no request": {events: told("10.0.0.32", "port unreachable"), want: []string{
			"refused, reset",
			"10.0.0.32 refused it (ICMP port unreachable)",
			"seen: ICMP from 10.0.0.32 told the client: port unreachable",
		}},
		"only a reply": {events: told("10.0.0.254", "host unreachable"), want: []string{
			"dropped, unreachable",
			"10.0.0.254 did not send it on: host unreachable",
			"seen: ICMP from 10.0.0.254 told the client: host unreachable",
		}},
		// of the trace's own request
		"nothing came by": {want: []string{
			"unseen",
			"no packet of this connection came by",
		}},
		"sent, nothing came by": {sent: &Sent{From: pod, Port: 40000, Error: "connection timed out"}, want: []string{
			"unanswered, unknown",
			"no packet of the request came by; the request from pod shop/cart ended with: connection timed out",
			"seen: the request from pod shop/cart ended with: connection timed out",
		}},
		"sent, without a route": {sent: &Sent{From: pod, Port: 40000, Error: "network is unreachable"}, want: []string{
			"unanswered, no_route",
			"pod shop/cart has no route to 10.96.0.1: no packet left it",
			"seen: the request from pod shop/cart ended with: network is unreachable",
		}},
		"sent, and nobody answered": {events: asked, sent: &Sent{From: pod, Port: 40000, Error: "connection timed out"}, want: []string{
			"unanswered, unknown",
			"no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
			"seen: the request from pod shop/cart ended with: connection timed out",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(&Record{
				Query: q, Events: tt.events, Drops: tt.drops, Facts: tt.facts, Sent: tt.sent, Lasted: 10 * time.Second,
				Devices: []Device{{Index: 1, Name: "cni0", Kind: "bridge"}, {Index: 2, Name: "veth1", Kind: "veth", Bridge: "cni0"}, {Index: 3, Name: "veth2", Kind: "veth", Bridge: "cni0"}},
			})
			got := []string{string(w.Verdict)}
			if w.Cause != nil {
				got[0] += ", " + string(w.Cause.Kind)
			}
			got = append(got, w.Meaning)
			if w.Cause != nil {
				for _, e := range w.Cause.Evidence {
					got = append(got, "seen: "+e)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestICMPNames: each message by its type and code, and no other.
func TestICMPNames(t *testing.T) {
	want := map[string]string{
		"icmp 0/0":    "echo reply",
		"icmp 11/0":   "time exceeded",
		"icmp 11/1":   "fragment reassembly time exceeded",
		"icmp 11/2":   "time exceeded",
		"icmp 12/0":   "parameter problem",
		"icmp 3/0":    "network unreachable",
		"icmp 3/1":    "host unreachable",
		"icmp 3/10":   "host administratively prohibited",
		"icmp 3/13":   "communication administratively prohibited",
		"icmp 3/14":   "unreachable (code 14)",
		"icmp 3/15":   "unreachable (code 15)",
		"icmp 3/2":    "protocol unreachable",
		"icmp 3/3":    "port unreachable",
		"icmp 3/4":    "fragmentation needed",
		"icmp 3/9":    "network administratively prohibited",
		"icmp 8/0":    "echo request",
		"icmp6 1/0":   "no route to the destination",
		"icmp6 1/1":   "communication administratively prohibited",
		"icmp6 1/14":  "unreachable (code 14)",
		"icmp6 1/15":  "unreachable (code 15)",
		"icmp6 1/3":   "address unreachable",
		"icmp6 1/4":   "port unreachable",
		"icmp6 1/5":   "source address prohibited",
		"icmp6 1/6":   "route to the destination prohibited",
		"icmp6 128/0": "echo request",
		"icmp6 129/0": "echo reply",
		"icmp6 2/0":   "packet too big",
		"icmp6 3/0":   "time exceeded",
		"icmp6 3/1":   "fragment reassembly time exceeded",
		"icmp6 3/2":   "time exceeded",
		"icmp6 4/0":   "parameter problem",
	}
	named := make(map[string]bool)
	for message, name := range want {
		t.Run(message, func(t *testing.T) {
			var kind, code byte
			proto, numbers, _ := strings.Cut(message, " ")
			if _, err := fmt.Sscanf(numbers, "%d/%d", &kind, &code); err != nil {
				t.Fatal(err)
			}
			p := ICMP
			if proto == ICMPv6.String() {
				p = ICMPv6
			}
			if got := ICMPName(p, kind, code); got != name {
				t.Errorf("it is %q, want %q", got, name)
			}
		})
		named[message[:strings.Index(message, "/")]] = true
	}
	t.Run("others", func(t *testing.T) {
		for _, p := range []Protocol{ICMP, ICMPv6} {
			for kind := range 256 {
				if got := ICMPName(p, byte(kind), 0); (got != "") != named[p.String()+" "+strconv.Itoa(kind)] {
					t.Errorf("%s %d is %q", p, kind, got)
				}
			}
		}
	})
}

// TestText: the page of a path, whole.
func TestText(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	on := Handing{Key: "net.bridge.bridge-nf-call-iptables", Value: "1", Flag: "nf_call_iptables"}
	wrong := append(request(0, 1, "tcp/1", client), at(10, 2, IP, "prerouting", 3, 0, endpoint, client, "tcp/2"))
	wrong[2].Headers.Flags = "SYN ACK"
	connections := func(n int) (list []Connection) {
		for range n {
			list = append(list, Connection{Protocol: TCP, Original: Tuple{client, service}, Reply: Tuple{endpoint, client}})
		}
		return list
	}
	crossed := func(devices ...Device) Record {
		e := at(10, 2, Bridge, "forward", 3, 2, endpoint, client, "tcp/2")
		e.Headers.Flags = "SYN ACK"
		return Record{Events: append(request(0, 1, "tcp/1", client), e), Devices: devices}
	}
	many := func(n int) (all []Event) {
		for i := range n {
			all = append(all, request(int64(i*10), uint32(i+1), "tcp/"+strconv.Itoa(i), client)...)
		}
		return all
	}
	for name, tt := range map[string]struct {
		record Record
		want   string
	}{
		"nothing": {want: `10.0.0.31 → 10.96.0.1:80: nothing came by
  no packet of this connection came by
  make the request while the trace listens, or have --send make it; --for gives it more time
`},
		"no reply": {record: Record{Events: many(1)}, want: `10.0.0.31 → 10.96.0.1:80: no reply
  no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080
  it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80
├─ ip prerouting
└─ ip postrouting
`},
		"no reply to two": {record: Record{Events: many(2)}, want: `10.0.0.31 → 10.96.0.1:80: no reply
  no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080
  it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80  (and 1 more packet this way)
├─ ip prerouting
└─ ip postrouting
`},
		"no reply to three": {record: Record{Events: many(3)}, want: `10.0.0.31 → 10.96.0.1:80: no reply
  no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080
  it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80  (and 2 more packets this way)
├─ ip prerouting
└─ ip postrouting
`},
		"not translated": {record: Record{Events: wrong, Handing: on}, want: `10.0.0.31 → 10.96.0.1:80: the reply was never translated back
  the reply from 10.0.0.32 went through netfilter and was not translated back: client expects 10.96.0.1
  seen: the reply was last seen as from 10.0.0.32:8080
  conntrack did not know the connection: see conntrack -L, and rules with notrack

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80
├─ ip prerouting
└─ ip postrouting

REPLY  tcp SYN ACK  10.0.0.32:8080 → 10.0.0.31:40000
├─ ip prerouting
└✗ never translated: it arrives as from 10.0.0.32:8080, the client expects 10.96.0.1:80
`},
		"br_netfilter is there": {record: Record{Events: many(1), Handing: on, Devices: []Device{{Index: 1, Name: "cni0", Kind: "bridge", MAC: "02:00:00:00:00:01"}}}, want: `10.0.0.31 → 10.96.0.1:80: no reply
  no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080
  it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there

  cni0  bridge (02:00:00:00:00:01), hands packets to netfilter: net.bridge.bridge-nf-call-iptables is 1, its own flag nf_call_iptables is 0

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80
├─ ip prerouting   from cni0
└─ ip postrouting
`},
		"br_netfilter is absent": {record: Record{Events: many(1), Devices: []Device{{Index: 1, Name: "cni0", Kind: "bridge", MAC: "02:00:00:00:00:01"}}}, want: `10.0.0.31 → 10.96.0.1:80: no reply
  no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080
  it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there

  cni0  bridge (02:00:00:00:00:01), hands no packets to netfilter: br_netfilter is not loaded

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80
├─ ip prerouting   from cni0
└─ ip postrouting
`},
		"an unknown bridge": {record: crossed(Device{Index: 2, Name: "veth1"}, Device{Index: 3, Name: "veth2"}), want: `10.0.0.31 → 10.96.0.1:80: the reply was never translated back
  the reply crossed the bridge at layer 2 from 10.0.0.32 and was never translated back: client expects 10.96.0.1; br_netfilter is not loaded
  seen: br_netfilter is not loaded
  nfguard apply loads it once, systemctl start nfguard keeps it right

  veth1
  veth2

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80
├─ ip prerouting
└─ ip postrouting  to veth2

REPLY  tcp SYN ACK  10.0.0.32:8080 → 10.0.0.31:40000
├─ bridge forward  veth2 → veth1
└✗ never in netfilter, never translated: it arrives as from 10.0.0.32:8080, the client expects 10.96.0.1:80
`},
		"a known bridge": {record: crossed(Device{Index: 2, Name: "veth1", Bridge: "cni0"}, Device{Index: 3, Name: "veth2", Bridge: "cni0"}), want: `10.0.0.31 → 10.96.0.1:80: the reply was never translated back
  the reply crossed cni0 at layer 2 from 10.0.0.32 and was never translated back: client expects 10.96.0.1; br_netfilter is not loaded
  seen: br_netfilter is not loaded
  nfguard apply loads it once, systemctl start nfguard keeps it right

  veth1  port of cni0
  veth2  port of cni0

REQUEST  tcp SYN  10.0.0.31:40000 → 10.96.0.1:80
├─ ip prerouting
└─ ip postrouting  to veth2

REPLY  tcp SYN ACK  10.0.0.32:8080 → 10.0.0.31:40000
├─ bridge forward  veth2 → veth1
└✗ never in netfilter, never translated: it arrives as from 10.0.0.32:8080, the client expects 10.96.0.1:80
`},
		"three connections": {record: Record{Connections: connections(3)}, want: `10.0.0.31 → 10.96.0.1:80: nothing came by
  no packet of this connection came by
  make the request while the trace listens, or have --send make it; --for gives it more time

  conntrack: tcp 10.0.0.31:40000 → 10.96.0.1:80; replies are due from 10.0.0.32:8080, and it has seen none
  conntrack: tcp 10.0.0.31:40000 → 10.96.0.1:80; replies are due from 10.0.0.32:8080, and it has seen none
  conntrack: tcp 10.0.0.31:40000 → 10.96.0.1:80; replies are due from 10.0.0.32:8080, and it has seen none
`},
		"four connections": {record: Record{Connections: connections(4)}, want: `10.0.0.31 → 10.96.0.1:80: nothing came by
  no packet of this connection came by
  make the request while the trace listens, or have --send make it; --for gives it more time

  conntrack: tcp 10.0.0.31:40000 → 10.96.0.1:80; replies are due from 10.0.0.32:8080, and it has seen none
  conntrack: tcp 10.0.0.31:40000 → 10.96.0.1:80; replies are due from 10.0.0.32:8080, and it has seen none
  conntrack: tcp 10.0.0.31:40000 → 10.96.0.1:80; replies are due from 10.0.0.32:8080, and it has seen none
  conntrack: and 1 more
`},
	} {
		t.Run(name, func(t *testing.T) {
			tt.record.Query, tt.record.Lasted = q, 10*time.Second
			var got strings.Builder
			New(&tt.record).Text(&got, nil)
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestComparedWithNothing: a direction of which one of two traces has no packet.
func TestComparedWithNothing(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	trace := func(events []Event) *Path { return New(&Record{Query: q, Events: events}) }
	both := append(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client)...)
	for name, tt := range map[string]struct {
		before, after []Event
		want          string
	}{
		"no reply before": {before: request(0, 1, "tcp/1", client), after: both, want: `10.0.0.31 → 10.96.0.1:80
  before (00:00:00,  ): no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080
  after  (00:00:00,  ): the reply reached the client as from 10.96.0.1:80, whom it had asked

REQUEST           before  after
  ip prerouting           
  ip postrouting          

REPLY             before  after
+ ip prerouting   absent  
+ ip postrouting  absent  
✗ before: none came by
`},
		"a reply in both": {before: both, after: both, want: `10.0.0.31 → 10.96.0.1:80
  before (00:00:00,  ): the reply reached the client as from 10.96.0.1:80, whom it had asked
  after  (00:00:00,  ): the reply reached the client as from 10.96.0.1:80, whom it had asked

REQUEST           before  after
  ip prerouting           
  ip postrouting          

REPLY             before  after
  ip prerouting           
  ip postrouting          
`},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			Compare(trace(tt.before), trace(tt.after)).Text(&got, nil)
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPictureLeavesOutRules: it has room for so many.
func TestPictureLeavesOutRules(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	for rules, want := range map[int]bool{12: false, 13: true} {
		t.Run(strconv.Itoa(rules), func(t *testing.T) {
			events := request(0, 1, "tcp/1", client)
			for i := range rules {
				e := at(1, 1, IP, "postrouting", 0, 3, client, endpoint, "tcp/1")
				e.Own, e.Backend, e.Table, e.Chain, e.Rule, e.Verdict = false, "nf_tables", "ip nat", "POSTROUTING", &Rule{Handle: uint64(i + 1), Action: "jump X"}, "jump X"
				events = append(events, e)
			}
			var got strings.Builder
			if err := New(&Record{Query: q, Events: events}).SVG(&got); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(got.String(), ">and 1 more rules<") != want || strings.Contains(got.String(), " more rules") != want {
				t.Errorf("it says that it leaves rules out: %t", !want)
			}
		})
	}
}
