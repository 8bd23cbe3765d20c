package trace

import (
	"net/netip"
	"time"

	"github.com/nfguard/nfguard/internal/printable"
)

// Path is how the packets of a connection went through the hooks of one host:
// the result, complete, and stable as JSON.
type Path struct {
	Schema      int          `json:"schema"` // 1
	Host        string       `json:"host"`
	Kernel      string       `json:"kernel"`
	Time        time.Time    `json:"time"`
	Lasted      float64      `json:"lasted_seconds"`
	Client      netip.Addr   `json:"client"`
	Server      netip.Addr   `json:"server"`
	Port        uint16       `json:"port,omitempty"`
	Protocol    Protocol     `json:"protocol,omitempty"`
	From        uint16       `json:"client_port,omitempty"` // of the one connection that is meant; 0: any
	Verdict     Verdict      `json:"verdict"`
	Meaning     string       `json:"meaning"`        // of the verdict, in a sentence
	Next        string       `json:"next,omitempty"` // what to do about it
	Cause       *Cause       `json:"cause,omitempty"`
	Handing     Handing      `json:"handing"`
	Connections []Connection `json:"connections"`
	Devices     []Device     `json:"devices"` // those on the way
	Packets     []Packet     `json:"packets"`
	Drops       []Drop       `json:"drops,omitempty"` // that the kernel told of
	Notes       []string     `json:"notes,omitempty"`
}

// Verdict is how it ended for the client.
type Verdict string

// The verdicts.
const (
	Answered     Verdict = "answered"     // a reply came from whom the client had asked
	Refused      Verdict = "refused"      // the endpoint, or a rule, said no: by RST or ICMP
	Untranslated Verdict = "untranslated" // a reply came from an address that the client had not asked
	Dropped      Verdict = "dropped"      // a rule, a policy or the kernel ended the path
	Unanswered   Verdict = "unanswered"   // no reply came by
	Unseen       Verdict = "unseen"       // no packet of the connection came by
)

// Direction is where a packet is going.
type Direction string

// The directions.
const (
	Request Direction = "request" // from the client
	Reply   Direction = "reply"   // to it
)

// Packet is one, with its path.
type Packet struct {
	Direction   Direction      `json:"direction"`
	Protocol    Protocol       `json:"protocol"`
	Flags       string         `json:"flags,omitempty"` // see [Headers]
	At          int64          `json:"at_usec"`         // since the trace began
	Source      netip.AddrPort `json:"source"`          // as it came
	Destination netip.AddrPort `json:"destination"`
	Steps       []Step         `json:"steps"`
	Dropped     string         `json:"dropped,omitempty"` // by which rule or policy

	identity string
	last     time.Duration
}

// Step is a packet's stay at one hook.
type Step struct {
	Layer Layer  `json:"layer"`
	Hook  string `json:"hook"`
	In    string `json:"in,omitempty"` // devices, by name
	Out   string `json:"out,omitempty"`

	// The addresses as they came to the hook, and as they left it.
	Before Tuple `json:"before"`
	After  Tuple `json:"after"`

	SourceMAC      string `json:"source_mac,omitempty"`
	DestinationMAC string `json:"destination_mac,omitempty"`

	Rules  []Match  `json:"rules,omitempty"`  // that matched, in order
	Passed []string `json:"passed,omitempty"` // chains to whose end it came: "ip filter FORWARD"
}

// Match is a rule that matched.
type Match struct {
	Backend string `json:"backend"` // "nf_tables" or "legacy"
	Table   string `json:"table"`   // "ip nat"
	Chain   string `json:"chain"`
	Rule
	Verdict string `json:"verdict,omitempty"`
}

// Last is where the packet was seen last.
func (p *Packet) Last() *Step { return &p.Steps[len(p.Steps)-1] }

