package kernel

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

var update = flag.Bool("update", false, "record the testdata of the package trace anew")

// road is the hooks that a packet passed, in order.
func road(p *trace.Packet) string {
	var hooks []string
	for _, s := range p.Steps {
		hooks = append(hooks, string(s.Layer)+" "+s.Hook)
	}
	return strings.Join(hooks, ", ")
}

// firstOf is the first packet of the direction.
func firstOf(t *testing.T, w *trace.Path, d trace.Direction) *trace.Packet {
	t.Helper()
	i := slices.IndexFunc(w.Packets, func(p trace.Packet) bool { return p.Direction == d })
	if i < 0 {
		t.Fatalf("no %s among %d packets", d, len(w.Packets))
	}
	return &w.Packets[i]
}

// comments are those of the rules that a packet met, without their repetition.
func comments(p *trace.Packet) (list []string) {
	for _, s := range p.Steps {
		for _, m := range s.Rules {
			if m.Comment != "" && !slices.Contains(list, m.Comment) {
				list = append(list, m.Comment)
			}
		}
	}
	return list
}

const (
	routed  = "bridge prerouting, bridge input, ip prerouting, ip forward, ip postrouting, bridge output, bridge postrouting"
	bridged = "bridge prerouting, ip prerouting, bridge forward, ip forward, bridge postrouting, ip postrouting"
	layer2  = "bridge prerouting, bridge forward, bridge postrouting"
)

// TestService follows a request to a Service whose endpoint is on the same
// node, with and without the key, for each kind of kube-proxy's rules.
func TestService(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)
	for name, tt := range map[string]struct {
		args     []string
		v4, v6   bool
		comments []string // where the rules have some
	}{
		"iptables-nft": {
			args: []string{"-backend", "nft"}, v4: true, v6: true,
			comments: []string{"default/svc-0:http", "default/svc-0:http -> ENDPOINT", "default/svc-0:http cluster IP", "kubernetes service portals"},
		},
		"iptables-legacy": {
			args: []string{"-backend", "legacy"}, v4: true, v6: true,
			comments: []string{"default/svc-0:http", "default/svc-0:http -> ENDPOINT", "default/svc-0:http cluster IP", "kubernetes service portals"},
		},
		"nftables": {args: []string{"-mode", "nftables"}, v4: true, v6: true},
	} {
		for _, handing := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", key 0", true: ", key 1"}[handing], func(t *testing.T) {
				w := newWorker(t, handing)
				w.proxy(program, tt.args...)
				before := w.ruleset()
				for _, a := range []addresses{v4, v6} {
					key := map[bool]string{false: "net.bridge.bridge-nf-call-ip6tables", true: "net.bridge.bridge-nf-call-iptables"}[a.client.Addr().Is4()]
					r := w.follow(a.client.Addr().String(), a.service.String()+"/tcp", func() {
						if err := w.get(w.client, a.service); (err == nil) != handing {
							t.Errorf("the request: %v", err)
						}
					})
					way := trace.New(r)
					if len(way.Notes) > 0 {
						t.Errorf("notes: %q", way.Notes)
					}
					request, reply := firstOf(t, way, trace.Request), firstOf(t, way, trace.Reply)
					if handing {
						want := []string{"answered", "the reply reached the client as from " + a.service.String() + ", whom it had asked", bridged, bridged}
						if diff := cmp.Diff(want, []string{string(way.Verdict), way.Meaning, road(request), road(reply)}); diff != "" {
							t.Errorf("%s (-want +got):\n%s", key, diff)
						}
					} else {
						want := []string{
							"untranslated",
							"the reply crossed cnio0 at layer 2 from " + a.endpoint.Addr().String() + " and was never translated back: client expects " +
								a.service.Addr().String() + "; br_netfilter did not hand it to netfilter: " + key + " is 0",
							routed, layer2,
						}
						if diff := cmp.Diff(want, []string{string(way.Verdict), way.Meaning, road(request), road(reply)}); diff != "" {
							t.Errorf("%s (-want +got):\n%s", key, diff)
						}
					}
					if got := request.Last().After.Destination; got != a.endpoint {
						t.Errorf("the request was translated to %s, want %s", got, a.endpoint)
					}
					if len(way.Connections) != 1 || way.Connections[0].Endpoint() != a.endpoint || way.Connections[0].Replied != handing {
						t.Errorf("conntrack told of %+v", way.Connections)
					}
					for i, c := range tt.comments {
						tt.comments[i] = strings.ReplaceAll(c, "ENDPOINT", a.endpoint.String())
					}
					for _, c := range tt.comments {
						if got := comments(request); !slices.Contains(got, c) {
							t.Errorf("no rule with the comment %q, only %q", c, got)
						}
					}
					for i, c := range tt.comments {
						tt.comments[i] = strings.ReplaceAll(c, a.endpoint.String(), "ENDPOINT")
					}
					if *update && name == "iptables-nft" && a == v4 {
						save(t, "../testdata/key"+map[bool]string{false: "0", true: "1"}[handing]+".json", r)
					}
				}
				if diff := cmp.Diff(before, w.ruleset()); diff != "" {
					t.Errorf("the rules were changed (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// save writes the first two packets of a record for the tests of the package
// trace, without what is of this machine.
func save(t *testing.T, path string, r *trace.Record) {
	t.Helper()
	one := *r
	one.Host, one.Kernel, one.Started, one.Lasted = "worker-3", "6.18.0", time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC), time.Second
	one.Events = nil
	var packets []string
	ids := map[uint32]bool{}
	for _, e := range r.Events {
		if h := e.Headers; h != nil {
			if len(packets) < 2 && !slices.Contains(packets, h.Identity) {
				packets = append(packets, h.Identity)
			}
			ids[e.ID] = slices.Contains(packets, h.Identity)
		}
		if ids[e.ID] {
			one.Events = append(one.Events, e)
		}
	}
	b, err := json.Marshal(one)
	if err == nil {
		err = os.WriteFile(path, append(bytes.ReplaceAll(b, []byte(`},{"At"`), []byte("},\n{\"At\"")), '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
