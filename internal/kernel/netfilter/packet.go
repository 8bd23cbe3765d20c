package netfilter

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Route is what two pods of one bridge send each other, as far as it is known.
type Route struct {
	Bridge   string
	Index    int // the bridge's
	IPv6     bool
	From, To netip.Prefix // each one address, or the pods' network
	Ports    []string     // of the bridge, behind which pods are

	// Connected are the networks that the host itself is in: no Service has an
	// address there.
	Connected []netip.Prefix
}

// moment is a part of a connection.
type moment uint8

const (
	first moment = iota // its first packet
	later               // another of who began it
	reply               // what the other sends
)

// moments are all of them: a connection needs each.
var moments = []moment{first, later, reply}

// packet is one of a [Route] at a hook, with what netfilter knows of it.
// br_netfilter passes it on as if it came in and went out by the bridge.
type packet struct {
	*Route
	service  bool // it is for a Service, and its destination is translated
	protocol byte
	moment   moment
	port     int   // that it is for, from 1 on; 0: not known
	ports    *cuts // at which what is asked for the port changes; nil: not kept

	hook     hook
	priority int  // of the chain that it is in
	family   byte // of the chain that it is in
	mark     bits
	marked   bool // a rule has changed the mark
	strange  bool // a rule may have kept conntrack from it
}

// States and statuses of conntrack: NF_CT_STATE_BIT, and XT_CONNTRACK_STATE_BIT,
// which is the same for these; IPS_*.
const (
	stateEstablished = 1 << 1
	stateNew         = 1 << 3

	statusExpected  = 1 << 0
	statusSeenReply = 1 << 1
	statusConfirmed = 1 << 3
	statusDNAT      = 1 << 5
)

// proxyMarks are the bits of the mark that kube-proxy sets in what it masquerades
// and drops. What pods send each other by their own addresses has neither, nor
// has what they send to a Service, unless it is their own or kube-proxy
// masquerades all.
const proxyMarks = 0x4000 | 0x8000

// conntrackPriority and natPriority are where a connection is known to conntrack,
// and where its destination is translated: NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_DST.
const (
	conntrackPriority = -200
	natPriority       = -100
)

// packet is one of the route.
func (r *Route) packet(service bool, protocol byte, m moment) packet {
	mark := bits{value: make([]byte, 4), known: binary.NativeEndian.AppendUint32(nil, proxyMarks)}
	return packet{Route: r, service: service, protocol: protocol, moment: m, mark: mark}
}

// frame reports that the chain is one for frames: the devices are ports.
func (p *packet) frame() bool { return p.hook.frames() }

// untranslated reports that its destination is still that of the Service.
func (p *packet) untranslated() bool {
	return p.service && p.moment != reply && p.hook.before()
}

// state is that of conntrack.
func (p *packet) state() bits {
	if p.strange || p.hook == atIngress || p.hook == bridgePrerouting || p.hook == prerouting && p.priority <= conntrackPriority {
		return bits{}
	}
	state := uint32(stateEstablished)
	if p.moment == first {
		state = stateNew
	}
	return exactly(binary.NativeEndian.AppendUint32(nil, state))
}

// status is that of conntrack, as far as it is known.
func (p *packet) status() bits {
	if p.state().value == nil {
		return bits{}
	}
	known, have := uint32(statusExpected|statusDNAT|statusSeenReply|statusConfirmed), uint32(0)
	if p.service {
		have |= statusDNAT
		if p.untranslated() && p.moment == first && p.priority <= natPriority {
			have &^= statusDNAT
		}
	}
	switch p.moment {
	case first:
	case later:
		have |= statusSeenReply | statusConfirmed
	case reply:
		have |= statusConfirmed
		if p.hook.before() { // it may be the first, which has it set
			known &^= statusSeenReply
		} else {
			have |= statusSeenReply
		}
	}
	return bits{value: binary.NativeEndian.AppendUint32(nil, have), known: binary.NativeEndian.AppendUint32(nil, known)}
}

