package trace

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// judge says what it means. A packet that a rule dropped, or a reply that nobody
// translated back, tells first; then an answer, a refusal, what the kernel told
// of dropped packets, and at last the settings.
func (w *Path) judge(f *Facts, sent *Sent) {
	w.conclude(f, sent)
	if w.Cause != nil && sent != nil && sent.Error != "" {
		w.Cause.Evidence = append(w.Cause.Evidence, sent.evidence())
	}
}

func (w *Path) conclude(f *Facts, sent *Sent) {
	for i := range w.Packets {
		p := &w.Packets[i]
		switch {
		case p.Dropped != "":
			w.byRule(p)
			return
		case !w.Right(p):
			w.Verdict, w.Cause = Untranslated, &Cause{Kind: Untranslate}
			if bridge := w.bridged(p); bridge != "" {
				w.Cause.Evidence = []string{w.Handing.describe(bridge)}
			} else {
				w.Cause.Evidence = []string{"the reply was last seen as from " + place(p.Last().After.Source)}
			}
			w.untranslated(p)
			return
		}
	}
	answer, refusal := w.replyThat((*Packet).answers), w.replyThat(w.refuses)
	switch d := w.deadly(f); {
	case refusal != nil:
		w.reset(refusal, d, f)
		if answer != nil {
			w.Meaning = notAll + w.Meaning
		}
	case answer != nil && w.ignored() != nil:
		if d != nil {
			w.dropped(d, f)
		} else {
			w.silent(f)
		}
		w.Meaning = notAll + w.Meaning
	case answer != nil && w.diedLater(d):
		w.dropped(d, f)
		w.Meaning = "it was answered, and then " + w.Meaning
	case answer != nil:
		w.Verdict = Answered
		w.Meaning = fmt.Sprintf("the reply reached the client as from %s, whom it had asked", place(w.asked(answer).Source))
	case w.replyThat((*Packet).unreachable) != nil:
		w.icmpError(w.replyThat((*Packet).unreachable), d, f)
	case d != nil:
		w.dropped(d, f)
	case len(w.Packets) > 0:
		w.silent(f)
	case sent != nil && sent.Error != "":
		w.unsent(sent)
	default:
		w.Verdict = Unseen
		w.Meaning = "no packet of this connection came by"
		w.Next = "make the request while the trace listens, or have --send make it; --for gives it more time"
	}
}

// notAll is said where some connections were answered, and others are told of.
const notAll = "of more connections than one, not all were answered: "

// ignored is the first request to open a connection of TCP that nobody answered, nil
// where there is none, or there was no time for an answer.
func (w *Path) ignored() *Packet {
	for i := range w.Packets {
		p := &w.Packets[i]
		if p.Direction != Request || p.Flags != "SYN" || w.waited(p) < soon {
			continue
		}
		if w.replyThat(func(r *Packet) bool { return r.Protocol == TCP && r.clientPort() == p.clientPort() }) == nil {
			return p
		}
	}
	return nil
}

// waited is for how long the trace went on after a packet.
func (w *Path) waited(p *Packet) time.Duration {
	return time.Duration(w.Lasted*float64(time.Second)) - time.Duration(p.At)*time.Microsecond
}

// asking is the request that is judged where there was no answer.
func (w *Path) asking() *Packet {
	if p := w.ignored(); p != nil {
		return p
	}
	return w.first(Request)
}

// Sent is a request that the trace made itself.
type Sent struct {
	From  Place
	Port  uint16 // of the client's
	Error string // how it ended for the client: "connection refused"; "" where it was answered
}

func (s *Sent) evidence() string {
	return fmt.Sprintf("the request from %s ended with: %s", s.From, s.Error)
}

// replyThat is the first reply of a kind.
func (w *Path) replyThat(is func(*Packet) bool) *Packet {
	for i := range w.Packets {
		if p := &w.Packets[i]; p.Direction == Reply && is(p) {
			return p
		}
	}
	return nil
}

// answers reports whether a reply is an answer by what was asked, and no refusal.
func (p *Packet) answers() bool { return !p.resets() && !p.unreachable() }

// refuses reports whether it is a RST in place of an answer: who has answered
// before may end a connection by it.
func (w *Path) refuses(p *Packet) bool {
	if !p.resets() {
		return false
	}
	client := w.asked(p).Destination
	return w.replyThat(func(other *Packet) bool {
		return other.Protocol == TCP && other.answers() && w.asked(other).Destination == client
	}) == nil
}

func (p *Packet) resets() bool { return p.Protocol == TCP && strings.Contains(p.Flags, "RST") }

