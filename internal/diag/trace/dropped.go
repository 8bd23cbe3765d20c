package trace

import "fmt"

// sayConntrack is said by settings, too.
const sayConntrack = "the table of conntrack is full: it drops what begins a connection"

// What to do, for each kind.
const (
	nextConntrack   = "raise net.netfilter.nf_conntrack_max, or find who opens so many connections: conntrack -S, conntrack -L"
	nextReversePath = "a route to the source by that device, or net.ipv4.conf.DEVICE.rp_filter = 2 (loose) or 0; the larger one of DEVICE and all counts"
	nextRoute       = "look at the routes, ip route get tells which one holds; where pods of other nodes are behind it, the CNI's plug-in sets them"
	nextNeighbour   = "see whether a pod still has that address, and whether its link is up: ip neigh, and ip addr in the pod"
	nextTTL         = "look for a loop of routes, and at what the client begins with: net.ipv4.ip_default_ttl, net.ipv6.conf.DEVICE.hop_limit"
	nextMTU         = "the MTU of the pods has to fit the smallest link on the way, less what a tunnel adds; see that ICMP's \"fragmentation needed\" is not dropped"
	nextQueue       = "see what the program is busy with; ss -lntum in the pod shows its queues; net.core.somaxconn and its backlog bound the one of connections"
	nextBridge      = "look at the port: bridge -d link show tells isolated, its state, its VLANs and hairpin"
)

func nextForwarding(f *Facts) string {
	return fmt.Sprintf("sysctl -w %[1]s=1 sets it once; \"%[1]s\" = 1 below [sysctl] of nfguard.toml keeps it set", f.ForwardingKey)
}

// dropped says what a drop of the kernel's means.
func (w *Path) dropped(d *Drop, f *Facts) {
	w.Verdict = Dropped
	if f == nil {
		f = &Facts{}
	}
	w.Cause = d.from(d.kind())
	local := onNode(d.Place)
	says := func(next, format string, args ...any) {
		w.Meaning, w.Next = fmt.Sprintf(format, args...), next
	}
	also := func(k Kind, evidence string) {
		w.Cause.Kind = k
		w.Cause.Evidence = append(w.Cause.Evidence, evidence)
	}
	to := d.Destination.Addr()
	switch w.Cause.Kind {
	case NotListening:
		says(nextListening, "no program listens on %s %s", place(d.Destination), d.Place.in())
	case ListenQueue:
		says(nextQueue, "the listen queue of %s %s is full: its program does not accept connections fast enough", place(d.Destination), d.Place.in())
	case ReceiveBuffer:
		says(nextQueue, "the receive buffer of %s %s is full: its program does not read fast enough", place(d.Destination), d.Place.in())
	case SocketFilter:
		says("bpftool cgroup tree and bpftool prog show list such programs", "a BPF program of a socket or a cgroup %s drops the %s", d.Place.in(), d.Direction)
	case OtherHost:
		says("compare the address's entry in ip neigh with the MAC address of the pod: an entry that outlived a pod is removed by ip neigh flush",
			"%s got the %s in a frame for another MAC address than its own", d.Place, d.Direction)
	case ReversePath:
		says(nextReversePath, "rp_filter %s refuses the source %s: the route back to it does not lead out by the device that the %s came in by", d.Place.in(), d.Source.Addr(), d.Direction)
	case Martian:
		says("see who sends from that address, and that both ends have the addresses that they should", "%s does not allow a packet from %s to %s there", d.Place, d.Source.Addr(), to)
	case NoRoute, RouteRefuses:
		w.noRoute(d, f, says, also)
	case NoNeighbour:
		says(nextNeighbour, "nobody answers for the next hop to %s on its link: %s could not find out the MAC address", to, d.Place)
		if local && f.To != nil && f.To.Address == to && f.To.lost() {
			also(NoNeighbour, f.To.neighbourEvidence())
		}
	case TTL:
		says(nextTTL, "the time to live of the %s ran out %s", d.Direction, d.Place.in())
	case MTU:
		says(nextMTU, "the %s was too large for the next link, %s, and is not to be fragmented", d.Direction, d.Place.in())
	case TC:
		says("tc filter show dev DEVICE ingress, and egress, list them; also bpftool net", "a filter or program of tc %s%s drops the %s", d.Place.in(), d.at(), d.Direction)
	case XDP:
		says("bpftool net and ip -d link show such programs", "an XDP program %s%s drops the %s", d.Place.in(), d.at(), d.Direction)
	case Queue:
		says("tc -s qdisc show lists them with what they have dropped; a CNI bandwidth limit is one", "a queueing discipline %s%s drops the %s", d.Place.in(), d.at(), d.Direction)
	case DeviceDown:
		says("ip link shows it", "a device on the way is not up, %s", d.Place.in())
	case NoIPv6:
		says("see net.ipv6.conf.*.disable_ipv6 there", "IPv6 is disabled %s", d.Place.in())
	case IPsec:
		says("ip xfrm policy lists them", "a policy of IPsec %s does not allow the %s", d.Place.in(), d.Direction)
	case Checksum:
		says("look at the offloads of the devices on the way: ethtool -k", "the checksum of the %s was wrong, %s", d.Direction, d.Place.in())
	case BridgeDrops:
		w.bridgeDrops(d, f, says, also)
	case ByRule:
		w.netfilterDrops(d, f, says, also)
	case KernelDrops, Unknown, RejectedByRule, Reset, Prohibited, ByPolicy, PodRule, DeviceRule, ForwardingOff, Unreachable, ConntrackFull, Hairpin, Untranslate:
		// All but the first are no reasons of the kernel's.
		says("the kernel's word and function tell what it was: include/net/dropreason-core.h explains the words", "%s dropped the %s: %s", d.Place, d.Direction, d.Reason)
	}
}

