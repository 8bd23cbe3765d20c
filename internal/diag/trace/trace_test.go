package trace

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseQuery(t *testing.T) {
	for name, tt := range map[string]struct {
		client, server string
		want, err      string
	}{
		"address":                 {"10.0.0.1", "10.96.0.1", "10.0.0.1 → 10.96.0.1", ""},
		"port":                    {"10.0.0.1", "10.96.0.1:80", "10.0.0.1 → 10.96.0.1:80", ""},
		"port and protocol":       {"10.0.0.1", "10.96.0.1:53/udp", "10.0.0.1 → 10.96.0.1:53/udp", ""},
		"protocol":                {"10.0.0.1", "10.96.0.1/tcp", "10.0.0.1 → 10.96.0.1/tcp", ""},
		"IPv6":                    {"fd00::1", "fd00::2", "fd00::1 → fd00::2", ""},
		"IPv6 and port":           {"fd00::1", "[fd00::2]:80/tcp", "fd00::1 → [fd00::2]:80/tcp", ""},
		"IPv6 in brackets":        {"fd00::1", "[fd00::2]", "fd00::1 → fd00::2", ""},
		"IPv4 as IPv6 writes it":  {"::ffff:10.0.0.1", "10.96.0.1", "10.0.0.1 → 10.96.0.1", ""},
		"client is a name":        {"web", "10.96.0.1", "", `client "web" is not an IP address`},
		"server is a name":        {"10.0.0.1", "web:80", "", `server "web:80" is not an IP address with or without a port`},
		"port 0":                  {"10.0.0.1", "10.96.0.1:0", "", `server "10.96.0.1:0" is not an IP address with or without a port`},
		"port too large":          {"10.0.0.1", "10.96.0.1:65536", "", `server "10.96.0.1:65536" is not an IP address with or without a port`},
		"another protocol":        {"10.0.0.1", "10.96.0.1:80/sctp", "", `protocol "sctp" is not tcp, udp or icmp`},
		"ping":                    {"10.0.0.1", "10.0.0.2/icmp", "10.0.0.1 → 10.0.0.2/icmp", ""},
		"ping, IPv6":              {"fd00::1", "fd00::2/icmp", "fd00::1 → fd00::2/icmp6", ""},
		"ping, by its other name": {"fd00::1", "[fd00::2]/icmp6", "fd00::1 → fd00::2/icmp6", ""},
		"ping with a port":        {"10.0.0.1", "10.0.0.2:7/icmp", "", "icmp has no ports"},
		"IPv6's ping by IPv4":     {"10.0.0.1", "10.0.0.2/icmp6", "", "icmp6 is of IPv6"},
		"two families":            {"10.0.0.1", "fd00::2", "", "client and server are of different families of IP"},
		"a link's own address":    {"fe80::1%eth0", "fe80::2", "", "an address with a zone does not leave its link"},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := ParseQuery(tt.client, tt.server)
			if tt.err != "" {
				if fmt.Sprint(err) != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || q.String() != tt.want {
				t.Errorf("%s, %v; want %s", q, err, tt.want)
			}
		})
	}
}

var (
	client   = netip.MustParseAddrPort("10.0.0.31:40000")
	service  = netip.MustParseAddrPort("10.96.0.1:80")
	endpoint = netip.MustParseAddrPort("10.0.0.32:8080")
)

// at is an event of the tracer's own chains.
func at(usec int64, id uint32, layer Layer, hook string, in, out int, source, destination netip.AddrPort, identity string) Event {
	return Event{
		At: microseconds(usec), ID: id, Layer: layer, Hook: hook, Own: true, In: in, Out: out,
		Headers: &Headers{Source: source, Destination: destination, Protocol: TCP, Flags: "SYN", Identity: identity},
	}
}