// unreachable reports whether it is an error message of ICMP.
func (p *Packet) unreachable() bool {
	return p.Protocol.Echo() && !strings.HasPrefix(p.Flags, "echo")
}

// diedLater reports whether packets were dropped for being too large after the
// last reply: small ones are answered then, and large ones are not.
func (w *Path) diedLater(d *Drop) bool {
	if d == nil || d.kind() != MTU && d.kind() != ReceiveBuffer {
		return false
	}
	for i := range w.Packets {
		if p := &w.Packets[i]; p.Direction == d.Direction.back() && p.answers() && p.At > d.Last {
			return false
		}
	}
	return true
}

// byRule is about a packet that a rule or a policy ended, as the trace saw.
func (w *Path) byRule(p *Packet) {
	last := p.Last()
	w.Cause = &Cause{Kind: ByRule, Evidence: []string{fmt.Sprintf("the trace of nf_tables saw it end at %s %s", last.Layer, last.Hook)}}
	w.Next = "if that is not what it should do, ask whoever wrote that rule; nft list ruleset shows it, or iptables-legacy-save"
	if n := len(last.Rules); n > 0 && strings.Contains(last.Rules[n-1].Action, "reject") {
		w.Verdict, w.Cause.Kind = Refused, RejectedByRule
		w.Meaning = fmt.Sprintf("the %s was rejected by a rule at %s %s: %s", p.Direction, last.Layer, last.Hook, p.Dropped)
		return
	}
	w.Verdict = Dropped
	if strings.HasSuffix(p.Dropped, itsPolicy) {
		w.Cause.Kind = ByPolicy
		w.Next = "nothing in that chain accepts it; if it should pass, a rule has to; nft list ruleset shows the chain, or iptables-save"
	}
	w.Meaning = fmt.Sprintf("the %s was dropped at %s %s: %s", p.Direction, last.Layer, last.Hook, p.Dropped)
}

// reset is about a connection that a RST refused.
func (w *Path) reset(p *Packet, d *Drop, f *Facts) {
	w.Verdict = Refused
	w.Cause = &Cause{Kind: Reset, Evidence: []string{fmt.Sprintf("a RST from %s came by", place(p.Source))}}
	if d != nil && d.kind() == NotListening && d.Direction == Request {
		w.Cause.Kind, w.Cause.Place = NotListening, d.Place
		w.Cause.Evidence = append(w.Cause.Evidence, d.evidence())
		w.Meaning = fmt.Sprintf("%s refused the connection: no program listens there %s", place(d.Destination), d.Place.in())
		w.Next = nextListening
		w.listensElsewhere(f, p.Source)
		return
	}
	if d != nil && d.kind() == ByRule && inPod(d.Place) {
		w.Cause.Kind, w.Cause.Place = RejectedByRule, d.Place
		w.Cause.Evidence = append(w.Cause.Evidence, d.evidence())
		w.Meaning = fmt.Sprintf("%s refused the connection: a rule %s rejects it", place(p.Source), d.Place.in())
		w.Next = nextPodRule
		return
	}
	w.Meaning = place(p.Source) + " refused the connection (RST)"
	w.Next = nextListening
	w.listensElsewhere(f, p.Source)
}

// listensElsewhere adds who listens at the port: nobody, or a program at another
// address. Without the kernel's word for the drop this is the cause, too.
func (w *Path) listensElsewhere(f *Facts, asked netip.AddrPort) {
	if f == nil || f.Endpoint == nil || asked.Port() == 0 {
		return
	}
	e := f.Endpoint
	elsewhere := e.elsewhere(asked)
	switch {
	case len(elsewhere) == len(e.Listeners) && len(elsewhere) > 0:
		w.Cause.Evidence = append(w.Cause.Evidence, fmt.Sprintf("the programs %s that listen on port %d do so at %s only", e.Place.in(), asked.Port(), strings.Join(elsewhere, ", ")))
		w.Next = fmt.Sprintf("have the program listen at %s or at all addresses, not at %s only", asked.Addr(), strings.Join(elsewhere, ", "))
	case len(e.Listeners) == 0:
		w.Cause.Evidence = append(w.Cause.Evidence, fmt.Sprintf("no socket %s listens on port %d", e.Place.in(), asked.Port()))
	default:
		return
	}
	if w.Cause.Kind == Reset { // by what is not known yet
		w.Cause.Kind, w.Cause.Place = NotListening, e.Place
		w.Meaning = fmt.Sprintf("%s refused the connection: no program listens there %s", place(asked), e.Place.in())
	}
}

