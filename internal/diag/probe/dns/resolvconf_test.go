package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		name, text string
		want       ResolvConf
	}{
		{"a pod's", "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.32.0.10\noptions ndots:5\n", ResolvConf{
			Servers: []netip.Addr{netip.MustParseAddr("10.32.0.10")},
			Domains: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}, NDots: 5,
		}},
		{"empty", "", ResolvConf{NDots: 1}},
		{"the last of search and domain counts", "search a.example b.example.\ndomain c.example d.example\n", ResolvConf{Domains: []string{"c.example"}, NDots: 1}},
		{
			"comments, and what nobody knows",
			"# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nsortlist 10/8\noptions edns0 ndots:x trust-ad\n nameserver 192.0.2.4\nnameserver\t192.0.2.3 # ours\nnameserver nowhere\n",
			ResolvConf{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.3")}, NDots: 1},
		},
		{"more dots than there can be", "options rotate ndots:99\nnameserver fe80::1%eth0\nnameserver fd00::a\n", ResolvConf{
			Servers: []netip.Addr{netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fd00::a")}, NDots: 15,
		}},
		{"the search list of the root", "search .\n", ResolvConf{NDots: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseResolvConf(strings.NewReader(tt.text))
			if diff := cmp.Diff(tt.want, got, compareAddr); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	pod := PodConf("shop", "cluster.local.", ResolvConf{Domains: []string{"corp.example"}})
	host := ResolvConf{Domains: []string{"corp.example"}, NDots: 1}
	tests := []struct {
		name string
		conf *ResolvConf
		ask  string
		want []string
	}{
		{"a Service of the same namespace", &pod, "web", []string{
			"web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local.", "web.corp.example.", "web.",
		}},
		{"four dots are fewer than five", &pod, "a.b.c.d.e", []string{
			"a.b.c.d.e.shop.svc.cluster.local.", "a.b.c.d.e.svc.cluster.local.", "a.b.c.d.e.cluster.local.", "a.b.c.d.e.corp.example.", "a.b.c.d.e.",
		}},
		{"five dots are enough", &pod, "a.b.c.d.e.f", []string{
			"a.b.c.d.e.f.", "a.b.c.d.e.f.shop.svc.cluster.local.", "a.b.c.d.e.f.svc.cluster.local.", "a.b.c.d.e.f.cluster.local.", "a.b.c.d.e.f.corp.example.",
		}},
		{"a trailing dot", &pod, "web.", []string{"web."}},
		{"a host's", &host, "kubernetes.io", []string{"kubernetes.io.", "kubernetes.io.corp.example."}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.conf.Candidates(tt.ask)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuestions(t *testing.T) {
	pod := PodConf("default", "cluster.local", ResolvConf{})
	tests := []struct {
		name, external, given string
		want                  []Question
	}{
		{"neither", "", "", []Question{{clusterName, Cluster}}},
		{"each name once", "kubernetes.io", "kubernetes", []Question{
			{clusterName, Cluster},
			{worldName, External},
			{"kubernetes.svc.cluster.local.", Given},
			{"kubernetes.cluster.local.", Given},
			{"kubernetes.", Given},
		}},
		{"the external name", "kubernetes.io.", "Kubernetes.IO.", []Question{{clusterName, Cluster}, {worldName, External}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Questions("cluster.local", tt.external, tt.given, &pod)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
