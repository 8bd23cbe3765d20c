package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/test/lab"
)

// outcome is what a case comes to.
type outcome struct{ Verdict, Meaning, Request, Reply string }

func outcomeOf(w *trace.Path) (o outcome) {
	o.Verdict, o.Meaning = string(w.Verdict), w.Meaning
	for i := range w.Packets {
		p := &w.Packets[i]
		if p.Direction == trace.Request && o.Request == "" {
			o.Request = road(p)
		}
		if p.Direction == trace.Reply && o.Reply == "" {
			o.Reply = road(p)
		}
	}
	return o
}

// TestElsewhere: an endpoint that is no pod of this node, and a client that is
// the node itself. Both go through netfilter whatever the key is.
func TestElsewhere(t *testing.T) {
	const rules = `table ip t {
	chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 80 dnat to 192.168.7.2:8080; ip daddr 10.96.0.2 tcp dport 80 dnat to 10.244.0.1:8080;
	}
	chain out { type nat hook output priority -100; ip daddr 10.96.0.2 tcp dport 80 dnat to 10.244.0.1:8080;
	}
	chain post { type nat hook postrouting priority srcnat; ip daddr 10.244.0.1 oif cnio0 ip saddr 192.168.7.1 masquerade;
	}
}
`
	w := newWorker(t, false)
	w.load(rules)
	other := lab.NewNamespace(t)
	w.batch(w.Namespace, "link add uplink up type veth peer name eth0 netns "+other.Path()+"\naddr add 192.168.7.1/24 dev uplink\nroute add default via 192.168.7.2\n")
	w.batch(other, "link set eth0 up\naddr add 192.168.7.2/24 dev eth0\nroute add default via 192.168.7.1\n")
	w.serveIn(other)
	w.await(w.Namespace, netip.MustParseAddrPort("192.168.7.2:8080"))
	for name, tt := range map[string]struct {
		from          *lab.Namespace
		client        string
		service       string
		request, back string
	}{
		"endpoint on another node": {
			w.client, "10.244.0.31", "10.96.0.1:80",
			"bridge prerouting, bridge input, ip prerouting, ip forward, ip postrouting",
			"ip prerouting, ip forward, ip postrouting, bridge output, bridge postrouting",
		},
		"the node asks": {
			w.Namespace, "192.168.7.1", "10.96.0.2:80", // masqueraded, as kube-proxy has it
			"ip output, ip postrouting, bridge output, bridge postrouting",
			"ip prerouting, ip input",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got error
			r := w.follow(tt.client, tt.service, func() { got = w.get(tt.from, netip.MustParseAddrPort(tt.service)) })
			want := outcome{"answered", "the reply reached the client as from " + tt.service + ", whom it had asked", tt.request, tt.back}
			if diff := cmp.Diff(want, outcomeOf(trace.New(r))); diff != "" || got != nil {
				t.Errorf("request: %v; outcome (-want +got):\n%s", got, diff)
			}
		})
	}
}

