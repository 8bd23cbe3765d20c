package guard

import (
	"net/netip"
	"strings"
)

// Needs is what was seen of the things that a Service with an endpoint on the
// client's own node needs beside the keys and flags.
type Needs struct {
	Forwarding [2]Value // of the host, by [IPv4] and [IPv6]: net.ipv4.ip_forward, net.ipv6.conf.all.forwarding
	Paths      []Path   // of each bridge with pods or virtual machines, IPv4 before IPv6
	Others     []string // what translates destinations beside kube-proxy: "the table ip x of nf_tables"
	Lacks      []Lack   // modules that kube-proxy's rules need, of installed kernels

	OthersErr error // why Others is not known, or not all of it
}

// Path is how what one pod of a bridge sends another is taken on, once it is
// handed to netfilter.
type Path struct {
	Bridge     string
	Family     Family
	Forwarding Value // of what comes in by the bridge: net.ipv4.conf.BRIDGE.forwarding
	Off        bool  // IPv6 is off on the bridge: net.ipv6.conf.BRIDGE.disable_ipv6 is 1
	Route      Route // of the first pair of pods for which it is not [RouteBack], or of one
	Filtered   Route // of the first pair of which what comes is dropped: [RouteFiltered], or zero

	Forward Forward  // what the hook forward does to what pods send Services
	Direct  *Forward // and to what they send each other by their own addresses; nil: the same
	Beside  Beside
}

// OnlyServices says what drops all that two pods send each other by their own
// addresses where what is for Services is accepted; "" where nothing does.
func (p *Path) OnlyServices() string {
	for _, f := range []*Forward{p.Direct, p.Beside.Direct} {
		if f != nil && f.DropsAll() && p.Forward.Fate == FateAccepts && p.Beside.Service == nil {
			return f.By
		}
	}
	return ""
}

// Beside is what the other hooks on the way do: PREROUTING, POSTROUTING, those of
// bridges and the ingress of ports.
type Beside struct {
	Service *Forward // to what pods send Services; nil: they accept it
	Direct  *Forward // to what they send each other by their own addresses; nil: they accept it
}

// Forward is what a hook of netfilter does; FORWARD of iptables is a part of the
// hook forward.
type Forward struct {
	Fate  Fate
	By    string // which policy or rule decides; "" of FateAccepts
	Rule  Rule   // the same, where iptables has it
	Frame bool   // it decides on all that the bridge forwards, handed over or not
	Err   error  // why it could not be read; Fate is FateUnknown then
	Of    string // the packets of which it is so, where the others are accepted: "UDP", "TCP but for the port 80"; "": all
}

// direct is what the hook forward does to what two pods send each other.
func (p *Path) direct() *Forward {
	if p.Direct != nil {
		return p.Direct
	}
	return &p.Forward
}

// Rule is a rule of a chain of iptables. The zero value is none.
type Rule struct {
	Table, Chain string
	Number       int  // from 1 on; 0: the policy
	Legacy       bool // of iptables-legacy, and not of iptables-nft
}

// Fate is what becomes of packets.
type Fate uint8

// The fates.
const (
	FateUnknown Fate = iota // it depends on By, or could not be read
	FateAccepts
	FateDropsByPolicy // nothing accepts them
	FateDropsByRule
)

// drops reports that they are dropped, and only because they are handed over.
func (f *Forward) drops() bool {
	return f.Fate == FateDropsByPolicy || f.Fate == FateDropsByRule
}

// DropsAll reports that nothing is accepted: of no protocol, for no port.
func (f *Forward) DropsAll() bool { return f.drops() && f.Of == "" }

// what says it in words: "drops: rule 2 of FORWARD, in …".
func (f *Forward) what() string {
	of := ""
	if f.Of != "" {
		of = " " + f.Of
	}
	switch f.Fate {
	case FateAccepts:
		return "accepts"
	case FateDropsByPolicy:
		if of == "" {
			of = " what nothing accepts"
		}
		return "drops" + of + ": " + f.By
	case FateDropsByRule:
		return "drops" + of + ": " + f.By
	case FateUnknown:
	}
	if f.Err != nil {
		return "could not look: " + oneLine(f.Err)
	}
	if of != "" {
		of = " of" + of
	}
	return "cannot tell" + of + ": it depends on " + f.By
}

// whom says which packets are dropped: "what they send", or "UDP".
func (f *Forward) whom() string {
	if f.Of != "" {
		return f.Of
	}
	return "what they send"
}

// Route is what the kernel answers to a question for the way from one pod of a
// bridge to another.
type Route struct {
	State    RouteState
	From, To netip.Addr // for which it is so; of pods where Seen says so
	Seen     bool       // they are addresses of pods, and not of the bridge's network only
	Device   string     // of RouteElsewhere, by which it would go
	Strict   Key        // of RouteFiltered, the key of rp_filter that is 1
	Err      error      // of RouteUnknown, why
}

