package probe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cells are those of one family and UDP, with the outcomes of the same node by
// pod IP and cluster IP, of the other node, and of itself.
func cells(f Family, outcomes ...Outcome) []Cell {
	var list []Cell
	for i, q := range []struct {
		path Path
		to   Target
		who  addresses
	}{
		{Bridged, PodIP, serverAddresses},
		{Bridged, ClusterIP, serverService},
		{Routed, PodIP, remoteAddresses},
		{Routed, ClusterIP, remoteService},
		{Hairpin, ClusterIP, clientService},
	} {
		c := Cell{Path: q.path, To: q.to, Family: f, Protocol: UDP, Asked: netip.AddrPortFrom(q.who.of(f), port)}
		c.Outcome, c.Took = outcomes[i], 304*time.Millisecond
		switch c.Outcome {
		case WrongSource:
			c.Source = netip.AddrPortFrom(serverAddresses.of(f), port)
		case Failed:
			c.Error = "sendto: network is down"
		}
		list = append(list, c)
	}
	return list
}

// service are the cells of a real Service with two endpoints on the own node and
// one elsewhere: the three of them, and the cluster IP.
func service(outcomes ...Outcome) []Cell {
	var list []Cell
	for i, q := range []struct {
		path Path
		to   Target
		at   string
	}{
		{Bridged, PodIP, "10.244.0.1:53"},
		{Bridged, PodIP, "10.244.0.2:53"},
		{Routed, PodIP, "10.244.1.1:53"},
		{Bridged, ClusterIP, "10.96.0.10:53"},
	} {
		c := Cell{Path: q.path, To: q.to, Family: IPv4, Protocol: UDP, Service: "kube-system/kube-dns:dns", Asked: netip.MustParseAddrPort(q.at)}
		c.Outcome, c.Took = outcomes[i], time.Second
		list = append(list, c)
	}
	return list
}