const (
	nextListening = "see whether the program runs and listens on that address and port (ss -lntu in the pod), and whether the Service has the right target port"
	nextPodRule   = "look at the rules in that network namespace: nsenter -t PID -n nft list ruleset; a service mesh or the CNI's portmap may have written them"
)

// icmpError is about a connection of which an error message of ICMP told the client.
func (w *Path) icmpError(p *Packet, d *Drop, f *Facts) {
	said := p.evidence()
	port, prohibited := strings.HasSuffix(p.Flags, portUnreachable), strings.HasSuffix(p.Flags, " prohibited")
	switch {
	case d != nil && (!port || d.kind() != NotListening) && (d.kind() != ByRule || inPod(d.Place)):
		w.dropped(d, f)
		if port || prohibited {
			w.Verdict = Refused
		}
		if w.Cause.Kind == PodRule {
			w.Cause.Kind = RejectedByRule
			w.Meaning = fmt.Sprintf("%s refused it: a rule %s rejects it", p.Source.Addr(), d.Place.in())
		}
		w.Cause.Evidence = append(w.Cause.Evidence, said)
		return
	case port:
		w.Verdict, w.Cause = Refused, &Cause{Kind: Reset, Evidence: []string{said}}
		w.Meaning = fmt.Sprintf("%s refused it (ICMP port unreachable)", p.Source.Addr())
		w.Next = nextListening
		var asked netip.AddrPort
		if first := w.asking(); first != nil {
			asked = netip.AddrPortFrom(p.Source.Addr(), first.Last().After.Destination.Port())
		}
		if d != nil && d.kind() == NotListening {
			asked = d.Destination
			w.Cause = &Cause{Kind: NotListening, Place: d.Place, Evidence: []string{said, d.evidence()}}
			w.Meaning = fmt.Sprintf("%s refused the connection: no program listens there %s", place(d.Destination), d.Place.in())
		}
		w.listensElsewhere(f, asked)
	case prohibited && f != nil && f.To != nil && f.To.Missing == "prohibit":
		w.Verdict, w.Cause = Refused, &Cause{Kind: RouteRefuses, Evidence: []string{f.To.evidence(), said}}
		w.Meaning = fmt.Sprintf("a route of this node refuses packets to %s: its type is %s", f.To.Address, f.To.Missing)
		w.Next = nextRoute
	case prohibited:
		w.Verdict, w.Cause = Refused, &Cause{Kind: Prohibited, Evidence: []string{said}}
		w.Meaning = fmt.Sprintf("%s refused it: a rule or a route there prohibits it", p.Source.Addr())
		w.Next = "look at the rules and routes of that host: nft list ruleset, ip route"
	default:
		w.silent(f)
		w.Cause.Evidence = append(w.Cause.Evidence, said)
		if w.Cause.Kind == Unknown {
			w.Verdict, w.Cause.Kind = Dropped, Unreachable
			w.Meaning = fmt.Sprintf("%s did not send it on: %s", p.Source.Addr(), p.Flags)
			w.Next = "look at the routes and neighbours of that host: ip route get, ip neigh"
			w.byICMP(p)
		}
	}
}

// evidence is an error message of ICMP in a sentence.
func (p *Packet) evidence() string {
	return fmt.Sprintf("ICMP from %s told the client: %s", p.Source.Addr(), p.Flags)
}

// byICMP tells what an error of ICMP says by itself.
func (w *Path) byICMP(p *Packet) {
	switch p.Flags {
	case timeExceeded:
		w.Verdict, w.Cause.Kind = Dropped, TTL
		w.Meaning = fmt.Sprintf("the time to live of the request ran out at %s", p.Source.Addr())
		w.Next = nextTTL
	case fragmentationNeeded, packetTooBig:
		w.Verdict, w.Cause.Kind = Dropped, MTU
		w.Meaning = fmt.Sprintf("the request was too large to be sent on at %s", p.Source.Addr())
		w.Next = nextMTU
	}
}

// unsent is about a request of which no packet was seen.
func (w *Path) unsent(s *Sent) {
	w.Verdict, w.Cause = Unanswered, &Cause{Kind: Unknown, Place: s.From}
	w.Meaning = "no packet of the request came by; " + s.evidence()
	w.Next = "look at the routes, addresses and rules in the client's network namespace"
	if strings.Contains(s.Error, "network is unreachable") {
		w.Cause.Kind = NoRoute
		w.Meaning = fmt.Sprintf("%s has no route to %s: no packet left it", s.From, w.Server)
		w.Next = "look at the routes in the client's network namespace (ip route): the CNI's plug-in sets them"
	}
}
