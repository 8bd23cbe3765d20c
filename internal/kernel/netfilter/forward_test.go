package netfilter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/test/lab"
)

func TestForward(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   []Chain
	}{
		"nothing": {},
		"iptables-nft, as kube-proxy and Docker leave it": {
			"iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -j ACCEPT; ip6tables-nft -P FORWARD ACCEPT",
			[]Chain{{"ip", "filter", "FORWARD", 0, "drop", Present}, {"ip6", "filter", "FORWARD", 0, "accept", Absent}},
		},
		"each family, in order": {
			`nft -f - <<-'END'
			table bridge b { chain c { type filter hook forward priority -200; policy drop; }; }
			table inet i {
				chain late { type filter hook forward priority 10; policy drop; ip daddr 10.0.0.1 accept; }
				chain early { type filter hook forward priority -10; ct state established accept; }
				chain input { type filter hook input priority 0; policy drop; }
				chain jumped { drop; }
			}
			table arp a { chain input { type filter hook input priority 0; policy drop; }; }
			table netdev n { chain ingress { type filter hook ingress device lo priority 2; policy drop; }; }
			END`,
			[]Chain{
				{"inet", "i", "early", -10, "accept", Present},
				{"inet", "i", "late", 10, "drop", Present},
				{"bridge", "b", "c", -200, "drop", Absent},
			},
		},
		"a dormant table": {
			"nft 'table ip t { flags dormant; chain c { type filter hook forward priority 0; policy drop; }; }'\n" +
				"nft 'table ip6 t { chain c { type filter hook forward priority 0; policy drop; }; }'",
			[]Chain{{"ip6", "t", "c", 0, "drop", Absent}},
		},
		"flushed": {
			"iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -j ACCEPT; iptables-nft -F",
			[]Chain{{"ip", "filter", "FORWARD", 0, "drop", Absent}},
		},
		"iptables-legacy only": {"iptables-legacy -P FORWARD DROP", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			var got []Chain
			var err error
			ns.Do(func() { got, err = Forward(t.Context()) })
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("error %v, chains (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestParseForward(t *testing.T) {
	chain := func(hook, priority uint32) nfnl.Attrs {
		return nfnl.Attrs{}.Text(unix.NFTA_CHAIN_TABLE, "t").Text(unix.NFTA_CHAIN_NAME, "c").
			Nest(unix.NFTA_CHAIN_HOOK, nfnl.Attrs{}.U32(unix.NFTA_HOOK_HOOKNUM, hook).U32(unix.NFTA_HOOK_PRIORITY, priority))
	}
	for name, tt := range map[string]struct {
		in   []byte
		want Chain
	}{
		"drops":              {chain(2, 0xffffff6a).U32(unix.NFTA_CHAIN_POLICY, 0), Chain{Table: "t", Name: "c", Priority: -150, Policy: "drop"}},
		"accepts":            {chain(2, 10).U32(unix.NFTA_CHAIN_POLICY, 1), Chain{Table: "t", Name: "c", Priority: 10, Policy: "accept"}},
		"another hook":       {chain(1, 0).U32(unix.NFTA_CHAIN_POLICY, 0), Chain{}},
		"a hook that is not": {chain(2, 0)[:30], Chain{}},
		"no base chain":      {nfnl.Attrs{}.Text(unix.NFTA_CHAIN_TABLE, "t").Text(unix.NFTA_CHAIN_NAME, "c"), Chain{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseForward(tt.in)
			if got != tt.want || ok != (tt.want != Chain{}) {
				t.Errorf("%t, %+v; want %+v", ok, got, tt.want)
			}
		})
	}
}

// TestForwardIsBounded: of many chains, only the first are asked for rules; the
// others are unknown, and not empty.
func TestForwardIsBounded(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, fmt.Sprintf(`{ echo add table ip t; for i in $(seq %d); do
		echo "add chain ip t c$i { type filter hook forward priority $i; }"; echo add rule ip t c$i accept; done; } | nft -f -`, mostChains+2))
	var got []Chain
	var err error
	ns.Do(func() { got, err = Forward(t.Context()) })
	if err != nil || len(got) != mostChains+2 {
		t.Fatalf("%d chains, %v", len(got), err)
	}
	for i, c := range got {
		want := Chain{"ip", "t", fmt.Sprint("c", i+1), i + 1, "accept", Present}
		if i >= mostChains {
			want.Rules = Unknown
		}
		if c != want {
			t.Errorf("%+v, want %+v", c, want)
		}
	}
}

func TestLegacyForward(t *testing.T) {
	type answer struct {
		Policy string
		Rules  int
	}
	const names = "/proc/net/ip_tables_names"
	for name, tt := range map[string]struct {
		script string
		v4, v6 answer
	}{
		"nothing":                {},
		"another table":          {"iptables-legacy -t nat -L", answer{}, answer{}},
		"iptables-nft only":      {"iptables-nft -P FORWARD DROP", answer{}, answer{}},
		"as the kernel makes it": {"iptables-legacy -L", answer{"accept", 0}, answer{}},
		"drops, and accepts some": {
			"iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -m comment --comment x -j ACCEPT; iptables-legacy -N X; iptables-legacy -A X -j DROP\n" +
				"iptables-legacy -A FORWARD -j X; iptables-legacy -A INPUT -j DROP; iptables-legacy -A OUTPUT -j DROP",
			answer{"drop", 2},
			answer{},
		},
		"IPv6": {"ip6tables-legacy -P FORWARD DROP; ip6tables-legacy -A FORWARD -j ACCEPT", answer{}, answer{"drop", 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			before := ns.Run(t, "cat", names, strings.Replace(names, "ip_", "ip6_", 1))
			for v6, want := range map[bool]answer{false: tt.v4, true: tt.v6} {
				var got answer
				var err error
				ns.Do(func() { got.Policy, got.Rules, err = LegacyForward(t.Context(), v6) })
				if got != want || err != nil {
					t.Errorf("IPv6 %t: %+v, %v; want %+v", v6, got, err, want)
				}
			}
			if after := ns.Run(t, "cat", names, strings.Replace(names, "ip_", "ip6_", 1)); after != before {
				t.Errorf("tables before %q, after %q", before, after)
			}
		})
	}
}

// TestForwardErrors: what cannot be asked is no "none".
func TestForwardErrors(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var cancelled, refused, legacyCancelled, legacyRefused error
	ns.Do(func() { // on a thread of its own, for good
		_, cancelled = Forward(ctx)
		_, _, legacyCancelled = LegacyForward(ctx, false)
		dropNetAdmin(t)
		_, refused = Forward(t.Context())
		_, _, legacyRefused = LegacyForward(t.Context(), false)
	})
	if !errors.Is(cancelled, context.Canceled) || !errors.Is(legacyCancelled, context.Canceled) {
		t.Errorf("cancelled: %v, %v", cancelled, legacyCancelled)
	}
	if want := "list the chains of nf_tables at the hook forward: operation not permitted"; !errors.Is(refused, unix.EPERM) || refused.Error() != want {
		t.Errorf("got %v\nwant %s", refused, want)
	}
	if want := "read the IPv4 table filter of iptables-legacy: getsockopt: operation not permitted"; !errors.Is(legacyRefused, unix.EPERM) || legacyRefused.Error() != want {
		t.Errorf("got %v\nwant %s", legacyRefused, want)
	}
}
