// Package trace makes the path of a connection through netfilter out of what
// the kernel told of its packets, says in words what it means, and shows it as
// text, JSON or a picture. It is data and pure functions: to ask the kernel is
// the part of the package kernel below it.
package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Query is the connection to follow: who asks whom. The port and the protocol
// are zero where any will do.
type Query struct {
	Client   netip.Addr
	Server   netip.Addr // as the client calls it: a cluster IP or a pod's
	Port     uint16
	Protocol Protocol

	// From is the client's port where only one connection is meant, as that of a
	// request that the trace makes itself. 0 is any.
	From uint16
}

// Protocol is a transport protocol by its number, and 0 for any of those below.
type Protocol uint8

// The protocols that can be followed; of ICMP echo requests and their replies.
// These have no ports, which are zero then.
const (
	TCP    Protocol = unix.IPPROTO_TCP
	UDP    Protocol = unix.IPPROTO_UDP
	ICMP   Protocol = unix.IPPROTO_ICMP   // of IPv4
	ICMPv6 Protocol = unix.IPPROTO_ICMPV6 // of IPv6
)

// String is "tcp", "udp", "icmp" or "icmp6", and "" for zero.
func (p Protocol) String() string {
	switch p {
	case 0:
		return ""
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	case ICMPv6:
		return "icmp6"
	}
	return "protocol " + strconv.Itoa(int(p))
}

// Echo reports whether the protocol is one of those without ports.
func (p Protocol) Echo() bool { return p == ICMP || p == ICMPv6 }

// MarshalText is [Protocol.String].
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the other way round.
func (p *Protocol) UnmarshalText(text []byte) error {
	for _, known := range []Protocol{0, TCP, UDP, ICMP, ICMPv6} {
		if string(text) == known.String() {
			*p = known
			return nil
		}
	}
	return fmt.Errorf("protocol %q is not tcp, udp or icmp", text)
}

// ParseQuery reads the two arguments of the command: an address, and an
// address with an optional port and an optional protocol, as in
// "10.32.0.102:80/tcp" and "[fd00::1]:53". Protocol icmp is that of the family.
func ParseQuery(client, server string) (Query, error) {
	var q Query
	var err error
	if q.Client, err = netip.ParseAddr(client); err != nil {
		return Query{}, fmt.Errorf("client %q is not an IP address", client)
	}
	rest, protocol, _ := strings.Cut(server, "/")
	if err := q.Protocol.UnmarshalText([]byte(protocol)); err != nil {
		return Query{}, err
	}
	if q.Server, err = netip.ParseAddr(strings.Trim(rest, "[]")); err != nil {
		a, err := netip.ParseAddrPort(rest)
		if err != nil || a.Port() == 0 {
			return Query{}, fmt.Errorf("server %q is not an IP address with or without a port", rest)
		}
		q.Server, q.Port = a.Addr(), a.Port()
	}
	q.Client, q.Server = q.Client.Unmap(), q.Server.Unmap()
	if q.Protocol == ICMP && q.Client.Is6() {
		q.Protocol = ICMPv6
	}
	switch {
	case q.Client.Zone() != "" || q.Server.Zone() != "":
		return Query{}, errors.New("an address with a zone does not leave its link")
	case q.Client.Is4() != q.Server.Is4():
		return Query{}, errors.New("client and server are of different families of IP")
	case q.Protocol.Echo() && q.Port != 0:
		return Query{}, fmt.Errorf("%s has no ports", q.Protocol)
	case q.Protocol == ICMPv6 && q.Client.Is4():
		return Query{}, errors.New("icmp6 is of IPv6")
	}
	return q, nil
}

// String is the query in words: "10.200.2.31 → 10.32.0.102:80/tcp".
func (q Query) String() string {
	s := q.Client.String() + " → " + place(netip.AddrPortFrom(q.Server, q.Port))
	if q.Protocol != 0 {
		s += "/" + q.Protocol.String()
	}
	return s
}

// place is an address, with its port if there is one.
func place(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}