// TestCases are those that kube-proxy's rules alone do not make.
func TestCases(t *testing.T) {
	const service, endpoint = "10.96.0.1:53", "10.244.0.1:8080"
	dnat := `table ip t {
	chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 udp dport 53 dnat to 10.244.0.1:8080; ip daddr 10.96.0.1 tcp dport 53 dnat to 10.244.0.1:8080
	}
	chain post { type nat hook postrouting priority srcnat;
	}
}
`
	const everything = "table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 dnat to 10.244.0.1;\n}\n}\n"
	for name, tt := range map[string]struct {
		handing bool
		rules   string
		server  string
		traffic func(w *worker) error
		want    outcome
	}{
		"UDP, key 0": {
			rules: dnat, server: service + "/udp",
			traffic: func(w *worker) error { _, err := w.send(w.client, netip.MustParseAddrPort(service)); return err },
			want: outcome{
				"untranslated",
				"the reply crossed cnio0 at layer 2 from 10.244.0.1 and was never translated back: client expects 10.96.0.1; " +
					"br_netfilter did not hand it to netfilter: net.bridge.bridge-nf-call-iptables is 0",
				routed, layer2,
			},
		},
		"UDP, key 1": {
			handing: true, rules: dnat, server: service,
			traffic: func(w *worker) error { _, err := w.send(w.client, netip.MustParseAddrPort(service)); return err },
			want:    outcome{"answered", "the reply reached the client as from 10.96.0.1:53, whom it had asked", bridged, bridged},
		},
		"ping, key 0": {
			rules: everything, server: "10.96.0.1/icmp",
			traffic: func(w *worker) error { w.ping("10.96.0.1"); return nil },
			want: outcome{
				"untranslated",
				"the reply crossed cnio0 at layer 2 from 10.244.0.1 and was never translated back: client expects 10.96.0.1; " +
					"br_netfilter did not hand it to netfilter: net.bridge.bridge-nf-call-iptables is 0",
				routed, layer2,
			},
		},
		"ping, key 1, any protocol": {
			handing: true, rules: everything, server: "10.96.0.1",
			traffic: func(w *worker) error { w.ping("10.96.0.1"); return nil },
			want:    outcome{"answered", "the reply reached the client as from 10.96.0.1, whom it had asked", bridged, bridged},
		},
		"ping by IPv6, no conntrack": {
			server:  "fd00:244::1/icmp",
			traffic: func(w *worker) error { w.ping("fd00:244::1"); return nil },
			want:    outcome{"answered", "the reply reached the client as from fd00:244::1, whom it had asked", layer2, layer2},
		},
		"ping where a port was asked for": {
			server: endpoint, traffic: func(w *worker) error { w.ping("10.244.0.1"); return nil },
			want: outcome{"unseen", "no packet of this connection came by", "", ""},
		},
		"the pod's own address, key 0": {
			rules: dnat, server: endpoint,
			traffic: func(w *worker) error { return w.get(w.client, netip.MustParseAddrPort(endpoint)) },
			want:    outcome{"answered", "the reply reached the client as from 10.244.0.1:8080, whom it had asked", layer2, layer2},
		},
		"no rules at all, so no conntrack": {
			server:  endpoint + "/tcp",
			traffic: func(w *worker) error { return w.get(w.client, netip.MustParseAddrPort(endpoint)) },
			want:    outcome{"answered", "the reply reached the client as from 10.244.0.1:8080, whom it had asked", layer2, layer2},
		},
		"masqueraded, key 0": { // the reply goes to the node, and is translated there
			rules:   "table ip t {\n chain masq { type nat hook postrouting priority srcnat; ip saddr 10.244.0.31 masquerade\n}\n}\n" + dnat,
			server:  service,
			traffic: func(w *worker) error { return w.get(w.client, netip.MustParseAddrPort(service)) },
			want: outcome{
				"answered", "the reply reached the client as from 10.96.0.1:53, whom it had asked",
				routed, "ip prerouting, ip forward, ip postrouting, bridge output, bridge postrouting",
			},
		},
		"dropped by a policy": {
			rules:   dnat + "table ip f { chain forward { type filter hook forward priority filter; policy drop;\n}\n}\n",
			server:  service,
			traffic: func(w *worker) error { _ = w.get(w.client, netip.MustParseAddrPort(service)); return nil },
			want: outcome{
				"dropped", "the request was dropped at ip forward: ip f forward, its policy",
				"bridge prerouting, bridge input, ip prerouting, ip forward", "",
			},
		},
		"dropped by a rule on the bridge": {
			rules:   "table bridge f {\n chain forward { type filter hook forward priority filter; ether type ip drop comment \"no talk\"\n}\n}\n",
			server:  endpoint,
			traffic: func(w *worker) error { _ = w.get(w.client, netip.MustParseAddrPort(endpoint)); return nil },
			want: outcome{
				"dropped", `the request was dropped at bridge forward: bridge f forward, by the rule "no talk"`,
				"bridge prerouting, bridge forward", "",
			},
		},
		"a device's own hook": { // whose number is that of another hook
			rules:   "table netdev n {\n chain e { type filter hook egress device veth1 priority 0; counter\n}\n}\n",
			server:  endpoint,
			traffic: func(w *worker) error { return w.get(w.client, netip.MustParseAddrPort(endpoint)) },
			want:    outcome{"answered", "the reply reached the client as from 10.244.0.1:8080, whom it had asked", layer2, layer2},
		},
		"nobody answers": {
			handing: true, rules: "table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 udp dport 53 dnat to 10.244.0.9:53;\n}\n}\n",
			server:  service + "/udp",
			traffic: func(w *worker) error { _, _ = w.send(w.client, netip.MustParseAddrPort(service)); return nil },
			want: outcome{
				"unanswered", "nobody has answered for 10.244.0.9 on cnio0 so far: its MAC address is not known",
				"bridge prerouting, ip prerouting", "",
			},
		},
		"the client itself is the endpoint, key 1": { // and its port is not in hairpin mode
			handing: true, rules: "table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 udp dport 53 dnat to 10.244.0.31:53;\n}\n}\n",
			server:  service + "/udp",
			traffic: func(w *worker) error { _, _ = w.send(w.client, netip.MustParseAddrPort(service)); return nil },
			want: outcome{
				"dropped", "the request was for 10.244.0.31 itself: the bridge does not send a frame out by the port that it came in by, whose hairpin mode is off",
				"bridge prerouting, ip prerouting", "",
			},
		},
		"nobody asks": {
			server: service, traffic: func(*worker) error { return nil },
			want: outcome{"unseen", "no packet of this connection came by", "", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorker(t, tt.handing)
			w.load(tt.rules)
			client := v4.client
			if strings.HasPrefix(tt.server, "fd") {
				client = v6.client
			}
			r := w.follow(client.Addr().String(), tt.server, func() {
				if err := tt.traffic(w); err != nil {
					t.Error(err)
				}
			})
			if diff := cmp.Diff(tt.want, outcomeOf(trace.New(r))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFlag: the bridge's own flag is as good as the sysctl.
func TestFlag(t *testing.T) {
	w := newWorker(t, false)
	w.load("table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.1:8080;\n}\n}\n")
	w.Run(t, "ip", "link", "set", "cnio0", "type", "bridge", "nf_call_iptables", "1")
	r := w.follow(v4.client.Addr().String(), v4.service.String(), func() {
		if err := w.get(w.client, v4.service); err != nil {
			t.Error(err)
		}
	})
	way := trace.New(r)
	if way.Verdict != trace.Answered || way.Handing.Value != "0" || !way.Handing.Bridges["cnio0"] {
		t.Errorf("%s, %+v", way.Verdict, way.Handing)
	}
}
