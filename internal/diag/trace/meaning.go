package trace

import (
	"fmt"
	"slices"
)

// asked is whom the client of a reply had asked: the server by the address that
// the client knows. It is the reply's own source where nothing is translated.
func (w *Path) asked(p *Packet) (want Tuple) {
	for i := range w.Connections {
		c := &w.Connections[i]
		if c.Protocol == p.Protocol && c.Endpoint() == p.Source && (c.Reply.Destination == p.Destination || c.Original.Source == p.Destination) {
			return Tuple{c.Original.Destination, c.Original.Source}
		}
	}
	// Conntrack has not told: by a request that came from where this goes to.
	for i := range w.Packets {
		r := &w.Packets[i]
		if r.Direction != Request || r.Protocol != p.Protocol || r.Destination.Addr() != w.Server {
			continue
		}
		if end := r.Last().After; end.Destination == p.Source && end.Source == p.Destination || r.Source == p.Destination {
			return Tuple{r.Destination, r.Source}
		}
	}
	return p.Last().After
}

// Right reports whether a reply reaches the client as from whom it had asked.
// A request is right unless it was dropped, and so is an error message of ICMP,
// which whoever finds the error sends.
func (w *Path) Right(p *Packet) bool {
	return p.Dropped == "" && (p.Direction == Request || p.unreachable() || p.Last().After == w.asked(p))
}

// leaves reports whether the hook is the last one before a packet goes out or
// to a program.
func (s *Step) leaves() bool { return s.Hook == "postrouting" || s.Layer == IP && s.Hook == "input" }

func (w *Path) first(d Direction) *Packet {
	i := slices.IndexFunc(w.Packets, func(p Packet) bool { return p.Direction == d })
	if i < 0 {
		return nil
	}
	return &w.Packets[i]
}

// untranslated explains a reply whose addresses the client does not expect.
func (w *Path) untranslated(p *Packet) {
	want, have := w.asked(p), p.Last().After
	bridge := w.bridged(p)
	if bridge == "" {
		w.Meaning = fmt.Sprintf("the reply from %s went through netfilter and was not translated back: client expects %s", have.Source.Addr(), want.Source.Addr())
		w.Next = "conntrack did not know the connection: see conntrack -L, and rules with notrack"
		return
	}
	w.Meaning = fmt.Sprintf("the reply crossed %s at layer 2 from %s and was never translated back: client expects %s; ", bridge, have.Source.Addr(), want.Source.Addr())
	switch {
	case w.Handing.Value == "":
		w.Meaning += "br_netfilter is not loaded"
		w.Next = "nfguard apply loads it once, systemctl start nfguard keeps it right"
	case w.Handing.on(bridge):
		if w.Handing.Value != "0" {
			w.Meaning += fmt.Sprintf("%s is %s by now", w.Handing.Key, w.Handing.Value)
		} else {
			w.Meaning += fmt.Sprintf("the flag %s of %s is set by now", w.Handing.Flag, bridge)
		}
		w.Next = "trace it once more; nfguard events tells whether it was 0 for a moment"
	default:
		w.Meaning += fmt.Sprintf("br_netfilter did not hand it to netfilter: %s is 0", w.Handing.Key)
		w.Next = "nfguard apply puts it right once, systemctl start nfguard keeps it right"
	}
}

// bridged returns the bridge that a packet crossed without being handed to the
// layer of IP, or "".
func (w *Path) bridged(p *Packet) string {
	bridge := ""
	for _, s := range p.Steps {
		if s.Layer == IP {
			return ""
		}
		if s.Hook == "forward" {
			bridge = w.bridgeOf(s.In)
		}
	}
	return bridge
}

func (w *Path) bridgeOf(port string) string {
	for _, d := range w.Devices {
		if d.Name == port && d.Bridge != "" {
			return d.Bridge
		}
	}
	return "the bridge"
}
