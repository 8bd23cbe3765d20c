package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/diag/history"
)

// TestLeftOut: what a picture and the totals say of what they leave out, where they do.
func TestLeftOut(t *testing.T) {
	culprits := func(n int) (list []history.Record) {
		for i := range n {
			r := drift("worker-1", i, record.Corrected, "key", "1")
			r.Process.Unit = fmt.Sprintf("unit%d.service", i)
			list = append(list, r)
		}
		return list
	}
	hosts := func(n int) (list []history.Record) {
		for i := range n {
			list = append(list, entry(fmt.Sprintf("worker-%d", i), i, record.KindStart, record.Observed, "nfguard"))
		}
		return append(list, drift("worker-0", n, record.Corrected, "key", "1"))
	}
	spans := func(n int) (list []history.Record) {
		for i := range n {
			list = append(list, entry("worker-1", 1000*i, record.KindStart, record.Observed, "nfguard"), entry("worker-1", 1000*i+500, record.KindStop, record.Observed, "nfguard"))
		}
		return append(list, drift("worker-1", 1000*n, record.Corrected, "key", "1"))
	}
	inPod := drift("worker-1", 0, record.Corrected, "key", "1")
	inPod.Process.PodName, inPod.Process.PodNamespace = "cart", "shop"
	once := drift("worker-1", 0, record.Corrected, "key", "1")
	once.Source = "apply"
	for name, tt := range map[string]struct {
		records []history.Record
		said    string
		not     string
	}{
		"six culprits":    {records: culprits(maxCulprits), not: "more culprits"},
		"seven culprits":  {records: culprits(maxCulprits + 1), said: ">and 1 more culprits<"},
		"twenty hosts":    {records: hosts(maxHosts), not: "more hosts"},
		"a host too many": {records: hosts(maxHosts + 1), said: ">and 1 more hosts<"},
		"five spans":      {records: spans(4), not: ", and more"},
		"six spans":       {records: spans(6), said: ", and more"},
		"a pod":           {records: []history.Record{inPod}, said: "Changes by pod"},
		"no pod":          {records: culprits(1), not: "by pod"},
		"only observed":   {records: []history.Record{drift("worker-1", 0, record.Observed, "key", "0")}, said: "tuned.service: 1 change, only observed; at", not: "1 change, put right"},
		"running":         {records: spans(1), said: "worker-1: nfguard ran in 1 span,"},
		"not running":     {records: []history.Record{once}, not: "nfguard ran in"},
	} {
		t.Run(name, func(t *testing.T) {
			got := page(t, tt.records, Facts{})
			if !strings.Contains(got, tt.said) || tt.not != "" && strings.Contains(got, tt.not) {
				t.Errorf("want %q, and not %q, in\n%s", tt.said, tt.not, got)
			}
		})
	}
}
