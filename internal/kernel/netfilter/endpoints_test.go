package netfilter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// endpoints is what Endpoints finds, in words.
func endpoints(t testing.TB, ns *lab.Namespace) (words []string, err error) {
	t.Helper()
	var list []netip.Addr
	ns.Do(func() { list, err = Endpoints(t.Context()) })
	for _, a := range list {
		words = append(words, a.String())
	}
	return words, err
}

const (
	// What kube-proxy writes for two endpoints, of two Services.
	proxied = chain + rule + `
		iptables -t nat -N KUBE-MARK-MASQ; iptables -t nat -N KUBE-SVC-A
		iptables -t nat -N KUBE-SEP-A; iptables -t nat -N KUBE-SEP-B; iptables -t nat -N KUBE-SEP-C
		iptables -t nat -A KUBE-SVC-A -m comment --comment "default/a -> 10.244.1.5:8080" -j KUBE-SEP-A
		iptables -t nat -A KUBE-SEP-A -s 10.244.1.5 -m comment --comment default/a -j KUBE-MARK-MASQ
		iptables -t nat -A KUBE-SEP-A -p tcp -m comment --comment default/a -m tcp -j DNAT --to-destination 10.244.1.5:8080
		iptables -t nat -A KUBE-SEP-B -p udp -m comment --comment default/b -m recent --set --name KUBE-SEP-B --rsource -m udp -j DNAT --to-destination 10.244.1.3:53
		iptables -t nat -A KUBE-SEP-C -p udp -m udp -j DNAT --to-destination 10.244.1.5:53
`
	// What others do with the same target.
	portmap = `
		iptables -t nat -N DOCKER; iptables -t nat -A DOCKER -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80
		iptables -t nat -N CNI-DN-A; iptables -t nat -A CNI-DN-A -p tcp --dport 81 -j DNAT --to-destination 10.244.1.9:80
		iptables -t nat -N X-KUBE-SEP-A; iptables -t nat -A X-KUBE-SEP-A -j DNAT --to-destination 10.244.1.10
		iptables -t nat -A OUTPUT -p tcp --dport 82 -j DNAT --to-destination 10.244.1.11
`
)

// six is a script of IPv6.
func six(script string) string {
	return strings.NewReplacer("iptables", "ip6tables",
		"-destination 10.244.1.5:", "-destination [fd00:244::5]:", "-destination 10.244.1.3:", "-destination [fd00:244::3]:",
		"-s 10.244.1.5", "-s fd00:244::5").Replace(script)
}

func by(backend, script string) string {
	return strings.ReplaceAll(script, "tables ", "tables-"+backend+" ")
}

