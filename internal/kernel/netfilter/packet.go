package netfilter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Route is what two pods of one bridge send each other, as far as it is known.
type Route struct {
	Bridge   string
	Index    int // the bridge's
	IPv6     bool
	From, To netip.Prefix // each one address, or the pods' network
}

// packet is one of a [Route] at the hook forward, with what netfilter knows of
// it. br_netfilter passes it on as if it came in and went out by the bridge.
type packet struct {
	*Route
	frame    bool // in the chains of bridges: the devices are ports
	protocol byte
	state    uint32 // of conntrack, a bit as nft(8) and xt_conntrack have them
	mark     bits
}

// The states of conntrack: NF_CT_STATE_BIT, and XT_CONNTRACK_STATE_BIT, which is
// the same for these.
const (
	stateEstablished = 1 << 1
	stateNew         = 1 << 3
)

// proxyMarks are the bits of the mark that kube-proxy sets in what it masquerades
// and drops: what pods send each other by their own addresses has neither.
const proxyMarks = 0x4000 | 0x8000

// packet is one of the route that comes by: of a protocol, in a state.
func (r *Route) packet(protocol byte, state uint32, frame bool) packet {
	mark := bits{make([]byte, 4), binary.NativeEndian.AppendUint32(nil, proxyMarks)}
	return packet{Route: r, frame: frame, protocol: protocol, state: state, mark: mark}
}

// address is the source or the destination.
func (p *packet) address(destination bool) bits {
	a := p.From
	if destination {
		a = p.To
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
	h := bits{make([]byte, size), make([]byte, size)}
	h.value[protocol], h.known[protocol] = p.protocol, 0xff
	for i, a := range []bits{p.address(false), p.address(true)} {
		copy(h.value[source+i*len(a.value):], a.value)
		copy(h.known[source+i*len(a.known):], a.known)
	}
	return h
}

// device is the name of the device by which it came, or goes.
func (p *packet) device() bits {
	if p.frame {
		return bits{}
	}
	return p.bridge()
}

func (p *packet) bridge() bits {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, p.Bridge)
	return exactly(name)
}

func (p *packet) ethertype() uint16 {
	if p.IPv6 {
		return unix.ETH_P_IPV6
	}
	return unix.ETH_P_IP
}
