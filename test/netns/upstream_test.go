package netns_test

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/test/kubeproxy/upstream"
	"github.com/nfguard/nfguard/test/lab"
)

// TestUpstreamKubeProxy: everything that nfguard reads from kube-proxy's rules, with the
// rules of the real kube-proxy.
func TestUpstreamKubeProxy(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns, lab.Upstream)
	program := upstream.Build(t)
	services := append(upstream.Example(300), upstream.Service{
		Name: "kube-dns", ClusterIP: netip.MustParseAddr("10.96.0.10"), Port: 53, PortName: "dns", Protocol: "UDP",
		Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.244.0.1:53"), netip.MustParseAddrPort("10.244.1.44:53")},
	})
	services[9] = services[len(services)-1] // which had that address
	services[0].Local = true
	services = services[:len(services)-1]
	for _, tt := range []struct {
		name    string
		options upstream.Options
		rules   string
		traced  string // what says in them which Service it is
	}{
		{"iptables-nft", upstream.Options{Mode: "iptables"}, "iptables mode (nf_tables), IPv4 and IPv6", "default/svc-0:http"},
		{"iptables-legacy", upstream.Options{Mode: "iptables", Legacy: true}, "iptables mode (legacy), IPv4 and IPv6", "default/svc-0:http"},
		{"nftables", upstream.Options{Mode: "nftables"}, "nftables mode, IPv4 and IPv6", "default/svc-0/tcp/http"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := wired(t, "[timing]\naudit = \"1h\"\n")
			n.Run(t, "ip", "link", "set", "lo", "up")
			n.start()
			n.awaitReady()
			tt.options.Services = services
			p := upstream.Start(t, n.Namespace, program, tt.options)
			who := fmt.Sprintf("kube-proxy[%d]", p.PID())
			n.about(who+" started", "the node was ready: br_netfilter loaded, 3 of 3 keys as wanted, 1 bridge (cnio0)")
			n.about(tt.rules)
			v := n.check()
			if v.KubeProxy.State != "programmed" || len(v.KubeProxy.Processes) != 1 || v.KubeProxy.Processes[0].PID != p.PID() || len(v.KubeProxy.Rules) != 1 {
				t.Errorf("check says %+v", v.KubeProxy)
			}
			n.stop()
			n.set("0", "0", "0")

			n.wantProbe()
			out, _ := n.nfguard("probe", "--bridge", "cnio0", "--yes", "--service", "default/kube-dns:dns").CombinedOutput()
			for _, row := range []string{
				`IPv4 +same node +answered +reply from 10\.244\.0\.1:53 +default/kube-dns:dns`,
				`IPv4 +other node +answered +- +default/kube-dns:dns`, // which of the two gets it is random
			} {
				if !regexp.MustCompile(row).Match(out) {
					t.Errorf("the Service with two endpoints lacks %q:\n%s", row, out)
				}
			}

			client := n.plug("veth31", "cnio0", "10.244.0.31/24", "fd00:244::31/120")
			for _, value := range []string{"0", "1"} {
				n.set(value, value, value)
				out, _ := n.trace(client, 0, "10.244.0.31", "10.96.0.1:80", "--for", "3s")
				want := map[string]string{"0": "the reply was never translated back", "1": "the reply reached the client as from 10.96.0.1:80"}[value]
				for _, part := range []string{want, tt.traced, "dnat to 10.244.0.1:8080"} {
					if !strings.Contains(out, part) {
						t.Errorf("trace with the keys at %s lacks %q:\n%s", value, part, out)
					}
				}
			}

			var endpoints []netip.Addr
			var err error
			n.Do(func() { endpoints, err = netfilter.Endpoints(t.Context()) })
			want := map[netip.Addr]struct{}{}
			for _, s := range services {
				for _, e := range s.Endpoints {
					want[e.Addr()] = struct{}{}
				}
			}
			if err != nil || !slices.Equal(slices.SortedFunc(maps.Keys(want), netip.Addr.Compare), endpoints) {
				t.Errorf("%d endpoints, want %d: %v", len(endpoints), len(want), err)
			}

			p.Stop()
			if got := n.check().KubeProxy; got.State == "programmed" && len(got.Processes) > 0 || len(got.Rules) != 1 {
				t.Errorf("ended, its rules stay; check says %+v", got)
			}
		})
	}
}