// TestStitch: which events are of one packet.
func TestStitch(t *testing.T) {
	const a, b = "tcp/1", "tcp/2"
	devices := []Device{{Index: 1, Name: "cni0", Kind: "bridge"}, {Index: 2, Name: "veth1", Bridge: "cni0"}, {Index: 3, Name: "veth2", Bridge: "cni0"}}
	for name, tt := range map[string]struct {
		events []Event
		want   []string
	}{
		"the id changes above the bridge": {
			[]Event{
				at(0, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(1, 1, Bridge, "input", 2, 0, client, service, a),
				at(2, 2, IP, "prerouting", 1, 0, client, service, a),
				at(3, 2, IP, "prerouting", 1, 0, client, endpoint, a),
				at(4, 2, IP, "forward", 1, 1, client, endpoint, a),
			},
			[]string{"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1, bridge input from veth1, ip prerouting from cni0, ip forward cni0 → cni0"},
		},
		"an id is used again": {
			[]Event{
				at(0, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(1, 1, Bridge, "input", 2, 0, client, service, a),
				at(9, 1, Bridge, "prerouting", 2, 0, client, service, b),
			},
			[]string{
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1, bridge input from veth1",
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1",
			},
		},
		"two that look alike, with one id": {
			[]Event{
				at(0, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(1, 1, Bridge, "input", 2, 0, client, service, a),
				at(9, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(10, 1, Bridge, "input", 2, 0, client, service, a),
			},
			[]string{
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1, bridge input from veth1",
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1, bridge input from veth1",
			},
		},
		"two on two processors": {
			[]Event{
				at(0, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(0, 5, Bridge, "prerouting", 2, 0, client, service, b),
				at(1, 1, Bridge, "input", 2, 0, client, service, a),
				at(1, 6, IP, "prerouting", 1, 0, client, service, b),
				at(1, 2, IP, "prerouting", 1, 0, client, service, a),
			},
			[]string{
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1, bridge input from veth1, ip prerouting from cni0",
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1, ip prerouting from cni0",
			},
		},
		"one that looks alike, too late": {
			[]Event{
				at(0, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(200_000, 2, IP, "prerouting", 1, 0, client, service, a),
			},
			[]string{
				"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1",
				"request 10.0.0.31:40000 10.96.0.1:80: ip prerouting from cni0",
			},
		},
		"of another connection": {
			[]Event{
				at(0, 1, Bridge, "prerouting", 2, 0, client, service, a),
				at(1, 2, Bridge, "prerouting", 3, 0, netip.MustParseAddrPort("10.0.0.99:1"), client, b),
			},
			[]string{"request 10.0.0.31:40000 10.96.0.1:80: bridge prerouting from veth1"},
		},
		"the beginning is missing": {
			[]Event{{At: 1, ID: 7, Layer: IP, Chain: "KUBE-SERVICES", Rule: &Rule{Handle: 3}, Verdict: "continue"}},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			w := New(&Record{Query: q, Events: tt.events, Devices: devices})
			var got []string
			for i := range w.Packets {
				p := &w.Packets[i]
				s := fmt.Sprintf("%s %s %s:", p.Direction, p.Source, p.Destination)
				for j := range p.Steps {
					if j > 0 {
						s += ","
					}
					s += " " + p.Steps[j].label() + " " + p.Steps[j].devices()
				}
				got = append(got, s)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMeaning: the words for what went wrong.
func TestMeaning(t *testing.T) {
	devices := []Device{{Index: 1, Name: "cni0", Kind: "bridge"}, {Index: 2, Name: "veth1", Kind: "veth", Bridge: "cni0"}, {Index: 3, Name: "veth2", Kind: "veth", Bridge: "cni0"}}
	request := []Event{
		at(0, 1, Bridge, "prerouting", 2, 0, client, service, "tcp/1"),
		at(1, 1, IP, "prerouting", 1, 0, client, service, "tcp/1"),
		at(2, 1, IP, "prerouting", 1, 0, client, endpoint, "tcp/1"),
	}
	bridged := append(request[:3:3],
		at(10, 2, Bridge, "prerouting", 3, 0, endpoint, client, "tcp/2"),
		at(11, 2, Bridge, "forward", 3, 2, endpoint, client, "tcp/2"),
		at(12, 2, Bridge, "postrouting", 0, 2, endpoint, client, "tcp/2"))
	routed := append(request[:3:3],
		at(10, 2, IP, "prerouting", 3, 0, endpoint, client, "tcp/2"),
		at(11, 2, IP, "forward", 3, 2, endpoint, client, "tcp/2"),
		at(12, 2, IP, "postrouting", 0, 2, endpoint, client, "tcp/2"))
	const key, flag = "net.bridge.bridge-nf-call-iptables", "nf_call_iptables"
	itself := []Event{
		at(0, 1, Bridge, "prerouting", 2, 0, client, service, "tcp/1"),
		at(1, 1, IP, "prerouting", 1, 0, client, service, "tcp/1"),
		at(2, 1, IP, "prerouting", 1, 0, client, netip.MustParseAddrPort("10.0.0.31:80"), "tcp/1"),
	}
	for name, tt := range map[string]struct {
		events        []Event
		handing       Handing
		meaning, next string
	}{
		"a rule drops it": {
			append(request[:3:3], Event{
				At: microseconds(3), ID: 1, Layer: IP, Hook: "forward", Backend: "nf_tables", Table: "ip f", Chain: "forward",
				Rule: &Rule{Handle: 4, Comment: "no talk"}, Verdict: "drop",
			}),
			Handing{Key: key, Value: "1", Flag: flag},
			"the request was dropped at ip forward: ip f forward, by the rule \"no talk\"",
			"if that is not what it should do, ask whoever wrote that rule; nft list ruleset shows it, or iptables-legacy-save",
		},
		"the bridge does not send it on": {
			request,
			Handing{Key: key, Value: "1", Flag: flag},
			"no reply came by: cni0 took the request in and did not send it on",
			"look at the port: bridge -d link show tells isolated, its state, its VLANs and hairpin",
		},
		"nothing is known of where it ends": {
			[]Event{at(0, 1, IP, "prerouting", 1, 0, client, service, "tcp/1")},
			Handing{Key: key, Value: "1", Flag: flag},
			"no reply came by: the request was last seen at ip prerouting, on its way to 10.96.0.1:80",
			"look for what ends it there: a chain of the family netdev, a program of tc or XDP, IPsec; bpftool net, nft list ruleset, tc filter show",
		},
		"the endpoint does not answer": {
			append(request[:3:3], at(3, 1, Bridge, "postrouting", 0, 3, client, endpoint, "tcp/1")),
			Handing{Key: key, Value: "1", Flag: flag},
			"no reply came by: the request was last seen at bridge postrouting, on its way to 10.0.0.32:8080",
			"it left this node's hooks: look on the endpoint's side, whether the program listens, and whether a policy drops it there",
		},
		"the endpoint is the client": {
			itself,
			Handing{Key: key, Value: "1", Flag: flag},
			"no reply came by: the request was last seen at ip prerouting, on its way to 10.0.0.31:80",
			"the endpoint is the client itself: a bridge sends frames back to their own port in hairpin mode only",
		},
		"the key is 0": {
			bridged,
			Handing{Key: key, Value: "0", Flag: flag},
			"the reply crossed cni0 at layer 2 from 10.0.0.32 and was never translated back: client expects 10.96.0.1; br_netfilter did not hand it to netfilter: net.bridge.bridge-nf-call-iptables is 0",
			"nfguard apply puts it right once, systemctl start nfguard keeps it right",
		},
		"no br_netfilter": {
			bridged,
			Handing{Key: key, Flag: flag},
			"the reply crossed cni0 at layer 2 from 10.0.0.32 and was never translated back: client expects 10.96.0.1; br_netfilter is not loaded",
			"nfguard apply loads it once, systemctl start nfguard keeps it right",
		},
		"the key is 1 again": {
			bridged,
			Handing{Key: key, Value: "1", Flag: flag},
			"the reply crossed cni0 at layer 2 from 10.0.0.32 and was never translated back: client expects 10.96.0.1; net.bridge.bridge-nf-call-iptables is 1 by now",
			"trace it once more; nfguard events tells whether it was 0 for a moment",
		},
		"the flag is set by now": {
			bridged,
			Handing{Key: key, Value: "0", Flag: flag, Bridges: map[string]bool{"cni0": true}},
			"the reply crossed cni0 at layer 2 from 10.0.0.32 and was never translated back: client expects 10.96.0.1; the flag nf_call_iptables of cni0 is set by now",
			"trace it once more; nfguard events tells whether it was 0 for a moment",
		},
		"it went through netfilter": {
			routed,
			Handing{Key: key, Value: "0", Flag: flag},
			"the reply from 10.0.0.32 went through netfilter and was not translated back: client expects 10.96.0.1",
			"conntrack did not know the connection: see conntrack -L, and rules with notrack",
		},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			w := New(&Record{Query: q, Events: tt.events, Devices: devices, Handing: tt.handing, Lasted: 10 * time.Second})
			if diff := cmp.Diff([]string{tt.meaning, tt.next}, []string{w.Meaning, w.Next}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestEndedSoon: that there was no reply says little where nobody waited for it.
func TestEndedSoon(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	w := New(&Record{Query: q, Lasted: 15 * time.Millisecond, Events: []Event{
		at(5000, 1, IP, "prerouting", 1, 0, client, service, "tcp/1"),
		at(5003, 1, IP, "postrouting", 0, 1, client, endpoint, "tcp/1"),
	}})
	want := []string{
		"no reply came by: the request was last seen at ip postrouting, on its way to 10.0.0.32:8080",
		"the trace ended 10ms after the request: --for and --packets give the reply more time",
	}
	if diff := cmp.Diff(want, []string{w.Meaning, w.Next}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSafeToShow: names that others choose are not obeyed by a terminal.
func TestSafeToShow(t *testing.T) {
	const hostile = "\x1b]0;owned\a"
	q, err := ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	seen := at(1, 1, IP, "prerouting", 2, 0, client, service, "tcp/1")
	rule := seen
	rule.Own, rule.Headers, rule.Table, rule.Chain, rule.Verdict = false, nil, "ip "+hostile, hostile, "jump "+hostile
	rule.Rule = &Rule{Handle: 4, Comment: hostile, Action: hostile}
	w := New(&Record{
		Query: q, Host: hostile, Events: []Event{seen, rule},
		Devices: []Device{{Index: 2, Name: hostile, Bridge: hostile, Process: hostile, Namespace: hostile}},
	})
	var text bytes.Buffer
	w.Text(&text, nil)
	if !strings.Contains(text.String(), "owned") || strings.ContainsAny(text.String(), "\x1b\a") {
		t.Errorf("%q", text.String())
	}
	if _, err := Read(encode(t, w)); err != nil {
		t.Error(err)
	}
}

// TestBridgeOfPorts: a bridge that frames crossed is among the devices, though
// none of them came in or went out by it.
func TestBridgeOfPorts(t *testing.T) {
	q, err := ParseQuery("10.0.0.31", "10.0.0.32")
	if err != nil {
		t.Fatal(err)
	}
	w := New(&Record{
		Query:   q,
		Events:  []Event{at(1, 1, Bridge, "forward", 2, 3, client, endpoint, "tcp/1")},
		Devices: []Device{{Index: 1, Name: "cni0", Kind: "bridge"}, {Index: 2, Name: "veth1", Bridge: "cni0"}, {Index: 3, Name: "veth2", Bridge: "cni0"}, {Index: 4, Name: "docker0", Kind: "bridge"}},
	})
	var got []string
	for _, d := range w.Devices {
		got = append(got, d.Name)
	}
	if diff := cmp.Diff([]string{"cni0", "veth1", "veth2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGroups: packets are told together if they went the same way, but a ping is
// no connection, and a reset says something of its own.
func TestGroups(t *testing.T) {
	packet := func(p Protocol, flags string) Packet {
		return Packet{Direction: Reply, Protocol: p, Flags: flags, Source: endpoint, Destination: client, Steps: []Step{{Layer: IP, Hook: "forward"}}}
	}
	w := &Path{Packets: []Packet{packet(TCP, "SYN ACK"), packet(ICMP, "echo reply"), packet(TCP, "ACK"), packet(TCP, "RST")}}
	var got []string
	for _, g := range w.groups() {
		got = append(got, fmt.Sprintf("%s and %d more", g.name(), g.others))
	}
	want := []string{"tcp SYN ACK and 1 more", "icmp echo reply and 0 more", "tcp RST and 0 more"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A device says whose pod it leads to: by name, or by uid where that is unknown.
func TestPodBehindADevice(t *testing.T) {
	for _, tt := range []struct {
		d    Device
		want string
	}{
		{Device{Kind: "veth", Bridge: "cni0", Pod: "0b6e3b4c-7d55", PodName: "default/web-1", Namespace: "net:[4026531840]"}, "port of cni0, pod default/web-1"},
		{Device{Kind: "veth", Bridge: "cni0", Pod: "0b6e3b4c-7d55"}, "port of cni0, pod 0b6e3b4c-7d55"},
	} {
		if got := (&Path{}).behind(tt.d); got != tt.want {
			t.Errorf("behind: %s, want %s", got, tt.want)
		}
	}
}
