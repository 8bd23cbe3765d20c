package cli

import (
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// TestCondition: whatever the state of the host, the output is one line of text of at
// most 80 bytes.
func TestCondition(t *testing.T) {
	key := func(subject string, v guard.Verdict) guard.Item {
		return guard.Item{Kind: record.KindDrift, Subject: subject, Verdict: v, Want: "1", Have: "0"}
	}
	tests := []struct {
		name  string
		items []guard.Item
		want  string
	}{
		{"as wanted", []guard.Item{{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Right}, key("a", guard.Right), key("b", guard.Excused)}, "br_netfilter loaded, 2 of 2 keys as wanted"},
		{"the prefix goes without saying", []guard.Item{key(string(guard.IPTables), guard.Wrong)}, "bridge-nf-call-iptables is 0, wanted 1"},
		{"what is known to be wrong first", []guard.Item{key("u", guard.Uncertain), key("w", guard.Blocked)}, "w is 0, wanted 1; 1 more"},
		{"a name that a terminal obeys", []guard.Item{key("br\x1b[2J", guard.Uncertain)}, `could not read br\x1b[2J`},
		{"a name that is no text", []guard.Item{key("br\xff", guard.Uncertain)}, `could not read br\xff`},
		{"too long", []guard.Item{key(strings.Repeat("µ", 50), guard.Uncertain)}, "could not read " + strings.Repeat("µ", 31) + "..."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			a := &app{Streams: Streams{Out: &b}}
			a.say(conditionOf(&keep.Report{Items: tt.items}))
			if b.String() != tt.want+"\n" || len(tt.want) > maxCondition {
				t.Errorf("want %q\ngot  %q", tt.want, b.String())
			}
		})
	}
}
