package history

import (
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/chain"
	"github.com/nfguard/nfguard/internal/core/record"
)

// TestCulprits: who is named, by what is known of the process, and what is said where
// nobody is.
func TestCulprits(t *testing.T) {
	pod := record.Process{PID: 7, Comm: "sysctl", PodName: "cart", PodNamespace: "shop"}
	inContainer := pod
	inContainer.ContainerName = "app"
	for name, tt := range map[string]struct {
		r    Record
		want string
	}{
		"a container of a pod":        {Record{Process: inContainer}, "sysctl in container app of shop/cart"},
		"a pod":                       {Record{Process: pod}, "sysctl in pod shop/cart"},
		"a container by its id":       {Record{Process: record.Process{PID: 7, Comm: "sysctl", Container: "0123456789abcdef"}}, "sysctl in container 0123456789ab"},
		"a service":                   {Record{Process: record.Process{PID: 7, Comm: "tuned", Unit: "tuned.service"}}, "tuned.service"},
		"a program":                   {Record{Process: record.Process{PID: 7, Comm: "sysctl", Unit: "session-3.scope"}}, "sysctl"},
		"nobody, at the start":        {Record{Event: record.KindDrift, Source: "start"}, "(found at start)"},
		"nobody, of a bridge's flags": {Record{Event: record.KindFlag, Source: "link"}, "(new bridge)"},
		"nobody":                      {Record{Event: record.KindDrift, Source: "sysctl"}, "(nobody seen)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.r.NamedCulprit(); got != tt.want {
				t.Errorf("it names %q, want %q", got, tt.want)
			}
		})
	}
}

// TestNotes: a record that stands for others says how many.
func TestNotes(t *testing.T) {
	of := func(kind record.Kind, n int) Record {
		return Record{Event: kind, Outcome: record.Corrected, Suppressed: n, Teller: Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: Service}}
	}
	unreplied := of(record.KindDrift, 0)
	unreplied.Unreplied = 7
	for name, tt := range map[string]struct {
		r    Record
		want string
	}{
		"one":               {of(record.KindDrift, 0), ""},
		"three":             {of(record.KindDrift, 2), "and 2 more"},
		"about another one": {of(record.KindBridge, 2), ""},
		"without a reply":   {unreplied, "connections through Services that had no reply: 7"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(tt.r.Notes(""), "; "); got != tt.want {
				t.Errorf("it notes %q, want %q", got, tt.want)
			}
		})
	}
}

// TestFirstOfAChain: the first record of a chain follows nothing.
func TestFirstOfAChain(t *testing.T) {
	for name, tt := range map[string]struct{ number, previous, want string }{
		"the first":                            {"1", "", ""},
		"the first, and one before it":         {"1", "x", "record 1 says that one comes before it: it was changed"},
		"a later one, the first that is there": {"7", "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fields := []chain.Field{{Name: "NFGUARD_EVENT", Value: "drift"}, {Name: chain.ID, Value: "id"}, {Name: chain.Sequence, Value: tt.number}}
			if tt.previous != "" {
				fields = append(fields, chain.Field{Name: chain.Previous, Value: tt.previous})
			}
			var got []string
			for _, f := range verified(t, [][]byte{entryOf(fields, "worker-1", "boot-1", 0)}).Flaws {
				got = append(got, f.What)
			}
			if strings.Join(got, "; ") != tt.want {
				t.Errorf("it says %q, want %q", got, tt.want)
			}
		})
	}
}
