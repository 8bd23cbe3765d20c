package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/services"
)

// TestDNSService: whom a pod on a bridge asks, of what kube-proxy's rules have.
func TestDNSService(t *testing.T) {
	service := func(name, at string) services.Service {
		return services.Service{Name: name, ClusterIP: netip.MustParseAddrPort(at), Protocol: "udp"}
	}
	dns, dns6 := service("kube-system/kube-dns:dns", "10.32.0.10:53"), service("kube-system/kube-dns:dns", "[fd00::a]:53")
	own, other := service("a/bind:dns", "10.32.0.11:53"), service("b/bind:dns", "10.32.0.12:53")
	ntp := service("kube-system/ntp", "10.32.0.13:123")
	const v4, v6, both = "10.200.2.1/24", "fd00:200::1/64", "10.200.2.1/24 fd00:200::1/64"
	tcp := own
	tcp.Protocol = "tcp"
	tests := []struct {
		name string
		list []services.Service
		on   string // the subnets of the bridge
		at   string
		want string
		err  string
	}{
		{"the only one", []services.Service{own, ntp, tcp}, v4, "", "10.32.0.11:53", ""},
		{"that of kube-system", []services.Service{own, other, dns}, v4, "", "10.32.0.10:53", ""},
		{"of both families", []services.Service{dns, dns6}, both, "", "10.32.0.10:53", ""},
		{"of both families, and the pods have IPv6", []services.Service{dns, dns6}, v6, "", "[fd00::a]:53", ""},
		{"none", []services.Service{ntp, tcp}, v4, "", "", "kube-proxy's rules have no Service with a UDP port 53"},
		{"several", []services.Service{own, other}, v4, "", "", "kube-proxy's rules have several Services with a UDP port 53, a/bind:dns and b/bind:dns among them"},
		{"the one that was named", []services.Service{dns, own}, v4, "10.32.0.11:53", "10.32.0.11:53", ""},
		{"one that is not in the rules", []services.Service{dns}, v4, "10.32.0.99:53", "10.32.0.99:53", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var at netip.AddrPort
			if tt.at != "" {
				at = netip.MustParseAddrPort(tt.at)
			}
			var subnets []netip.Prefix
			for _, p := range strings.Fields(tt.on) {
				subnets = append(subnets, netip.MustParsePrefix(p))
			}
			s, err := dnsService(tt.list, subnets, at)
			got, said := "", ""
			if err != nil {
				said = err.Error()
			} else {
				got = s.ClusterIP.String()
			}
			if diff := cmp.Diff([]string{tt.want, tt.err}, []string{got, said}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
