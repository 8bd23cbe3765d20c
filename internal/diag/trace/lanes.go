package trace

import (
	"fmt"
	"math"
	"net/netip"
	"unicode/utf8"
)

// missingLines is what should have been where a reply went untranslated: the
// hook at which conntrack puts the server's address back.
var missingLines = [...]string{"ip postrouting", "never reached:", "no address", "put back"}

// endpoint is who the packet comes from or goes to on the other side.
func (p *Packet) endpoint() netip.Addr {
	if p.Direction == Reply {
		return p.Source.Addr()
	}
	return p.Last().After.Destination.Addr()
}

// width is what the widest of its packets needs.
func (w *Path) width() float64 {
	widest := 0.0
	for _, d := range []Direction{Request, Reply} {
		p := w.pictured(d)
		if p == nil {
			continue
		}
		client, server := w.ends(p)
		width := 2*margin + client.width() + server.width() + gap
		for _, b := range w.boxes(p) {
			width += b.width() + gap
		}
		widest = max(widest, width)
	}
	return widest
}

// packet draws the lanes with a packet's path: from the client on the left to
// the endpoint on the right, and a reply the other way.
func (p *picture) packet(w *Path, packet *Packet) {
	boxes := w.boxes(packet)
	client, server := w.ends(packet)
	heights := map[Layer]float64{}
	total := 0.0
	for i := range boxes {
		layer := packet.Steps[i].Layer
		heights[layer] = max(heights[layer], boxes[i].height())
		total += boxes[i].width()
	}
	missing := box{class: "missing", lines: missingLines[:]}
	lost := packet.Direction == Reply && !w.Right(packet) && w.bridged(packet) != ""
	if lost {
		heights[IP] = missing.height()
	}
	// A lane without boxes says as much, by being there.
	for _, l := range []Layer{IP, Bridge} {
		heights[l] = max(heights[l], line+padding)
	}

	left, right := margin+client.width()+gap/2, p.width-margin-server.width()-gap/2
	top := map[Layer]float64{IP: p.y}
	ipLane := laneName + heights[IP] + padding
	top[Bridge] = p.y + ipLane + 6
	bridgeLane := padding + heights[Bridge] + laneName
	bottom := top[Bridge] + bridgeLane
	p.rect("lane", left, top[IP], right-left, ipLane)
	p.text(left+padding, top[IP]+line, "soft", "ip, layer 3")
	p.rect("lane", left, top[Bridge], right-left, bridgeLane)
	p.text(left+padding, bottom-8, "soft", w.bridgeName()+", layer 2")

	// The nodes are as tall as both lanes.
	p.box(&client, margin, top[IP], client.width(), max(bottom-top[IP], client.height()))
	p.box(&server, p.width-margin-server.width(), top[IP], server.width(), max(bottom-top[IP], server.height()))
	bottom = max(bottom, top[IP]+client.height(), top[IP]+server.height())

	// The boxes are spread evenly, in the order of the path.
	space := (right - left - total) / float64(len(boxes)+1)
	at := make([]float64, len(boxes))
	x := left
	for n := range boxes {
		i := n
		if packet.Direction == Reply {
			i = len(boxes) - 1 - n
		}
		x += space
		at[i] = x
		x += boxes[i].width()
	}
	// Names are at the outer sides, where no line from lane to lane comes by.
	row := map[Layer]float64{IP: top[IP] + laneName, Bridge: top[Bridge] + padding}
	middle := func(i int) float64 {
		l := packet.Steps[i].Layer
		return row[l] + heights[l]/2
	}
	p.line(packet, boxes, at, middle, left-gap/2, right+gap/2)
	for i := range boxes {
		l := packet.Steps[i].Layer
		p.box(&boxes[i], at[i], row[l]+(heights[l]-boxes[i].height())/2, boxes[i].width(), boxes[i].height())
	}
	if lost {
		x := (left + right - missing.width()) / 2
		y := row[IP]
		first, last := 0, len(boxes)-1
		p.lead("lost", at[first], middle(first)-8, x+missing.width(), y+missing.height()/2, false)
		p.lead("lost", x, y+missing.height()/2, at[last]+boxes[last].width(), middle(last)-8, false)
		p.box(&missing, x, y, missing.width(), missing.height())
	}
	p.y = bottom
}

// line draws the path itself, behind the boxes.
func (p *picture) line(packet *Packet, boxes []box, at []float64, middle func(int) float64, client, server float64) {
	reply := packet.Direction == Reply
	near := func(i int) float64 { // the edge at which the path comes in
		if reply {
			return at[i] + boxes[i].width()
		}
		return at[i]
	}
	far := func(i int) float64 {
		if reply {
			return at[i]
		}
		return at[i] + boxes[i].width()
	}
	from, to := client, server
	if reply {
		from, to = server, client
	}
	last := len(boxes) - 1
	p.lead("way", from, middle(0), near(0), middle(0), true)
	for i := range last {
		p.lead("way", far(i), middle(i), near(i+1), middle(i+1), true)
	}
	switch {
	case packet.Dropped != "":
	case packet.Last().leaves():
		p.lead("way", far(last), middle(last), to, middle(last), true)
	default:
		p.lead("lost", far(last), middle(last), to, middle(last), false)
	}
}

func (w *Path) bridgeName() string {
	for _, d := range w.Devices {
		if d.Kind == "bridge" {
			return "bridge " + d.Name
		}
	}
	return "bridge"
}

// rules lists the rules that a packet met, below its picture.
func (p *picture) rules(packet *Packet) {
	const most = 12
	limit := int((p.width - 2*margin) / char)
	n, places := 0, 0
	for _, s := range packet.Steps {
		for _, m := range s.Rules {
			places = max(places, len(m.Table+" "+m.Chain))
			n++
		}
	}
	shown := 0
	if n > 0 {
		p.y += 6
	}
	for _, s := range packet.Steps {
		for i := range s.Rules {
			m := &s.Rules[i]
			if shown++; shown > most {
				continue
			}
			row := fmt.Sprintf("%-*s  %s", places, m.Table+" "+m.Chain, m.does())
			if m.Comment != "" {
				row += "  “" + m.Comment + "”"
			}
			if utf8.RuneCountInString(row) > limit {
				row = string([]rune(row)[:limit-1]) + "…"
			}
			p.y += line
			p.text(margin, p.y, "soft", row)
		}
	}
	if n > most {
		p.y += line
		p.text(margin, p.y, "soft", fmt.Sprintf("and %d more rules", n-most))
	}
}

func round(x float64) float64 { return math.Round(x*10) / 10 }
