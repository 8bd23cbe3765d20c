package host

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestTally: the most first, and a bound on the groups that loses no connection.
func TestTally(t *testing.T) {
	flow := func(client string, port uint16) *guard.Flow {
		return &guard.Flow{Client: netip.MustParseAddr(client), Service: netip.AddrPortFrom(netip.MustParseAddr("10.96.0.10"), port), Protocol: 17}
	}
	var few tally
	for _, f := range []*guard.Flow{flow("10.0.0.1", 53), flow("10.0.0.2", 53), flow("10.0.0.2", 53), flow("10.0.0.1", 80)} {
		few.add("cni0", f, "")
	}
	got := few.impact()
	var lines []string
	for _, g := range got.Groups {
		lines = append(lines, fmt.Sprintf("%d %s→%s by %s", g.Connections, g.Client, g.Service, g.Bridge))
	}
	want := "2 10.0.0.2→10.96.0.10:53 by cni0\n1 10.0.0.1→10.96.0.10:53 by cni0\n1 10.0.0.1→10.96.0.10:80 by cni0"
	if text := strings.Join(lines, "\n"); text != want || got.Connections != 4 || got.Pods != 2 || got.Beyond != 0 {
		t.Errorf("%+v\n%s\nwant\n%s", got, text, want)
	}

	var dual tally // one pod, by both of its addresses
	dual.add("cni0", flow("10.0.0.1", 53), "02:00:00:00:00:01")
	dual.add("cni0", flow("fd00::1", 53), "02:00:00:00:00:01")
	if got := dual.impact(); got.Pods != 1 || got.Connections != 2 {
		t.Errorf("%+v", got)
	}

	var many tally
	for port := range uint16(guard.MostGroups + 7) {
		many.add("cni0", flow("10.0.0.1", port+1), "02:00:00:00:00:01")
	}
	if got := many.impact(); got.Connections != guard.MostGroups+7 || len(got.Groups) != guard.MostGroups || got.Beyond != 7 || got.Pods != 1 {
		t.Errorf("%d connections, %d groups, %d beyond, %d pods", got.Connections, len(got.Groups), got.Beyond, got.Pods)
	}
	if got := new(tally).impact(); got.Connections != 0 || got.Groups != nil {
		t.Errorf("of nothing: %+v", got)
	}
}
