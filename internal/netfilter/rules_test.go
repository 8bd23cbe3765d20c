package netfilter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/test/lab"
)

// TestLegacyRules reads what iptables-legacy wrote.
func TestLegacyRules(t *testing.T) {
	const rules = `*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SEP-X - [0:0]
:EMPTY - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SEP-X
-A KUBE-SERVICES -j RETURN
-A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination ENDPOINT
-A POSTROUTING -j MASQUERADE
COMMIT
`
	want := []LegacyRule{
		{Chain: "PREROUTING", Number: 1, Comment: "kubernetes service portals", Verdict: "jump KUBE-SERVICES"},
		{Chain: "PREROUTING", Number: 2, Verdict: "accept"},
		{Chain: "INPUT", Number: 1, Verdict: "accept"},
		{Chain: "OUTPUT", Number: 1, Verdict: "accept"},
		{Chain: "POSTROUTING", Number: 1, Target: "MASQUERADE"},
		{Chain: "POSTROUTING", Number: 2, Verdict: "accept"},
		{Chain: "EMPTY", Number: 1, Verdict: "return"},
		{Chain: "KUBE-SEP-X", Number: 1, Target: "DNAT"},
		{Chain: "KUBE-SEP-X", Number: 2, Verdict: "return"},
		{Chain: "KUBE-SERVICES", Number: 1, Comment: "default/web:http cluster IP", Verdict: "jump KUBE-SEP-X"},
		{Chain: "KUBE-SERVICES", Number: 2, Verdict: "return"},
		{Chain: "KUBE-SERVICES", Number: 3, Verdict: "return"},
	}
	for name, tt := range map[string]struct {
		program, endpoint string
		ipv6              bool
	}{
		"IPv4": {"iptables-legacy-restore", "10.244.0.1:8080", false},
		"IPv6": {"ip6tables-legacy-restore", "[fd00:244::1]:8080", true},
	} {
		t.Run(name, func(t *testing.T) {
			ns := lab.NewNamespace(t)
			cmd := ns.Command(lab.Tool(t, lab.Netns, tt.program))
			cmd.Stdin = strings.NewReader(strings.Replace(rules, "ENDPOINT", tt.endpoint, 1))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", tt.program, err, out)
			}
			var got []LegacyRule
			var err error
			ns.Do(func() { got, err = LegacyRules(tt.ipv6, "nat") })
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(LegacyRule{}, "Revision", "Info")); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// FuzzLegacyRules: no bytes, however broken, are worse than an error.
func FuzzLegacyRules(f *testing.F) {
	for _, l := range []layout{ipv4Entry, ipv6Entry} {
		f.Add(l.table(testChain{"KUBE-SERVICES", 2}), l.size == ipv6Entry.size)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		l := &ipv4Entry
		if v6 {
			l = &ipv6Entry
		}
		rules, err := l.rules(&tableInfo{}, b)
		for _, r := range rules {
			if r.Number < 1 {
				t.Errorf("rule %+v, error %v", r, err)
			}
		}
	})
}