func TestJudge(t *testing.T) {
	const a = Answered
	for _, tt := range []struct {
		name  string
		cells []Cell
		want  Judgement
	}{
		{"all answered", append(cells(IPv4, a, a, a, a, a), cells(IPv6, a, a, a, a, a)...), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4, IPv6)",
		}},
		{"no IPv6", append(cells(IPv4, a, a, a, a, a), cells(IPv6, Absent, Absent, Absent, Absent, Absent)...), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
		}},
		{"wrong source", cells(IPv4, a, WrongSource, a, a, a), Judgement{
			Verdict: Broken, Meaning: "a pod that calls a Service with an endpoint on its own node gets the reply from 192.0.2.3:7 and not from 203.0.113.3:7, which it asked (IPv4 UDP)",
		}},
		{"IPv6 only is wrong", append(cells(IPv4, a, a, a, a, a), cells(IPv6, a, WrongSource, a, a, a)...), Judgement{
			Verdict: Broken, Meaning: "a pod that calls a Service with an endpoint on its own node gets the reply from [2001:db8:0:1::3]:7 and not from [2001:db8:0:3::3]:7, which it asked (IPv6 UDP); 1 of 2 questions were answered",
		}},
		{"wrong source says more than silence", append(cells(IPv4, a, TimedOut, a, a, a), cells(IPv6, a, WrongSource, a, a, a)...), Judgement{
			Verdict: Broken, Meaning: "a pod that calls a Service with an endpoint on its own node gets the reply from [2001:db8:0:1::3]:7 and not from [2001:db8:0:3::3]:7, which it asked (IPv6 UDP)",
		}},
		{"silence, but the pod answers", cells(IPv4, a, TimedOut, a, a, a), Judgement{
			Verdict: Broken, Meaning: "a pod that calls a Service with an endpoint on its own node gets no answer from 203.0.113.3:7 (IPv4 UDP), although the pod behind it answers",
		}},
		{"refused, but the pod answers", cells(IPv4, a, Refused, a, a, a), Judgement{
			Verdict: Broken, Meaning: "a pod that calls a Service with an endpoint on its own node is refused by 203.0.113.3:7 (IPv4 UDP), although the pod behind it answers",
		}},
		{"the pod does not answer either", cells(IPv4, TimedOut, TimedOut, a, a, a), Judgement{
			Verdict: Unknown, Meaning: "IPv4 UDP bridged, cluster IP 203.0.113.3:7: no answer within 300ms, and the pod behind it, 192.0.2.3:7, was not reached either: this says nothing about Services",
		}},
		{"another Service of the kind tells", append(cells(IPv4, TimedOut, TimedOut, a, a, a), cells(IPv4, a, a, a, a, a)...), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
		}},
		{"one of the other family does not", append(cells(IPv4, TimedOut, TimedOut, a, a, a), cells(IPv6, a, a, a, a, a)...), Judgement{
			Verdict: Unknown, Meaning: "IPv4 UDP bridged, cluster IP 203.0.113.3:7: no answer within 300ms, and the pod behind it, 192.0.2.3:7, was not reached either: this says nothing about Services",
		}},
		{"could not send", cells(IPv4, Failed, Failed, a, a, a), Judgement{
			Verdict: Unknown, Meaning: "IPv4 UDP bridged, cluster IP 203.0.113.3:7: sendto: network is down, and the pod behind it, 192.0.2.3:7, was not reached either: this says nothing about Services",
		}},
		{"could not send to the cluster IP", cells(IPv4, a, Failed, a, a, a), Judgement{
			Verdict: Unknown, Meaning: "IPv4 UDP bridged, cluster IP 203.0.113.3:7: sendto: network is down",
		}},
		{"the other node is silent", cells(IPv4, a, a, TimedOut, TimedOut, a), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
		}},
		{"no hairpin", cells(IPv4, a, a, a, a, TimedOut), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
			Hairpin: "a pod that calls its own Service does not reach itself (IPv4 UDP: no answer within 300ms)", HairpinNext: hairpinNext,
		}},
		{"a real port, without and with", append(cells(IPv4, a, a, a, a, Answered), own(NoHairpin, TimedOut), own(InHairpin, Answered)), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
			Hairpin:     "a pod that calls its own Service does not reach itself as long as its port is not in hairpin mode (IPv4 TCP: no answer within 1s)",
			HairpinNext: hairpinNext,
		}},
		{"a real port, not even with", append(cells(IPv4, a, a, a, a, Answered), own(NoHairpin, TimedOut), own(InHairpin, Refused)), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
			Hairpin:     "a pod that calls its own Service does not reach itself, although its port is in hairpin mode (IPv4 TCP: refused)",
			HairpinNext: "nfguard trace shows where the packets of a pod of such a Service are lost",
		}},
		{"a real port, not asked", append(cells(IPv4, a, a, a, a, Answered), own(InHairpin, Absent)), Judgement{
			Verdict: Works, Meaning: "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)",
			Hairpin: "whether a pod reaches itself by its own Service could not be asked: no rules",
		}},
		{"a Service is silent, its pods are not", service(a, a, a, TimedOut), Judgement{
			Verdict: Broken, Meaning: "a pod that calls a Service with an endpoint on its own node gets no answer from 10.96.0.10:53 (IPv4 UDP), although the pod behind it answers",
		}},
		{"a Service is silent, and so is its pod elsewhere", service(a, a, TimedOut, TimedOut), Judgement{
			Verdict: Unknown, Meaning: "IPv4 UDP bridged, cluster IP 10.96.0.10:53: no answer within 1s, and the pod behind it, 10.244.1.1:53, was not reached either: this says nothing about Services",
		}},
		{"a Service is refused, and so is its second pod here", service(a, Refused, a, Refused), Judgement{
			Verdict: Unknown, Meaning: "IPv4 UDP bridged, cluster IP 10.96.0.10:53: refused, and the pod behind it, 10.244.0.2:53, was not reached either: this says nothing about Services",
		}},
		{"nothing was asked", nil, Judgement{Verdict: Unknown, Meaning: "no Service with an endpoint on this node could be asked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Judge(tt.cells)); diff != "" {
				t.Errorf("judgement (-want +got):\n%s", diff)
			}
		})
	}
}

// own is a pod's question to itself through a real port.
func own(port string, o Outcome) Cell {
	c := Cell{Path: Hairpin, To: ClusterIP, Family: IPv4, Protocol: TCP, Port: port}
	c.Outcome, c.Took = o, time.Second
	if o == Absent {
		c.Error = "no rules"
	}
	return c
}
