package trace

import (
	"fmt"
	"slices"
	"time"
)

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
				p.addMatch(s, e)
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
		p.addMatch(s, e)
	}
}

// itsPolicy is how [Packet.Dropped] ends where no rule did it.
const itsPolicy = ", its policy"

// addMatch adds what a chain of others did.
func (p *Packet) addMatch(s *Step, e *Event) {
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