// New makes the path.
func New(r *Record) *Path {
	r.clean()
	w := &Path{
		Schema: 1, Host: printable.Name(r.Host), Kernel: r.Kernel, Time: r.Started.UTC(), Lasted: r.Lasted.Seconds(),
		Client: r.Query.Client, Server: r.Query.Server, Port: r.Query.Port, Protocol: r.Query.Protocol, From: r.Query.From,
		Handing: r.Handing, Connections: []Connection{}, Devices: []Device{}, Notes: r.Notes,
	}
	for _, c := range r.Connections {
		if r.Query.Covers(c.Protocol, c.Original.Source, c.Original.Destination) {
			w.Connections = append(w.Connections, c)
		}
	}
	w.Packets = stitch(r)
	w.direct(r.Query)
	w.keepDrops(r.Drops)
	w.keepDevices(r.Devices)
	w.settleReplies()
	w.judge(r.Facts, r.Sent)
	return w
}

// Covers reports whether a packet of the client's is one of the query's.
func (q Query) Covers(p Protocol, source, destination netip.AddrPort) bool {
	return source.Addr() == q.Client && destination.Addr() == q.Server &&
		(q.Port == 0 || destination.Port() == q.Port) && (q.Protocol == 0 || p == q.Protocol) && (q.From == 0 || source.Port() == q.From)
}

// direct finds out which packets are the client's, and drops those of other
// connections between the same hosts.
func (w *Path) direct(q Query) {
	servers := make(map[netip.AddrPort]bool)
	for _, c := range w.Connections {
		servers[c.Endpoint()] = true
	}
	for i := range w.Packets {
		p := &w.Packets[i]
		if q.Covers(p.Protocol, p.Source, p.Destination) {
			servers[p.Destination], servers[p.Last().After.Destination] = true, true
		}
	}
	kept := w.Packets[:0]
	for _, p := range w.Packets {
		switch {
		case p.unreachable() && p.Source.Addr() != q.Client:
			p.Direction = Reply // it was marked since it is about a request
		case p.unreachable():
			continue // the client's own, about a reply
		case servers[p.Destination]:
			p.Direction = Request
		case servers[p.Source]:
			p.Direction = Reply
		default:
			continue
		}
		if q.From != 0 && !p.unreachable() && p.clientPort() != q.From {
			continue
		}
		kept = append(kept, p)
	}
	w.Packets = kept
}

// clientPort is the client's, as the client knows it.
func (p *Packet) clientPort() uint16 {
	if p.Direction == Request {
		return p.Source.Port()
	}
	return p.Last().After.Destination.Port()
}

// settleReplies takes a translated reply for what it is: conntrack has seen it,
// also where it told of the connection for the last time before that.
func (w *Path) settleReplies() {
	for i := range w.Packets {
		p := &w.Packets[i]
		if p.Direction != Reply || p.Last().After.Source == p.Source {
			continue
		}
		for j := range w.Connections {
			c := &w.Connections[j]
			if c.Protocol == p.Protocol && c.Reply.Source == p.Source && c.Original.Source == p.Last().After.Destination {
				c.Replied = true
			}
		}
	}
}

// keepDevices keeps those on the way, and adds what packets tell of them.
func (w *Path) keepDevices(all []Device) {
	used := make(map[string]bool)
	came := make(map[string]*Step) // the first packet from a port
	for i := range w.Packets {
		for j := range w.Packets[i].Steps {
			s := &w.Packets[i].Steps[j]
			used[s.In], used[s.Out] = true, true
			if s.Layer == Bridge && s.Hook == "prerouting" && came[s.In] == nil {
				came[s.In] = s
			}
		}
	}
	for _, d := range all {
		if used[d.Name] {
			used[d.Bridge] = true // which a frame crosses without going out by it
		}
	}
	for _, d := range all {
		if s := came[d.Name]; s != nil && d.Kind == "veth" {
			d.PeerMAC, d.PeerAddress = s.SourceMAC, s.Before.Source.Addr()
		}
		if used[d.Name] {
			w.Devices = append(w.Devices, d)
		}
	}
}
