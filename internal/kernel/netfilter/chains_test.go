package netfilter

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/test/lab"
)

func TestBases(t *testing.T) {
	const (
		ip, ip6, inet, bridge, netdev = unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET, unix.NFPROTO_BRIDGE, unix.NFPROTO_NETDEV
	)
	for name, tt := range map[string]struct {
		script string
		want   []base
	}{
		"nothing": {},
		"iptables-nft, as kube-proxy and Docker leave it": {
			"iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -j ACCEPT; ip6tables-nft -P FORWARD ACCEPT; iptables-nft -t nat -A PREROUTING -j ACCEPT",
			[]base{{forward, ip, "filter", "FORWARD", "filter", 0, "drop", nil}, {forward, ip6, "filter", "FORWARD", "filter", 0, "accept", nil}},
		},
		"each family, in order": {
			`ip link add v0 type veth peer name v1
			nft -f - <<-'END'
			table bridge b { chain c { type filter hook forward priority -200; policy drop; }; }
			table inet i {
				chain late { type filter hook forward priority 10; policy drop; ip daddr 10.0.0.1 accept; }
				chain early { type filter hook forward priority -10; ct state established accept; }
				chain raw { type filter hook prerouting priority -300; drop; }
				chain out { type filter hook postrouting priority 0; drop; }
				chain input { type filter hook input priority 0; policy drop; }
				chain jumped { drop; }
				chain port { type filter hook ingress device v1 priority 0; }
			}
			table arp a { chain input { type filter hook input priority 0; policy drop; }; }
			table netdev n { chain ports { type filter hook ingress devices = { v0, v1 } priority -2; policy drop; }; }
			END`,
			[]base{
				{atIngress, netdev, "n", "ports", "filter", -2, "drop", []string{"v0", "v1"}},
				{atIngress, inet, "i", "port", "filter", 0, "accept", []string{"v1"}},
				{prerouting, inet, "i", "raw", "filter", -300, "accept", nil},
				{bridgeForward, bridge, "b", "c", "filter", -200, "drop", nil},
				{forward, inet, "i", "early", "filter", -10, "accept", nil},
				{forward, inet, "i", "late", "filter", 10, "drop", nil},
				{postrouting, inet, "i", "out", "filter", 0, "accept", nil},
			},
		},
		"a dormant table": {
			"nft 'table ip t { flags dormant; chain c { type filter hook forward priority 0; policy drop; }; }'\n" +
				"nft 'table ip6 t { chain c { type filter hook forward priority 0; policy drop; }; }'",
			[]base{{forward, ip6, "t", "c", "filter", 0, "drop", nil}},
		},
		"iptables-legacy only": {"iptables-legacy -P FORWARD DROP", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			var got []base
			var err error
			ns.Do(func() { got, err = bases(t.Context()) })
			for i := range got {
				slices.Sort(got[i].devices)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(base{})); diff != "" || err != nil {
				t.Errorf("error %v, chains (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestParseBase(t *testing.T) {
	chain := func(hook, priority uint32) nfnl.Attrs {
		return nfnl.Attrs{}.Text(unix.NFTA_CHAIN_TABLE, "t").Text(unix.NFTA_CHAIN_NAME, "c").
			Nest(unix.NFTA_CHAIN_HOOK, nfnl.Attrs{}.U32(unix.NFTA_HOOK_HOOKNUM, hook).U32(unix.NFTA_HOOK_PRIORITY, priority))
	}
	const ip = unix.NFPROTO_IPV4
	for name, tt := range map[string]struct {
		in   []byte
		want base
	}{
		"drops":              {chain(2, 0xffffff6a).U32(unix.NFTA_CHAIN_POLICY, 0), base{hook: forward, family: ip, table: "t", name: "c", priority: -150, policy: "drop"}},
		"accepts":            {chain(2, 10).U32(unix.NFTA_CHAIN_POLICY, 1), base{hook: forward, family: ip, table: "t", name: "c", priority: 10, policy: "accept"}},
		"another hook":       {chain(1, 0).U32(unix.NFTA_CHAIN_POLICY, 0), base{}},
		"it translates":      {chain(0, 0).Text(unix.NFTA_CHAIN_TYPE, "nat"), base{}},
		"a hook that is not": {chain(2, 0)[:30], base{}},
		"no base chain":      {nfnl.Attrs{}.Text(unix.NFTA_CHAIN_TABLE, "t").Text(unix.NFTA_CHAIN_NAME, "c"), base{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseBase(ip, tt.in)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(base{})); diff != "" || ok != (tt.want.name != "") {
				t.Errorf("%t (-want +got):\n%s", ok, diff)
			}
		})
	}
}

// TestBasesErrors: what cannot be asked is no "none".
func TestBasesErrors(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-nft -P FORWARD DROP")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var cancelled, refused error
	ns.Do(func() { // on a thread of its own, for good
		_, cancelled = bases(ctx)
		dropNetAdmin(t)
		_, refused = bases(t.Context())
	})
	if !errors.Is(cancelled, context.Canceled) {
		t.Errorf("cancelled: %v", cancelled)
	}
	if want := "list the chains of nf_tables at the hooks: operation not permitted"; !errors.Is(refused, unix.EPERM) || refused.Error() != want {
		t.Errorf("got %v\nwant %s", refused, want)
	}
}
