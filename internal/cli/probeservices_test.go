package cli

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/services"
)

// TestNamed: which Services --service is.
func TestNamed(t *testing.T) {
	var list []services.Service
	for _, s := range [][3]string{
		{"default/web:http", "10.32.0.102:80", "tcp"},
		{"default/web:http", "[fd00:32::102]:80", "tcp"},
		{"kube-system/kube-dns:dns", "10.32.0.10:53", "udp"},
		{"kube-system/kube-dns:dns-tcp", "10.32.0.10:53", "tcp"},
	} {
		list = append(list, services.Service{Name: s[0], ClusterIP: netip.MustParseAddrPort(s[1]), Protocol: services.Protocol(s[2])})
	}
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"default/web:http", []string{"10.32.0.102:80 tcp", "[fd00:32::102]:80 tcp"}},
		{"[fd00:32::102]:80", []string{"[fd00:32::102]:80 tcp"}},
		{"10.32.0.10:53", []string{"10.32.0.10:53 udp"}},
		{"10.32.0.10:53/TCP", []string{"10.32.0.10:53 tcp"}},
		{"10.32.0.102:80/udp", nil},
		{"default/web", nil},
	} {
		some, err := named(list, tt.text)
		var got []string
		for _, s := range some {
			got = append(got, s.ClusterIP.String()+" "+string(s.Protocol))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
			t.Errorf("%s: %v (-want +got):\n%s", tt.text, err, diff)
		}
	}
}
