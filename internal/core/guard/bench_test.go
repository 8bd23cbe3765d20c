package guard_test

import (
	"fmt"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// What the judgement on one thing takes does not depend on how many there are,
// also of bridges whose flags scope "bridges" has left.
func BenchmarkPlanFor(b *testing.B) {
	for _, n := range []int{100, 1000} {
		p := guard.Policy{Mode: guard.Enforce, Module: "br_netfilter"}
		o := guard.Observation{Module: guard.Module{State: guard.Present}}
		for i := range n {
			p.Sysctls = append(p.Sysctls, guard.Setting{Key: guard.Key(fmt.Sprintf("net.ipv4.conf.eth%d.rp_filter", i)), Value: "1"})
			o.Values = append(o.Values, guard.Value{State: guard.Present, Have: "0"})
		}
		for i := range 10 * n {
			name, flags := fmt.Sprint("br", i), guard.Flags{true}
			o.Bridges = append(o.Bridges, guard.Bridge{Name: name, Index: i + 1, CallIPTables: true})
			o.Remembered = append(o.Remembered, guard.Remembered{Name: name, Index: i + 1, Flags: flags})
		}
		b.Run(fmt.Sprintf("keys=%d,bridges=%d", n, 10*n), func(b *testing.B) {
			for b.Loop() {
				if items := guard.PlanFor(&p, &o); len(items) != 1+11*n {
					b.Fatalf("%d items", len(items))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*11*n), "ns/thing")
		})
	}
}
