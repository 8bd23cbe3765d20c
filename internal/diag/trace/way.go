package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/printable"
)

// Way is how the packets of a connection went through the hooks of one host:
// the result, complete, and stable as JSON.
type Way struct {
	Schema      int          `json:"schema"` // 1
	Host        string       `json:"host"`
	Kernel      string       `json:"kernel"`
	Time        time.Time    `json:"time"`
	Lasted      float64      `json:"lasted_seconds"`
	Client      netip.Addr   `json:"client"`
	Server      netip.Addr   `json:"server"`
	Port        uint16       `json:"port,omitempty"`
	Protocol    Protocol     `json:"protocol,omitempty"`
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
	Dropped      Verdict = "dropped"      // a rule, a policy or the kernel ended the way
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

// Packet is one, with its way.
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

// New makes the way.
func New(r *Record) *Way {
	r.clean()
	w := &Way{
		Schema: 1, Host: printable.Name(r.Host), Kernel: r.Kernel, Time: r.Started.UTC(), Lasted: r.Lasted.Seconds(),
		Client: r.Query.Client, Server: r.Query.Server, Port: r.Query.Port, Protocol: r.Query.Protocol,
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
		(q.Port == 0 || destination.Port() == q.Port) && (q.Protocol == 0 || p == q.Protocol)
}

// pause is for how long a packet can be on its way between two hooks without
// being taken for another one that looks the same.
const pause = 100 * time.Millisecond

// stitch puts the events of each packet together. The kernel's id changes when
// a packet is taken up from a bridge, and is used again.
func stitch(r *Record) []Packet {
	var packets []*Packet
	byID := make(map[uint32]*Packet)
	names := make(map[int]string, len(r.Devices))
	for _, d := range r.Devices {
		names[d.Index] = d.Name
	}
	for i := range r.Events {
		e := &r.Events[i]
		if e.Backend == "legacy" {
			continue
		}
		p := byID[e.ID]
		if e.Headers != nil && (p == nil || p.identity != e.Headers.Identity || p.repeats(e, names)) {
			p = resume(packets, e, names)
			if p == nil {
				h := e.Headers
				p = &Packet{Protocol: h.Protocol, Flags: h.Flags, At: e.At.Microseconds(), Source: h.Source, Destination: h.Destination, identity: h.Identity}
				packets = append(packets, p)
			}
			byID[e.ID] = p
		}
		if p != nil {
			p.add(e, names)
		}
	}
	for i := range r.Events {
		if e := &r.Events[i]; e.Backend == "legacy" {
			attach(packets, e)
		}
	}
	whole := make([]Packet, 0, len(packets))
	for _, p := range packets {
		if len(p.Steps) > 0 {
			whole = append(whole, *p)
		}
	}
	return whole
}

// attach adds a rule of iptables-legacy to the step that it belongs to. The
// kernel tells of these by another way: what it tells of one packet is in order
// there too, but nothing is known of the order of both.
func attach(packets []*Packet, e *Event) {
	for _, p := range slices.Backward(packets) {
		if p.identity != e.Headers.Identity || e.At-p.last > pause {
			continue
		}
		for i := range p.Steps {
			if s := &p.Steps[i]; s.Layer == e.Layer && s.Hook == e.Hook {
				p.told(s, e)
				return
			}
		}
	}
}

// resume finds the packet that an event with an unknown id goes on with.
func resume(packets []*Packet, e *Event, names map[int]string) *Packet {
	for _, p := range slices.Backward(packets) {
		if e.At-p.last > pause {
			continue
		}
		if p.identity == e.Headers.Identity && p.Dropped == "" && !p.repeats(e, names) {
			return p
		}
	}
	return nil
}

// repeats reports whether the packet has been at the event's hook already, and
// gone on: then it is another one that looks the same.
func (p *Packet) repeats(e *Event, names map[int]string) bool {
	if e.Hook == "" || len(p.Steps) == 0 {
		return false
	}
	here := func(s Step) bool {
		return s.Layer == e.Layer && s.Hook == e.Hook && s.In == names[e.In] && s.Out == names[e.Out]
	}
	return !here(*p.Last()) && slices.ContainsFunc(p.Steps, here)
}

// add goes a step further, or adds to the last one.
func (p *Packet) add(e *Event, names map[int]string) {
	p.last = e.At
	if e.Hook != "" && (len(p.Steps) == 0 || p.Last().Layer != e.Layer || p.Last().Hook != e.Hook) {
		p.Steps = append(p.Steps, Step{Layer: e.Layer, Hook: e.Hook, In: names[e.In], Out: names[e.Out]})
	}
	if len(p.Steps) == 0 {
		return
	}
	s := p.Last()
	if h := e.Headers; h != nil {
		s.After = Tuple{h.Source, h.Destination}
		if !s.Before.Source.IsValid() {
			s.Before = s.After
			s.SourceMAC, s.DestinationMAC = h.SourceMAC, h.DestinationMAC
		}
	}
	if !e.Own {
		p.told(s, e)
	}
}

// itsPolicy is how [Packet.Dropped] ends where no rule did it.
const itsPolicy = ", its policy"

// told adds what a chain of others did.
func (p *Packet) told(s *Step, e *Event) {
	if e.Rule != nil {
		s.Rules = append(s.Rules, Match{e.Backend, e.Table, e.Chain, *e.Rule, e.Verdict})
	} else {
		s.Passed = append(s.Passed, e.Table+" "+e.Chain)
	}
	if e.Verdict == "drop" {
		p.Dropped = e.Table + " " + e.Chain
		switch {
		case e.Rule == nil:
			p.Dropped += itsPolicy
		case e.Rule.Comment != "":
			p.Dropped += ", by the rule \"" + e.Rule.Comment + "\""
		case e.Rule.Number != 0:
			p.Dropped += fmt.Sprintf(", by rule %d", e.Rule.Number)
		case e.Rule.Handle != 0:
			p.Dropped += fmt.Sprintf(", by the rule with handle %d", e.Rule.Handle)
		}
	}
}

// direct finds out which packets are the client's, and drops those of other
// connections between the same hosts.
func (w *Way) direct(q Query) {
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
		kept = append(kept, p)
	}
	w.Packets = kept
}

// settleReplies takes a translated reply for what it is: conntrack has seen it,
// also where it told of the connection for the last time before that.
func (w *Way) settleReplies() {
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
func (w *Way) keepDevices(all []Device) {
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
