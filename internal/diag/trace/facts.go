package trace

import (
	"fmt"
	"net/netip"
)

// Facts are settings and counters of this host that can end the path of a packet,
// as they were when the trace ended. They tell where the kernel has no reason.
type Facts struct {
	ForwardingKey string // "net.ipv4.ip_forward"
	Forwarding    string // its value; "" where it could not be read
	ForwardingOf  string // the device whose own key that is; "": it is the node's

	// ReversePath is the value of rp_filter that holds for each device, by name.
	ReversePath map[string]int

	To   *Lookup // the endpoint, or the server where nothing is translated; nil: not looked up
	Back *Lookup // the client

	// Endpoint is where the endpoint's address is, as far as that is this node or a
	// pod of it; nil: it was not found.
	Endpoint *Endpoint

	ConntrackCount, ConntrackMax int // 0: not known

	Counters []Counter // those that rose while the trace listened

	// NoHairpin are the ports of bridges that do not send a frame back by
	// themselves, by name.
	NoHairpin map[string]bool
}

// Lookup is what the routes and neighbours of this host say of an address.
type Lookup struct {
	Address   netip.Addr
	Missing   string     // why there is no route: "no_route", "unreachable", "prohibit", "blackhole", "rp_filter"; "" where there is one
	Device    string     // that packets leave by
	Next      netip.Addr // the gateway, or the address itself
	Local     bool       // it is this host's own
	Neighbour string     // what is known of Next on the link: "failed", "incomplete", "reachable"; "" for nothing
	MAC       string
}

// Endpoint is the network namespace that has the address that answers.
type Endpoint struct {
	Place     Place
	Back      *Lookup    // its path to the client; nil: not looked up
	Listeners []Listener // at the port that was asked for, at whatever address
}

// Listener is a socket that waits for requests.
type Listener struct {
	Address netip.AddrPort
	Waiting int // of TCP the connections that wait to be accepted, of UDP the bytes that wait to be read
}

// elsewhere are the addresses that programs listen at instead of a.
func (e *Endpoint) elsewhere(a netip.AddrPort) (list []string) {
	for _, l := range e.Listeners {
		if at := l.Address.Addr(); !at.IsUnspecified() && at != a.Addr() {
			list = append(list, l.Address.String())
		}
	}
	return list
}

// waiting is what waits at the sockets that an address leads to.
func (e *Endpoint) waiting(a netip.AddrPort) (n int) {
	for _, l := range e.Listeners {
		if at := l.Address.Addr(); at.IsUnspecified() || at == a.Addr() {
			n += l.Waiting
		}
	}
	return n
}

// Counter is one of the kernel's, of a whole network namespace.
type Counter struct {
	Place Place
	Name  string // "TcpExt ListenOverflows"
	Rose  uint64
}

// rose returns a counter of a place that rose, or nil.
func (f *Facts) rose(name string, here func(Place) bool) *Counter {
	for i := range f.Counters {
		if c := &f.Counters[i]; c.Name == name && here(c.Place) {
			return c
		}
	}
	return nil
}

func onNode(p Place) bool { return p == Place{} }
func inPod(p Place) bool  { return p != Place{} }

// atEndpoint holds for the place that the endpoint is in.
func (f *Facts) atEndpoint(p Place) bool { return f.Endpoint != nil && p == f.Endpoint.Place }

func (c *Counter) evidence() string {
	return fmt.Sprintf("the counter %s of %s rose by %d meanwhile, for this connection or another", c.Name, c.Place, c.Rose)
}

// conntrackFull reports whether conntrack has no room for a connection more.
func (f *Facts) conntrackFull() bool { return f.ConntrackMax > 0 && f.ConntrackCount >= f.ConntrackMax }

func (f *Facts) conntrackEvidence() string {
	return fmt.Sprintf("conntrack has %d connections of %d (net.netfilter.nf_conntrack_max)", f.ConntrackCount, f.ConntrackMax)
}

// notForwarding says whose forwarding is off.
func (f *Facts) notForwarding() string {
	if f.ForwardingOf != "" {
		return fmt.Sprintf("this node does not forward what comes in by %s: %s is 0", f.ForwardingOf, f.ForwardingKey)
	}
	return fmt.Sprintf("this node does not forward packets: %s is 0", f.ForwardingKey)
}

func (f *Facts) forwardingEvidence() string { return f.ForwardingKey + " is " + f.Forwarding }

// evidence is what the routes say in a sentence.
func (l *Lookup) evidence() string {
	switch l.Missing {
	case "":
		next := ""
		if l.Next != l.Address {
			next = fmt.Sprintf(" by way of %s", l.Next)
		}
		return fmt.Sprintf("the route to %s leads out by %s%s", l.Address, l.Device, next)
	case "no_route":
		return fmt.Sprintf("this node has no route to %s", l.Address)
	case "rp_filter":
		return "a look at the routes for a packet from the client is refused as rp_filter refuses it"
	}
	return fmt.Sprintf("the route to %s is of type %s", l.Address, l.Missing)
}

func (l *Lookup) neighbourEvidence() string {
	return fmt.Sprintf("the neighbour %s on %s is %s", l.Next, l.Device, l.Neighbour)
}

// lost reports whether nobody answered for the next hop.
func (l *Lookup) lost() bool {
	return l.Missing == "" && (l.Neighbour == "failed" || l.Neighbour == "incomplete")
}
