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
func (w *Way) judge(f *Facts, sent *Sent) {
	w.conclude(f, sent)
	if w.Cause != nil && sent != nil && sent.Error != "" {
		w.Cause.Evidence = append(w.Cause.Evidence, sent.evidence())
	}
}

func (w *Way) conclude(f *Facts, sent *Sent) {
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
				w.Cause.Evidence = []string{fmt.Sprintf("the reply left this node as from %s", place(p.Last().After.Source))}
			}
			w.untranslated(p)
			return
		}
	}
	answer := w.replyThat((*Packet).answers)
	switch d := w.deadly(); {
	case answer != nil && w.diedLater(d):
		w.dropped(d, f)
		w.Meaning = "it was answered, and then " + w.Meaning
	case answer != nil:
		w.Verdict = Answered
		w.Meaning = fmt.Sprintf("the reply reached the client as from %s, whom it had asked", place(w.asked(answer).Source))
	case w.replyThat((*Packet).resets) != nil:
		w.reset(w.replyThat((*Packet).resets), d, f)
	case w.replyThat((*Packet).unreachable) != nil:
		w.told(w.replyThat((*Packet).unreachable), d, f)
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

// Sent is a request that the trace made itself.
type Sent struct {
	From  Place
	Error string // how it ended for the client: "connection refused"; "" where it was answered
}

func (s *Sent) evidence() string {
	return fmt.Sprintf("the request from %s ended with: %s", s.From, s.Error)
}

// replyThat is the first reply of a kind.
func (w *Way) replyThat(is func(*Packet) bool) *Packet {
	for i := range w.Packets {
		if p := &w.Packets[i]; p.Direction == Reply && is(p) {
			return p
		}
	}
	return nil
}

// answers reports whether a reply is an answer by what was asked, and no refusal.
func (p *Packet) answers() bool { return !p.resets() && !p.unreachable() }

func (p *Packet) resets() bool { return p.Protocol == TCP && strings.Contains(p.Flags, "RST") }

// unreachable reports whether it is an error message of ICMP.
func (p *Packet) unreachable() bool {
	return p.Protocol.Echo() && !strings.HasPrefix(p.Flags, "echo")
}

// diedLater reports whether packets were dropped for being too large after the
// last reply: small ones are answered then, and large ones are not.
func (w *Way) diedLater(d *Drop) bool {
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
func (w *Way) byRule(p *Packet) {
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
func (w *Way) reset(p *Packet, d *Drop, f *Facts) {
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
	w.Meaning = fmt.Sprintf("%s refused the connection (RST)", place(p.Source))
	w.Next = nextListening
	w.listensElsewhere(f, p.Source)
}

// listensElsewhere adds who listens at the port: nobody, or a program at another
// address. Without the kernel's word for the drop this is the cause, too.
func (w *Way) listensElsewhere(f *Facts, asked netip.AddrPort) {
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

// told is about a connection of which an error message of ICMP told the client.
func (w *Way) told(p *Packet, d *Drop, f *Facts) {
	said := fmt.Sprintf("ICMP from %s told the client: %s", p.Source.Addr(), p.Flags)
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
		asked := netip.AddrPortFrom(p.Source.Addr(), w.first(Request).Last().After.Destination.Port())
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

// byICMP tells what an error of ICMP says by itself.
func (w *Way) byICMP(p *Packet) {
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
func (w *Way) unsent(s *Sent) {
	w.Verdict, w.Cause = Unanswered, &Cause{Kind: Unknown, Place: s.From}
	w.Meaning = fmt.Sprintf("no packet of the request came by; %s", s.evidence())
	w.Next = "look at the routes, addresses and rules in the client's network namespace"
	if strings.Contains(s.Error, "network is unreachable") {
		w.Cause.Kind = NoRoute
		w.Meaning = fmt.Sprintf("%s has no route to %s: no packet left it", s.From, w.Server)
		w.Next = "look at the routes in the client's network namespace (ip route): the CNI's plug-in sets them"
	}
}

// silent is about a request that nobody answered, and of which the kernel told
// nothing: the settings have to tell, as far as they do.
func (w *Way) silent(f *Facts) {
	w.Verdict, w.Cause = Unanswered, &Cause{Kind: Unknown}
	first := w.first(Request)
	if first == nil {
		w.Meaning = "only replies came by, and none that is an answer"
		w.Next = "trace it on the node of the client"
		return
	}
	last := first.Last()
	w.Meaning = fmt.Sprintf("no reply came by: the request was last seen at %s %s, on its way to %s", last.Layer, last.Hook, place(last.After.Destination))
	waited := time.Duration(w.Lasted*float64(time.Second)) - time.Duration(first.At)*time.Microsecond
	switch {
	case last.After.Destination.Addr() == w.Client && w.noHairpin(f, last):
		w.Cause.Kind = Hairpin
		w.Cause.Evidence = []string{fmt.Sprintf("the port of %s has hairpin mode off", w.Client)}
		w.hairpin()
	case f != nil && first.untilRouting() != nil && w.bySettings(f, first.untilRouting()):
	case f != nil && (last.leaves() || first.stayedInBridge()) && w.byNeighbour(f):
	case last.After.Destination.Addr() == w.Client:
		w.Next = "the endpoint is the client itself: a bridge sends frames back to their own port in hairpin mode only"
	case first.stayedInBridge():
		w.inBridge(f, first)
	case waited < soon:
		w.Next = fmt.Sprintf("the trace ended %v after the request: --for and --packets give the reply more time", waited.Round(time.Millisecond))
	case !last.leaves():
		w.Next = "look for what ends it there: a chain of the family netdev, a program of tc or XDP, IPsec; bpftool net, nft list ruleset, tc filter show"
	case first.Protocol.Echo():
		w.Next = "a Service answers on its ports only: trace one of those; of a pod, see whether a policy drops pings"
	default:
		w.Next = "it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there"
	}
}

// soon is when a reply need not have come yet.
const soon = time.Second

// noHairpin reports whether the request came in by a port that sends nothing back.
func (w *Way) noHairpin(f *Facts, last *Step) bool {
	if f == nil {
		return false
	}
	return f.NoHairpin[last.In] || f.NoHairpin[last.Out] || f.NoHairpin[w.first(Request).portIn()]
}

func (w *Way) hairpin() {
	w.Meaning = fmt.Sprintf("the request was for %s itself: the bridge does not send a frame out by the port that it came in by, whose hairpin mode is off", w.Client)
	w.Next = `hairpinMode of the CNI's bridge plug-in sets it for new pods; [bridges] hairpin = "keep" of nfguard.toml keeps it set`
}

// untilRouting is the step of a packet that was seen last before the routes are
// asked, and nil for one that came further, or crosses a bridge. What a bridge
// hands to IP before it takes it up is at both in turn.
func (p *Packet) untilRouting() *Step {
	var at *Step
	bridge := false
	for i := range p.Steps {
		switch s := &p.Steps[i]; {
		case s.Layer == Bridge && s.Hook == "prerouting":
			bridge = true
		case s.Layer == Bridge && s.Hook == "input":
			bridge = false
		case s.Layer == IP && s.Hook == "prerouting":
			at = s
		default:
			return nil
		}
	}
	if bridge {
		return nil
	}
	return at
}

// stayedInBridge reports whether a packet came to a bridge and to none of the
// hooks that it passes on its way out of it.
func (p *Packet) stayedInBridge() bool {
	last := p.Last()
	return p.portIn() != "" && last.Hook == "prerouting"
}

// portIn is the port of a bridge that a packet came in by, or "".
func (p *Packet) portIn() string {
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Layer == Bridge && s.Hook == "prerouting" {
			return s.In
		}
	}
	return ""
}

// inBridge is about a request that a bridge took in and that left it by no hook.
func (w *Way) inBridge(f *Facts, first *Packet) {
	if f != nil && f.conntrackFull() && first.Last().Layer == IP {
		w.Cause = &Cause{Kind: ConntrackFull, Evidence: []string{f.conntrackEvidence()}}
		w.Meaning = sayConntrack
		w.Next = nextConntrack
		return
	}
	bridge := w.bridgeOf(first.portIn())
	w.Cause = &Cause{Kind: BridgeDrops, Evidence: []string{fmt.Sprintf("the request came to %s by %s, and to none of the hooks by which it would leave it", bridge, first.portIn())}}
	w.Meaning = fmt.Sprintf("no reply came by: %s took the request in and did not send it on", bridge)
	w.Next = nextBridge
}

// bySettings judges a request that was last seen before the routes were asked. It
// is false where the settings tell nothing.
func (w *Way) bySettings(f *Facts, last *Step) bool {
	there := &Cause{}
	switch to := f.To; {
	case f.Forwarding == "0" && to != nil && !to.Local:
		there.Kind, there.Evidence = ForwardingOff, []string{f.forwardingEvidence()}
		w.Meaning = fmt.Sprintf("this node does not forward packets: %s is 0", f.ForwardingKey)
		w.Next = nextForwarding(f)
	case f.conntrackFull():
		there.Kind, there.Evidence = ConntrackFull, []string{f.conntrackEvidence()}
		w.Meaning = sayConntrack
		w.Next = nextConntrack
	case to != nil && to.Missing == "rp_filter" || f.rose("TcpExt IPReversePathFilter", onNode) != nil && f.ReversePath[last.In] != 0:
		there.Kind, there.Evidence = ReversePath, []string{fmt.Sprintf("rp_filter of %s is %d", last.In, f.ReversePath[last.In])}
		if c := f.rose("TcpExt IPReversePathFilter", onNode); c != nil {
			there.Evidence = append(there.Evidence, c.evidence())
		}
		w.Meaning = fmt.Sprintf("rp_filter refuses the source %s at %s: the route to it leads elsewhere", w.Client, last.In)
		w.Next = nextReversePath
	case to != nil && to.Missing == "no_route":
		there.Kind, there.Evidence = NoRoute, []string{to.evidence()}
		w.Meaning = fmt.Sprintf("this node has no route to %s", to.Address)
		w.Next = nextRoute
	case to != nil && to.Missing != "":
		there.Kind, there.Evidence = RouteRefuses, []string{to.evidence()}
		w.Meaning = fmt.Sprintf("a route of this node refuses packets to %s: its type is %s", to.Address, to.Missing)
		w.Next = nextRoute
	case f.rose("Ip InHdrErrors", onNode) != nil:
		c := f.rose("Ip InHdrErrors", onNode)
		there.Kind, there.Evidence = TTL, []string{c.evidence()}
		w.Meaning = "a header of IP was refused on this node, most likely since its time to live ran out"
		w.Next = nextTTL
	default:
		return false
	}
	w.Cause = there
	return true
}

// byNeighbour judges a request that has left by the last hook.
func (w *Way) byNeighbour(f *Facts) bool {
	if f.To != nil && f.To.lost() {
		w.Cause = &Cause{Kind: NoNeighbour, Evidence: []string{f.To.neighbourEvidence()}}
		w.Meaning = fmt.Sprintf("nobody answers for %s on %s: its MAC address could not be found out", f.To.Next, f.To.Device)
		if f.To.Neighbour == "incomplete" {
			w.Meaning = fmt.Sprintf("nobody has answered for %s on %s so far: its MAC address is not known", f.To.Next, f.To.Device)
		}
		w.Next = nextNeighbour
		return true
	}
	if e := f.Endpoint; e != nil && w.atEndpoint(f, e) {
		return true
	}
	return false
}

// atEndpoint judges a request that has reached a pod of this node, by what is seen
// there.
func (w *Way) atEndpoint(f *Facts, e *Endpoint) bool {
	end := w.first(Request).Last().After.Destination
	if e.Back != nil && e.Back.Missing != "" {
		w.Cause = &Cause{Kind: NoRoute, Place: e.Place, Evidence: []string{fmt.Sprintf("a look at the routes there: %s", e.Back.Missing)}}
		w.Meaning = fmt.Sprintf("no reply came by: there is no route back to %s %s", e.Back.Address, e.Place.in())
		w.Next = "look at the routes in that network namespace (ip route): the CNI's plug-in sets them"
		return true
	}
	waiting := e.waiting(end)
	for _, c := range []struct {
		name string
		kind Kind
	}{{"TcpExt ListenOverflows", ListenQueue}, {"Udp RcvbufErrors", ReceiveBuffer}} {
		rose := f.rose(c.name, f.atEndpoint)
		if rose == nil || waiting == 0 {
			continue
		}
		w.Cause = &Cause{Kind: c.kind, Place: e.Place, Evidence: []string{rose.evidence()}}
		w.Next = nextQueue
		if c.kind == ListenQueue {
			w.Cause.Evidence = append(w.Cause.Evidence, fmt.Sprintf("connections that wait at %s to be accepted: %d", place(end), waiting))
			w.Meaning = fmt.Sprintf("no reply came by: the listen queue of %s %s is full, its program does not accept connections fast enough", place(end), e.Place.in())
			return true
		}
		w.Cause.Evidence = append(w.Cause.Evidence, fmt.Sprintf("bytes that wait at %s to be read: %d", place(end), waiting))
		w.Meaning = fmt.Sprintf("no reply came by: the receive buffer of %s %s is full, its program does not read fast enough", place(end), e.Place.in())
		return true
	}
	return false
}
