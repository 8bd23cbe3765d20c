package dns

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSeveral: what is said of several servers, and of a name that was not asked for.
func TestSeveral(t *testing.T) {
	world := said(clusterIP, worldName, rcode(noError))
	next := netip.MustParseAddrPort("10.200.2.33:53") // on the link, too
	ok := rcode(noError)
	for name, tt := range map[string]struct {
		report *Report
		want   []string
	}{
		"one on the link": {report: report(said(clusterIP, clusterName, elsewhere(near)), world, said(near, clusterName, ok)), want: []string{
			"10.32.0.10:53 was asked, and 10.200.2.32:53 answered 1 of 1 times: reply from unexpected source. Asked by its own address, it answers rightly: a reply that crosses the bridge without passing through netfilter keeps the pod's address, which nothing turns back into the cluster IP",
		}},
		"two on the link": {report: report(said(clusterIP, clusterName, elsewhere(near), elsewhere(next)), world, said(near, clusterName, ok), said(next, clusterName, ok)), want: []string{
			"10.32.0.10:53 was asked, and 10.200.2.32:53 and 10.200.2.33:53 answered 2 of 2 times: reply from unexpected source. Asked by their own addresses, they answer rightly: a reply that crosses the bridge without passing through netfilter keeps the pod's address, which nothing turns back into the cluster IP",
		}},
		"one is dead": {report: report(said(clusterIP, clusterName, ok), world, said(near, clusterName, nothing(Timeout))), want: []string{
			"10.32.0.10:53 answers, and by its own address 10.200.2.32:53 does not: dead, not behind that Service, or nobody may ask there directly (NetworkPolicy)",
		}},
		"two are dead": {report: report(said(clusterIP, clusterName, ok), world, said(near, clusterName, nothing(Timeout)), said(next, clusterName, nothing(Timeout))), want: []string{
			"10.32.0.10:53 answers, and by their own addresses 10.200.2.32:53 and 10.200.2.33:53 do not: dead, not behind that Service, or nobody may ask there directly (NetworkPolicy)",
		}},
		"not asked for": {report: searched("web.shop.")},
		"asked for": {report: searched("web.shop.", said(clusterIP, "web.shop.", nothing(Timeout))), want: []string{
			`"web.shop." fails; asked for, in this order: web.shop. (timeout)`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Diagnose(tt.report).Findings {
				got = append(got, f.Sentence)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