func TestEndpoints(t *testing.T) {
	both := []string{"10.244.1.3", "10.244.1.5", "fd00:244::3", "fd00:244::5"}
	for name, tt := range map[string]struct {
		script string
		want   []string
	}{
		"nothing":                        {},
		"iptables-nft":                   {by("nft", proxied+portmap), both[:2]},
		"iptables-legacy":                {by("legacy", proxied+portmap), both[:2]},
		"iptables-nft, both families":    {by("nft", proxied+six(proxied)), both},
		"iptables-legacy, both families": {by("legacy", proxied+six(proxied)), both},
		"one family in each":             {by("legacy", proxied) + by("nft", six(proxied)), both},
		"others only, nft":               {by("nft", portmap+chain), nil},
		"others only, legacy":            {by("legacy", portmap+chain), nil},
		"not in force any more, nft":     {by("nft", proxied+"iptables -t nat -F KUBE-SERVICES"), nil},
		"not in force, legacy":           {by("legacy", proxied+"iptables -t nat -F KUBE-SERVICES"), nil},
		"to a port only, nft":            {by("nft", chain+rule+"iptables -t nat -N KUBE-SEP-A; iptables -t nat -A KUBE-SEP-A -p tcp -j DNAT --to-destination :80"), nil},
		"to a port only, legacy":         {by("legacy", chain+rule+"iptables -t nat -N KUBE-SEP-A; iptables -t nat -A KUBE-SEP-A -p tcp -j DNAT --to-destination :80"), nil},
		"ipvs":                           {"ip link add kube-ipvs0 type bridge\n" + by("nft", chain+rule+portmap), nil},
		"nftables": {`nft -f - <<-'END'
			table ip kube-proxy {
				set affinity-X { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
				chain mark-for-masquerade { mark set mark or 0x4000; }
				chain endpoint-A-ns/two/udp/dns__10.1.0.1/53 { ip saddr 10.1.0.1 jump mark-for-masquerade; meta l4proto udp dnat to 10.1.0.1:53; }
				chain endpoint-B-ns/two/udp/dns__10.1.0.2/53 { update @affinity-X { ip saddr }; meta l4proto udp dnat to 10.1.0.2:53; }
				chain service-A-ns/two/udp/dns { numgen random mod 2 vmap { 0 : goto endpoint-A-ns/two/udp/dns__10.1.0.1/53, 1 : goto endpoint-B-ns/two/udp/dns__10.1.0.2/53 }; }
			}
			table ip6 kube-proxy { chain endpoint-C { meta l4proto tcp dnat to [fd00::1]:80; }; }
			table ip other { chain endpoint-D { dnat to 10.1.0.9; }; }
			END`, []string{"10.1.0.1", "10.1.0.2", "fd00::1"}},
		"nftables, as since 1.37": {`nft -f - <<-'END'
			table ip kube-proxy {
				map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
				chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
				chain service-A-ns/one/tcp/http { meta l4proto tcp dnat to 10.244.0.1:8080; }
				chain service-B-ns/some/tcp/http { meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.0.7 . 80, 1 : 10.244.1.44 . 80 }; }
				chain other-C { meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.1.0.7 . 80, 1 : 10.1.0.8 . 80 }; }
			}
			table ip6 kube-proxy { chain service-D { meta l4proto tcp dnat ip6 addr . port to numgen random mod 2 map { 0 : fd00::7 . 80, 1 : fd00::8 . 80 }; }; }
			END`, []string{"10.244.0.1", "10.244.0.7", "10.244.1.44", "fd00::7", "fd00::8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			got, err := endpoints(t, ns)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("error %v, endpoints (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestEndpointsOfMany reads what fills many parts of a dump, while others
// change nf_tables as fast as they can: what is returned without an error is
// all, and with one a part.
func TestEndpointsOfMany(t *testing.T) {
	const services = 1000
	lab.Need(t, lab.Root, lab.Netns)
	path := standin.Build(t)
	all := netip.MustParseAddr("10.244.0.1")
	var want []string
	for range services {
		want, all = append(want, all.String()), all.Next()
	}
	for _, args := range []string{"-backend=nft", "-backend=legacy", "-mode=nftables"} {
		t.Run(args, func(t *testing.T) {
			ns := lab.NewNamespace(t)
			standin.Start(t, ns, path, args, "-family=ipv4", fmt.Sprintf("-services=%d", services)).Stop(t)
			if got, err := endpoints(t, ns); err != nil || !slices.Equal(want, got) {
				t.Fatalf("in peace: error %v, endpoints (-want +got):\n%s", err, cmp.Diff(want, got))
			}
			storm := ns.Command("sh", "-c", `nft add table ip x; while :; do nft 'add chain ip x c; delete chain ip x c'; iptables-legacy -t nat -N X; iptables-legacy -t nat -X X; done`)
			if err := storm.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = storm.Process.Kill(); _ = storm.Wait() }()
			whole, cut := 0, 0
			for range 15 {
				got, err := endpoints(t, ns)
				switch {
				case err == nil && slices.Equal(want, got):
					whole++
				case err != nil && strings.HasSuffix(err.Error(), "it changed during each of 10 attempts") && len(got) <= services:
					cut++
				default:
					t.Fatalf("error %v, %d endpoints", err, len(got))
				}
			}
			t.Logf("%d whole, %d with an error", whole, cut)
		})
	}
}

func TestEndpointsErrors(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, by("nft", proxied)+by("legacy", proxied))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var cancelled, refused error
	ns.Do(func() { // on a thread of its own, for good
		_, cancelled = Endpoints(ctx)
		dropNetAdmin(t)
		_, refused = Endpoints(t.Context())
	})
	if !errors.Is(cancelled, context.Canceled) {
		t.Errorf("error %v", cancelled)
	}
	want := "ask nf_tables for the table kube-proxy: operation not permitted\n" +
		"read the IPv4 table nat of iptables-legacy: getsockopt: operation not permitted"
	if !errors.Is(refused, unix.EPERM) || refused.Error() != want {
		t.Errorf("got %v\nwant %s", refused, want)
	}
}

// FuzzEndpoints: no bytes, however broken, give an address that is none.
func FuzzEndpoints(f *testing.F) {
	info := append(binary.NativeEndian.AppendUint32(nil, 3), make([]byte, 40)...)
	dnat := nfnl.Exprs{}.Add("target", nfnl.Attrs{}.Text(unix.NFTA_TARGET_NAME, "DNAT").U32(unix.NFTA_TARGET_REV, 2).Bytes(unix.NFTA_TARGET_INFO, info))
	f.Add([]byte(nfnl.Attrs{}.Nest(unix.NFTA_RULE_EXPRESSIONS, nfnl.Attrs(dnat))), false)
	list := nfnl.Attrs{}.Nest(unix.NFTA_LIST_ELEM, nfnl.Attrs{}.Nest(unix.NFTA_SET_ELEM_DATA, nfnl.Attrs{}.Bytes(unix.NFTA_DATA_VALUE, make([]byte, 20))))
	f.Add([]byte(nfnl.Attrs{}.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list)), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		targets(v6, b, func(a netip.Addr) {
			if a.Is4() == v6 {
				t.Errorf("an element gives %s", a)
			}
		})
		translation(v6, b)
	})
}
