package trace

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Place is a network namespace: the zero value is this host's own, any other is
// of a pod, as far as it could be found out whose.
type Place struct {
	Namespace string `json:"namespace,omitempty"` // the name in /run/netns, or the inode
	Pod       string `json:"pod,omitempty"`       // uid
	PodName   string `json:"pod_name,omitempty"`  // "namespace/name"
	Process   string `json:"process,omitempty"`   // the first there: "nginx[812]"
}

// String names the place in a sentence: "this node", "pod shop/cart".
func (p Place) String() string {
	switch {
	case p == Place{}:
		return "this node"
	case p.PodName != "" || p.Pod != "":
		return "pod " + cmp.Or(p.PodName, p.Pod)
	case p.Process != "":
		return "the network namespace of " + p.Process
	}
	return "the network namespace " + p.Namespace
}

// in is the place with its preposition.
func (p Place) in() string {
	if p == (Place{}) {
		return "on this node"
	}
	return "in " + p.String()
}

// Drop is packets of the connection that the kernel dropped at one place for one
// reason.
type Drop struct {
	Reason   string `json:"reason"`             // the kernel's word: "NO_SOCKET", "NOT_SPECIFIED"
	Function string `json:"function,omitempty"` // of the kernel, that dropped it: "tcp_v4_rcv"
	Place    Place  `json:"place,omitzero"`
	Device   string `json:"device,omitempty"` // of this node, where the packet was at one

	Direction   Direction      `json:"direction"`
	Protocol    Protocol       `json:"protocol"`
	Flags       string         `json:"flags,omitempty"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`

	At    int64 `json:"at_usec"`   // the first, since the trace began
	Last  int64 `json:"last_usec"` // the last
	Count int   `json:"count"`
}

// KernelDrop is one packet that the kernel dropped, before it is known whether it is
// of the connection.
type KernelDrop struct {
	At       time.Duration
	Reason   string
	Function string
	Place    Place
	Device   string
	Headers  *Headers
}

// Of returns the direction of a packet of the connection, and "" for one of
// another connection.
func (w *Path) Of(h *Headers) Direction {
	q := w.query()
	if q.Covers(h.Protocol, h.Source, h.Destination) {
		return Request
	}
	if q.Covers(h.Protocol, h.Destination, h.Source) {
		return Reply
	}
	for i := range w.Connections {
		c := &w.Connections[i]
		if c.Protocol != h.Protocol {
			continue
		}
		// The request as it came, and as it left; the reply as it came, and as it
		// leaves. Halves of both are on the way between two hooks.
		switch {
		case (h.Source == c.Original.Source || h.Source == c.Reply.Destination) && (h.Destination == c.Original.Destination || h.Destination == c.Reply.Source):
			return Request
		case (h.Source == c.Reply.Source || h.Source == c.Original.Destination) && (h.Destination == c.Reply.Destination || h.Destination == c.Original.Source):
			return Reply
		}
	}
	// Without conntrack's word, by where packets went that were seen.
	for i := range w.Packets {
		p := &w.Packets[i]
		if p.Protocol != h.Protocol {
			continue
		}
		end := p.Last().After
		switch {
		case h.Source == end.Source && h.Destination == end.Destination:
			return p.Direction
		case h.Source == end.Destination && h.Destination == end.Source:
			return p.Direction.back()
		}
	}
	return ""
}

// query is what was asked for.
func (w *Path) query() Query { return Query{w.Client, w.Server, w.Port, w.Protocol, w.From} }

func (d Direction) back() Direction {
	if d == Request {
		return Reply
	}
	return Request
}

// keepDrops keeps the drops of the connection, those alike together.
func (w *Path) keepDrops(all []KernelDrop) {
	for i := range all {
		one := &all[i]
		h := one.Headers
		direction := w.Of(h)
		if direction == "" {
			continue
		}
		d := Drop{
			Reason: one.Reason, Function: one.Function, Place: one.Place, Device: one.Device, Direction: direction,
			Protocol: h.Protocol, Flags: h.Flags, Source: h.Source, Destination: h.Destination,
			At: one.At.Microseconds(), Last: one.At.Microseconds(), Count: 1,
		}
		same := slices.IndexFunc(w.Drops, func(o Drop) bool {
			o.At, o.Last, o.Count = d.At, d.Last, d.Count
			return o == d
		})
		if same < 0 {
			w.Drops = append(w.Drops, d)
			continue
		}
		w.Drops[same].Last = d.At
		w.Drops[same].Count++
	}
}