// RouteState is where such a packet goes.
type RouteState uint8

// The states.
const (
	RouteUnknown   RouteState = iota
	RouteBack                 // out by the bridge, as it has to
	RouteElsewhere            // by another device
	RouteNone                 // nowhere
	RouteFiltered             // dropped: the way back to its source is another one
)

// Lack is a module that an installed kernel does not have, and not the running one.
type Lack struct {
	Module  string
	Release string // of the kernel
	For     string // the rules: "iptables mode (nf_tables), IPv4"
}

// NeedState says whether something is there that a Service needs.
type NeedState string

// The states of a need.
const (
	NeedMet     NeedState = "met"
	NeedMissing NeedState = "missing"
	NeedUnknown NeedState = "unknown"
)

// Need is one thing that Services with an endpoint on the client's own node need,
// of one bridge in one family.
type Need struct {
	Bridge  string    `json:"bridge"`
	Family  string    `json:"family"`
	What    string    `json:"need"` // "handed to netfilter", "forwarding", "FORWARD", "other hooks", "route", "rp_filter", "proxy rules", "modules"
	State   NeedState `json:"state"`
	Have    string    `json:"have"`
	Reason  string    `json:"reason,omitempty"` // why it is not met
	Next    string    `json:"next,omitempty"`
	Setting string    `json:"setting,omitempty"` // the line of [sysctl] that would guard it

	Rule  Rule   `json:"-"` // that decides on it; the zero value is none
	brief string // see Sum
	some  bool   // it is missing for a part of the packets only
}

// What Services need.
const (
	HandedNeed     = "handed to netfilter"
	needRules      = "proxy rules"
	ForwardingNeed = "forwarding"
	ForwardNeed    = "FORWARD"
	BesideNeed     = "other hooks"
	needRoute      = "route"
	needFilter     = "rp_filter"
	needModules    = "modules"
)

// OfPath reports that n is about what becomes of a packet that is handed to
// netfilter, beside the proxy's rules.
func (n *Need) OfPath() bool { return n.What != HandedNeed && n.What != needRules }

// Partly reports that n is missing for a part of the packets only: see [Forward].
func (n *Need) Partly() bool { return n.some }

// Sum is n in a few words: "net.ipv4.ip_forward is 0", "FORWARD drops, …".
func (n *Need) Sum() string {
	switch {
	case n.brief != "":
		return n.brief
	case n.State == NeedUnknown:
		return n.What + ": " + n.Have
	}
	return n.What + " " + n.Have
}

// lookAgain is the step where something could not be looked at.
const lookAgain = "nfguard check looks again: run it as root, on the host"

// sendPackets is the step where something depends on what was not seen.
const sendPackets = "nfguard probe --bridge BRIDGE sends packets and sees; nfguard trace follows a connection"

// NeedsOf are the needs of each bridge that carries pods, in the families whose
// Services matter there. It is nil where they were not looked at.
func NeedsOf(o *Observation) []Need {
	if o.Needs == nil || o.Bridging != nil {
		return nil
	}
	var list []Need
	for i := range o.Bridges {
		b := &o.Bridges[i]
		if b.Ports.Pods == 0 {
			continue
		}
		for _, f := range spoken(b, families(o)) {
			if o.Needs.path(b.Name, f) == nil {
				continue // not looked at: see Policy.Ignored
			}
			list = append(list, o.needsOf(b, f)...)
		}
	}
	return list
}

// needsOf are those of one bridge in one family.
func (o *Observation) needsOf(b *Bridge, f Family) []Need {
	list := []Need{o.handedRow(b, f), o.rulesRow(f)}
	if p := o.Needs.path(b.Name, f); p != nil {
		list = append(list, o.Needs.forwarding(p), p.forward())
		if p.Beside.Service != nil {
			list = append(list, p.beside())
		}
		list = append(list, p.route())
		if f == IPv4 && p.Route.State != RouteUnknown { // then the one above says why
			list = append(list, p.filter())
		}
	}
	if need, ok := o.modulesRow(); ok {
		list = append(list, need)
	}
	for i := range list {
		n := &list[i]
		n.Bridge, n.Family = b.Name, f.String()
		n.Next = strings.ReplaceAll(n.Next, "BRIDGE", b.Name)
	}
	return list
}

func (n *Needs) path(bridge string, f Family) *Path {
	for i := range n.Paths {
		if p := &n.Paths[i]; p.Bridge == bridge && p.Family == f {
			return p
		}
	}
	return nil
}