// at names the device, where it is one of this node.
func (d *Drop) at() string {
	if d.Device == "" {
		return ""
	}
	return ", at " + d.Device + ","
}

type (
	sayer func(next, format string, args ...any)
	adder func(k Kind, evidence string)
)

func (w *Path) noRoute(d *Drop, f *Facts, says sayer, also adder) {
	to := d.Destination.Addr()
	look := f.To
	if d.Direction == Reply {
		look = f.Back
	}
	switch {
	case onNode(d.Place) && f.Forwarding == "0" && (f.ForwardingOf == "" || d.Direction == Request):
		also(ForwardingOff, f.forwardingEvidence())
		says(nextForwarding(f), "%s", f.notForwarding())
	case onNode(d.Place) && look != nil && look.Missing == "rp_filter":
		also(ReversePath, look.evidence())
		says(nextReversePath, "rp_filter %s refuses the source %s: the route back to it leads elsewhere", d.Place.in(), d.Source.Addr())
	case onNode(d.Place) && look != nil && look.Missing != "" && look.Missing != "no_route":
		also(RouteRefuses, look.evidence())
		says(nextRoute, "a route of this node refuses packets to %s: its type is %s", look.Address, look.Missing)
	case w.Cause.Kind == RouteRefuses:
		says(nextRoute, "a route %s refuses packets to %s", d.Place.in(), to)
	default:
		if onNode(d.Place) && look != nil && look.Address == to {
			w.Cause.Evidence = append(w.Cause.Evidence, look.evidence())
		}
		says(nextRoute, "no route to %s %s", to, d.Place.in())
	}
}

func (w *Path) bridgeDrops(d *Drop, f *Facts, says sayer, also adder) {
	if first := w.asking(); first != nil && d.Destination.Addr() == w.Client && d.Direction == Request && f.NoHairpin[first.portIn()] {
		also(Hairpin, fmt.Sprintf("hairpin mode of %s is off", first.portIn()))
		w.hairpin()
		return
	}
	says(nextBridge, "a bridge %s does not send the %s on", d.Place.in(), d.Direction)
}

func (w *Path) netfilterDrops(d *Drop, f *Facts, says sayer, also adder) {
	switch {
	case !onNode(d.Place):
		w.Cause.Kind = PodRule
		says(nextPodRule, "netfilter %s drops the %s", d.Place.in(), d.Direction)
	case f.conntrackFull():
		also(ConntrackFull, f.conntrackEvidence())
		says(nextConntrack, sayConntrack)
	case !w.seenAt(d):
		w.Cause.Kind = DeviceRule
		says("nft list ruleset shows the chains of family netdev, nft list hooks all of them", "netfilter%s drops the %s before the trace sees it: a chain of the family netdev, or one whose priority is below -399", d.at(), d.Direction)
	default:
		says("nft list hooks shows who has one there, conntrack -S what conntrack has dropped", "netfilter on this node drops the %s; the trace saw no rule that does", d.Direction)
	}
}

// seenAt reports whether a hook saw packets of the drop's direction.
func (w *Path) seenAt(d *Drop) bool { return w.first(d.Direction) != nil }
