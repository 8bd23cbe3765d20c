package trace

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reply is a packet from the endpoint to the client, translated on its way.
func reply(usec int64, id uint32, flags, identity string, client netip.AddrPort) []Event {
	before := at(usec, id, IP, "prerouting", 3, 0, endpoint, client, identity)
	after := at(usec+1, id, IP, "postrouting", 0, 1, service, client, identity)
	before.Headers.Flags, after.Headers.Flags = flags, flags
	return []Event{before, after}
}

// request is one from the client to the endpoint.
func request(usec int64, id uint32, identity string, client netip.AddrPort) []Event {
	return []Event{
		at(usec, id, IP, "prerouting", 1, 0, client, service, identity),
		at(usec+1, id, IP, "postrouting", 0, 3, client, endpoint, identity),
	}
}

// TestRefusal: a RST is no answer, unless there was one before.
func TestRefusal(t *testing.T) {
	second := netip.MustParseAddrPort("10.0.0.31:40001")
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	pod := Place{PodName: "shop/cart"}
	join := func(lists ...[]Event) (all []Event) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	refused := []KernelDrop{{Reason: "NO_SOCKET", Function: "tcp_v4_rcv", Place: pod, Headers: &Headers{Protocol: TCP, Source: client, Destination: endpoint, Flags: "SYN"}}}
	for name, tt := range map[string]struct {
		events  []Event
		drops   []KernelDrop
		facts   *Facts
		verdict Verdict
		kind    Kind
		meaning string
	}{
		"RST": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "RST ACK", "tcp/2", client)), nil, nil,
			Refused, Reset, "10.0.0.32:8080 refused the connection (RST)",
		},
		"RST, and nobody listens": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "RST ACK", "tcp/2", client)), refused, nil,
			Refused, NotListening, "10.0.0.32:8080 refused the connection: no program listens there in pod shop/cart",
		},
		"RST, and the port's sockets tell": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "RST ACK", "tcp/2", client)), nil,
			&Facts{Endpoint: &Endpoint{Place: pod, Listeners: []Listener{{Address: netip.MustParseAddrPort("127.0.0.1:8080")}}}},
			Refused, NotListening, "10.0.0.32:8080 refused the connection: no program listens there in pod shop/cart",
		},
		"RST, and a program listens": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "RST ACK", "tcp/2", client)), nil,
			&Facts{Endpoint: &Endpoint{Place: pod, Listeners: []Listener{{Address: netip.MustParseAddrPort("0.0.0.0:8080")}}}},
			Refused, Reset, "10.0.0.32:8080 refused the connection (RST)",
		},
		"RST after an answer": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client), reply(20, 3, "RST", "tcp/3", client)), nil, nil,
			Answered, "", "the reply reached the client as from 10.96.0.1:80, whom it had asked",
		},
		"one of two": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client), request(20, 3, "tcp/3", second), reply(30, 4, "RST ACK", "tcp/4", second)), nil, nil,
			Refused, Reset, "of more connections than one, not all were answered: 10.0.0.32:8080 refused the connection (RST)",
		},
		"one of two, in silence": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client), request(20, 3, "tcp/3", second)), nil, nil,
			Unanswered, Unknown, "of more connections than one, not all were answered: no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		},
		"a frame for another, at a pod that was not asked": {
			request(0, 1, "tcp/1", client),
			[]KernelDrop{{Reason: "OTHERHOST", Place: Place{PodName: "shop/other"}, Headers: &Headers{Protocol: TCP, Source: client, Destination: endpoint}}},
			&Facts{Endpoint: &Endpoint{Place: pod}},
			Unanswered, Unknown, "no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		},
		"no word for it, but a function": {
			request(0, 1, "tcp/1", client),
			[]KernelDrop{{Reason: "NOT_SPECIFIED", Function: "arp_error_report", Headers: &Headers{Protocol: TCP, Source: client, Destination: endpoint}}},
			nil,
			Dropped, NoNeighbour, "nobody answers for the next hop to 10.0.0.32 on its link: this node could not find out the MAC address",
		},
		"another connection's drop": {
			request(0, 1, "tcp/1", client),
			[]KernelDrop{{Reason: "IP_RPFILTER", Headers: &Headers{Protocol: TCP, Source: netip.MustParseAddrPort("10.0.0.9:1"), Destination: endpoint}}},
			nil,
			Unanswered, Unknown, "no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		},
		"too large, after an answer": {
			join(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client)),
			[]KernelDrop{{At: time.Second, Reason: "PKT_TOO_BIG", Headers: &Headers{Protocol: TCP, Source: client, Destination: endpoint}}},
			nil,
			Dropped, MTU, "it was answered, and then the request was too large for the next link, on this node, and is not to be fragmented",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(&Record{Query: q, Events: tt.events, Drops: tt.drops, Facts: tt.facts, Lasted: 10 * time.Second})
			var kind Kind
			if w.Cause != nil {
				kind = w.Cause.Kind
			}
			got := []string{string(w.Verdict), string(kind), w.Meaning}
			if diff := cmp.Diff([]string{string(tt.verdict), string(tt.kind), tt.meaning}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestOneConnection: where the trace has sent the request itself, what others of the
// same client get is not its answer.
func TestOneConnection(t *testing.T) {
	second := netip.MustParseAddrPort("10.0.0.31:40001")
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	q.From = second.Port()
	events := append(request(0, 1, "tcp/1", client), reply(10, 2, "SYN ACK", "tcp/2", client)...)
	events = append(events, request(20, 3, "tcp/3", second)...)
	w := New(&Record{Query: q, Events: events, Lasted: 10 * time.Second})
	if len(w.Packets) != 1 || w.Verdict != Unanswered {
		t.Errorf("%d packets, %s: %s", len(w.Packets), w.Verdict, w.Meaning)
	}
}

// TestTranslatedReplyWasSeen: conntrack told of the connection for the last time
// before the reply, which ended it. That it translated the reply shows that it has
// seen it.
func TestTranslatedReplyWasSeen(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	c := Connection{Protocol: TCP, Original: Tuple{client, service}, Reply: Tuple{endpoint, client}}
	events := append(request(0, 1, "tcp/1", client), reply(10, 2, "RST ACK", "tcp/2", client)...)
	var text strings.Builder
	New(&Record{Query: q, Events: events, Connections: []Connection{c}}).Text(&text, nil)
	if want := "replies are due from 10.0.0.32:8080, and it has seen one"; !strings.Contains(text.String(), want) {
		t.Errorf("it lacks %q:\n%s", want, text.String())
	}
	text.Reset()
	New(&Record{Query: q, Events: events[:2], Connections: []Connection{c}}).Text(&text, nil)
	if want := "and it has seen none"; !strings.Contains(text.String(), want) {
		t.Errorf("without a reply it lacks %q:\n%s", want, text.String())
	}
}