// address is the source or the destination.
func (p *packet) address(destination bool) bits {
	a := p.From
	if destination != (p.moment == reply) {
		a = p.To
	}
	// The source of a reply is translated back behind all hooks.
	if destination && p.untranslated() {
		return bits{outside: p.Connected}
	}
	if !a.IsValid() {
		return bits{}
	}
	return beginning(a.Addr().AsSlice(), a.Bits())
}

// header is the network header: the addresses, the protocol and the version.
func (p *packet) header() bits {
	source, size, protocol := 12, 20, 9
	if p.IPv6 {
		source, size, protocol = 8, 40, 6
	}
	h := bits{value: make([]byte, size), known: make([]byte, size)}
	h.value[protocol], h.known[protocol] = p.protocol, 0xff
	for i, a := range []bits{p.address(false), p.address(true)} {
		copy(h.value[source+i*len(a.value):], a.value)
		copy(h.known[source+i*len(a.known):], a.known)
	}
	return h
}

// flags are those of a header of TCP, byte 13. Whether congestion is told, and
// what is pushed or ends, is not known.
func (p *packet) flags() (value, known byte) {
	const fin, syn, rst, psh, ack, urg = 1, 2, 4, 8, 16, 32
	switch p.moment {
	case first:
		return syn, fin | syn | rst | psh | ack | urg
	case later:
		return ack, syn | rst | ack
	case reply:
	}
	return ack, rst | ack
}

// transport is the header behind that of the network.
func (p *packet) transport() bits {
	h := bits{value: make([]byte, 20), known: make([]byte, 20)}
	if at := p.portAt(); p.port != 0 && !p.untranslated() {
		binary.BigEndian.PutUint16(h.value[at:], uint16(p.port))
		h.known[at], h.known[at+1] = 0xff, 0xff
	}
	if p.protocol == unix.IPPROTO_TCP {
		h.value[13], h.known[13] = p.flags()
	}
	return h
}

// portAt is where in the header the port is that the connection is for.
func (p *packet) portAt() int {
	if p.moment == reply {
		return 0
	}
	return 2
}

// device is the name of the device by which it came, or goes. Of a frame it is that
// of one of the ports: what the names of all have in common is known.
func (p *packet) device(out bool) bits {
	switch {
	case out && p.hook.before(), !out && p.hook.behind():
		return bits{}
	case !p.frame():
		return p.bridge()
	case len(p.Ports) == 0:
		return bits{}
	}
	name := deviceName(p.Ports[0])
	for _, other := range p.Ports[1:] {
		name = name.or(deviceName(other))
	}
	return name
}

func (p *packet) bridge() bits { return deviceName(p.Bridge) }

func deviceName(s string) bits {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, s)
	return exactly(name)
}

func (p *packet) ethertype() uint16 {
	if p.IPv6 {
		return unix.ETH_P_IPV6
	}
	return unix.ETH_P_IP
}

// returns reports that the host's way to the packet's source is by the bridge, as
// what asks for a way back by the same device has it.
func (p *packet) returns() answer {
	a := p.From
	if p.moment == reply {
		a = p.To
	}
	if p.marked || p.frame() || !a.IsSingleIP() {
		return perhaps
	}
	if index, err := rtnl.RouteTo(a.Addr()); err != nil || index != p.Index {
		return perhaps
	}
	return yes
}

// meets reports whether packets of a route come to a base chain.
func (r *Route) meets(b *base) bool {
	switch b.family {
	case unix.NFPROTO_IPV4:
		return !r.IPv6
	case unix.NFPROTO_IPV6:
		return r.IPv6
	}
	if b.hook == atIngress || b.hook == atEgress {
		return slices.ContainsFunc(b.devices, func(d string) bool {
			return slices.ContainsFunc(r.Ports, func(port string) bool { return matchesDevice(d, port) })
		})
	}
	return true
}

// matchesDevice compares names, of which the first can end with a star.
func matchesDevice(pattern, name string) bool {
	if n := len(pattern) - 1; n >= 0 && pattern[n] == '*' {
		return len(name) >= n && name[:n] == pattern[:n]
	}
	return pattern == name
}
