package trace

import (
	"fmt"
	"time"
)

// silent is about a request that nobody answered, and of which the kernel told
// nothing: the settings have to tell, as far as they do.
func (w *Path) silent(f *Facts) {
	w.Verdict, w.Cause = Unanswered, &Cause{Kind: Unknown}
	first := w.asking()
	if first == nil { // an error of ICMP alone came by, and says what there is to say
		return
	}
	last := first.Last()
	w.Meaning = fmt.Sprintf("no reply came by: the request was last seen at %s %s, on its way to %s", last.Layer, last.Hook, place(last.After.Destination))
	waited := w.waited(first)
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
	case first.Protocol == UDP:
		w.Next = "it left this node's hooks: look on the endpoint's side, whether the program listens, whether it answers such a datagram, and whether a policy drops it there"
	default:
		w.Next = "it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there"
	}
}

// soon is when a reply need not have come yet.
const soon = time.Second

// noHairpin reports whether the request came in by a port that sends nothing back.
func (w *Path) noHairpin(f *Facts, last *Step) bool {
	if f == nil {
		return false
	}
	return f.NoHairpin[last.In] || f.NoHairpin[last.Out] || f.NoHairpin[w.asking().portIn()]
}

func (w *Path) hairpin() {
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
func (w *Path) inBridge(f *Facts, first *Packet) {
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
func (w *Path) bySettings(f *Facts, last *Step) bool {
	there := &Cause{}
	switch to := f.To; {
	case f.Forwarding == "0" && to != nil && !to.Local:
		there.Kind, there.Evidence = ForwardingOff, []string{f.forwardingEvidence()}
		w.Meaning = f.notForwarding()
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
func (w *Path) byNeighbour(f *Facts) bool {
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
func (w *Path) atEndpoint(f *Facts, e *Endpoint) bool {
	end := w.asking().Last().After.Destination
	if e.Back != nil && e.Back.Missing != "" {
		w.Cause = &Cause{Kind: NoRoute, Place: e.Place, Evidence: []string{"a look at the routes there: " + e.Back.Missing}}
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
