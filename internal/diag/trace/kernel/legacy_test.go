package kernel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
)

// TestLegacyLogIsTaken: somebody listens to the log of rules already. The path
// is seen without those rules, and a note says so.
func TestLegacyLogIsTaken(t *testing.T) {
	w := newWorker(t, true)
	w.Run(t, "iptables-legacy", "-A", "FORWARD", "-j", "ACCEPT")
	var other *legacy
	var err error
	w.Do(func() { other, err = openLegacy(unix.NFPROTO_IPV4) })
	if err != nil || other == nil {
		t.Fatal(other, err)
	}
	defer w.Do(func() {
		if err := other.close(); err != nil {
			t.Error(err)
		}
	})
	r := w.follow(v4.client.Addr().String(), v4.endpoint.String(), func() {
		if err := w.get(w.client, v4.endpoint); err != nil {
			t.Error(err)
		}
	})
	want := []string{"rules of iptables-legacy are not shown: another program listens to the log of rules (nfnetlink_log, group 0)"}
	if way := trace.New(r); way.Verdict != trace.Answered || cmp.Diff(want, way.Notes) != "" {
		t.Errorf("%s, notes %q", way.Verdict, way.Notes)
	}
}

// TestLegacyDrop: a rule, and a policy, that end the path.
func TestLegacyDrop(t *testing.T) {
	for name, tt := range map[string]struct{ rule, want string }{
		"rule": {
			"-A FORWARD -d 10.244.0.1 -m comment --comment closed -j DROP",
			`the request was dropped at ip forward: ip filter FORWARD, by the rule "closed"`,
		},
		"a rule in a chain of its own": {
			"-A OWN -j DROP", "the request was dropped at ip forward: ip filter OWN, by rule 1",
		},
		"policy": {"-P FORWARD DROP", "the request was dropped at ip forward: ip filter FORWARD, its policy"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorker(t, true)
			w.Run(t, "iptables-legacy", "-N", "OWN")
			w.Run(t, "iptables-legacy", "-A", "FORWARD", "-j", "OWN")
			w.Run(t, "iptables-legacy", strings.Fields(tt.rule)...)
			r := w.follow(v4.client.Addr().String(), v4.endpoint.String(), func() {
				if err := w.get(w.client, v4.endpoint); err == nil {
					t.Error("the request was answered")
				}
			})
			if way := trace.New(r); way.Verdict != trace.Dropped || way.Meaning != tt.want {
				t.Errorf("%s: %s, want %s", way.Verdict, way.Meaning, tt.want)
			}
		})
	}
}
