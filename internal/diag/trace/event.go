package trace

import (
	"net/netip"
	"time"
)

// Layer is where a hook is: where frames are bridged, or where packets are
// routed.
type Layer string

// The layers, in the words of nft(8). IP stands for IPv4 and IPv6.
const (
	Bridge Layer = "bridge"
	IP     Layer = "ip"
)

// Headers are the parts of a packet's headers that tell it from others and say
// where it is going.
type Headers struct {
	Source, Destination       netip.AddrPort
	Protocol                  Protocol
	SourceMAC, DestinationMAC string // "" where there is no Ethernet header
	Flags                     string // of TCP: "SYN", "SYN ACK"; of ICMP its type: "echo request", see [ICMPName]

	// Identity is what stays the same of a packet on its whole way, whatever
	// its addresses become. Packets that look alike share it.
	Identity string
}

// Event is what the kernel told of a packet at one place: a rule matched, a
// chain ended, or the packet was at one of the tracer's own chains, which see
// every hook even where nobody has a rule.
type Event struct {
	At time.Duration // since the tracer began
	ID uint32        // the kernel's for the packet; another one on the bridge and above it

	Layer   Layer
	Hook    string // "prerouting"; "" in a chain that is jumped to: that of the event before
	Backend string // "nf_tables" or "legacy"
	Table   string // "ip nat"
	Chain   string
	Own     bool // it is a chain of the tracer's
	Rule    *Rule
	Verdict string // "accept", "drop", "jump KUBE-SERVICES", "continue", …; of a chain's end its policy
	In, Out int    // indices of the devices, zero where the kernel did not tell
	Headers *Headers
}

// Rule is one that matched. What could not be found out of it is empty.
type Rule struct {
	Handle  uint64 `json:"handle,omitempty"`  // nf_tables' name for it
	Number  int    `json:"number,omitempty"`  // iptables-legacy's: its place in the chain, from 1 on
	Comment string `json:"comment,omitempty"` // kube-proxy's: which Service, which endpoint
	Action  string `json:"action,omitempty"`  // what it does with the packet: "dnat to 10.200.2.32:80"
}

// Tuple is one direction of a connection.
type Tuple struct {
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
}

// Connection is what conntrack knows of one: the first packet as it came, and
// the reply that it expects.
type Connection struct {
	ID       uint32   `json:"id"`
	Protocol Protocol `json:"protocol"`
	Original Tuple    `json:"original"`
	Reply    Tuple    `json:"reply"`

	// Replied says that conntrack has seen a reply. Without it, replies went
	// by another way, or there was none.
	Replied bool `json:"replied"`
	// Ended says that conntrack has forgotten the connection meanwhile.
	Ended bool `json:"ended"`
}

// Endpoint is who answers: the server itself, or what it was translated to.
func (c *Connection) Endpoint() netip.AddrPort { return c.Reply.Source }

// Translated reports whether conntrack changes the server's address.
func (c *Connection) Translated() bool { return c.Reply.Source != c.Original.Destination }
