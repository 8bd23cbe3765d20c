// Package dns asks a cluster's DNS as a pod does, and says why a name is not
// answered: the wrong source of a reply that crossed a bridge without passing
// through netfilter, a dead replica, a Corefile without forward, a search list.
// It opens its sockets in a [Namespace] that the caller gives, asks only those
// addresses that it is told or that replied, and changes nothing.
package dns

import (
	"net/netip"
	"slices"
)

// Role is what a server is to those who ask it.
type Role string

// The roles. In tables and JSON they are these words.
const (
	Service Role = "service" // the address that pods ask: the cluster IP
	Replica Role = "replica" // one of the servers behind it, by its own address
)

// Server is an address that was asked.
type Server struct {
	Address netip.AddrPort `json:"address"`
	Role    Role           `json:"role"`
	Found   bool           `json:"found"` // nobody named it: it replied where another was asked
}

// Purpose is what a name was asked for.
type Purpose string

// The purposes. In JSON they are these words.
const (
	Cluster  Purpose = "cluster"  // a name that every cluster has
	External Purpose = "external" // a name of the world, which somebody else has to answer
	Given    Purpose = "given"    // what a resolver makes of the name that the user gave
)

// Question is a name to ask for.
type Question struct {
	Name    string  `json:"name"` // with its trailing dot
	Purpose Purpose `json:"purpose"`
}

// Outcome is how one ask ended.
type Outcome string

// The outcomes. In JSON they are these words.
const (
	Answered    Outcome = "answered"     // a reply from the address asked, whatever its rcode
	WrongSource Outcome = "wrong_source" // a reply to the ask from another address
	Timeout     Outcome = "timeout"
	Refused     Outcome = "refused"     // no one listens, or a firewall says so: an ICMP error
	Unreachable Outcome = "unreachable" // another ICMP error: of the host, the network, a firewall
	Malformed   Outcome = "malformed"   // a datagram from the server that is no reply to the question
	Truncated   Outcome = "truncated"   // too long for UDP, and TCP brought no answer
	Unsent      Outcome = "unsent"      // it could not be asked from here
)

// Ask is one question, put once to one server from a port of its own, and what
// came of it.
type Ask struct {
	Server  netip.AddrPort `json:"server"`
	Name    string         `json:"name"`
	Outcome Outcome        `json:"outcome"`
	Rcode   string         `json:"rcode,omitempty"`   // of the reply, from whomever: "NOERROR", "SERVFAIL" …
	Answers []string       `json:"answers,omitempty"` // its addresses and aliases
	Source  netip.AddrPort `json:"source,omitzero"`   // where the reply came from
	Usec    int64          `json:"usec,omitempty"`    // from the ask to the reply, in microseconds
	TCP     bool           `json:"tcp"`               // asked again over TCP, as the reply was truncated
	Detail  string         `json:"detail,omitempty"`  // the error, where there was one
}

// Report is what was asked, and what came back.
type Report struct {
	Servers   []Server   `json:"servers"` // the Service first
	Questions []Question `json:"questions"`

	// What is on the link of those who asked: a reply from there can have
	// come over a bridge.
	Networks []netip.Prefix `json:"networks"`

	// The bridges of those who asked. A node has some; its own asks pass
	// through netfilter by routing, whatever the bridges do.
	Bridges []string `json:"bridges"`

	// The name that the user gave, and how a resolver looks it up.
	Name   string     `json:"name,omitempty"`
	Search ResolvConf `json:"search"`

	// Names beside the external one that nobody has asked for before, and so
	// are in no cache. They were asked for, one after the other, where the
	// external one got an error.
	Fresh []string `json:"fresh,omitempty"`

	Asks []Ask `json:"asks"`
}

// onLink reports whether a reply of source to those who asked server can have
// crossed a bridge on its way: source is on their link, and server is not.
func (r *Report) onLink(source, server netip.Addr) bool {
	for _, n := range r.Networks {
		if n.Contains(source) && !n.Contains(server) {
			return true
		}
	}
	return false
}

// service is the server that pods ask.
func (r *Report) service() netip.AddrPort { return r.Servers[0].Address }

// asked returns the tally of one question at one server, or of several.
func (r *Report) asked(server netip.AddrPort, names ...string) *tally {
	t := &tally{Results: map[string]int{}, by: map[netip.AddrPort]int{}, why: map[Outcome]string{}}
	for _, a := range r.Asks {
		if a.Server == server && slices.Contains(names, a.Name) {
			t.add(a)
		}
	}
	slices.Sort(t.times)
	return t
}

// heard is asked without regard to where the replies came from: what is said
// of a name, and not whether it arrives.
func (r *Report) heard(server netip.AddrPort, names ...string) *tally {
	all := Report{Asks: slices.Clone(r.Asks)}
	for i := range all.Asks {
		if a := &all.Asks[i]; a.Outcome == WrongSource {
			a.Outcome = Answered
		}
	}
	return all.asked(server, names...)
}
