package netfilter

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// BenchmarkLook measures a look at the rules of so many Services, IPv4 only, those
// of 49,000 being 245,000 rules;
// "first" is one that remembers nothing, "endpoints" a reading of these, and
// "forward" what becomes of packets at the hooks.
func BenchmarkLook(b *testing.B) {
	lab.Need(b, lab.Root, lab.Netns)
	path := standin.Build(b)
	measure := func(b *testing.B, name string, ns *lab.Namespace, look func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			ns.Do(func() {
				for b.Loop() {
					if err := look(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	kept := new(Look)
	again := func() error { _, err := kept.KubeProxy(b.Context()); return err }
	first := func() error { _, err := new(Look).KubeProxy(b.Context()); return err }
	endpoints := func() error { _, err := Endpoints(b.Context()); return err }
	pods := []Route{{Bridge: "cni0", From: netip.MustParsePrefix("10.200.2.2/32"), To: netip.MustParsePrefix("10.200.2.3/32")}}
	forward := func() error { _, err := Passages(b.Context(), pods); return err }
	b.Run("none", func(b *testing.B) {
		none := lab.NewNamespace(b)
		measure(b, "again", none, again)
		measure(b, "endpoints", none, endpoints)
		measure(b, "forward", none, forward)
	})
	for _, mode := range [][]string{
		{"iptables-nft", "-mode=iptables", "-backend=nft"},
		{"iptables-legacy", "-mode=iptables", "-backend=legacy"},
		{"nftables", "-mode=nftables"},
	} {
		for _, n := range []int{1000, 10000, 49000} {
			if n > 10000 && mode[0] == "iptables-nft" {
				continue // iptables-nft itself takes minutes for so many
			}
			b.Run(fmt.Sprintf("%s/%d", mode[0], n), func(b *testing.B) {
				ns := lab.NewNamespace(b)
				p := standin.Start(b, ns, path, append(mode[1:], "-family=ipv4", fmt.Sprintf("-services=%d", n))...)
				p.Stop(b)
				measure(b, "again", ns, again)
				if mode[0] == "iptables-legacy" {
					measure(b, "first", ns, first)
				}
				measure(b, "endpoints", ns, endpoints)
				measure(b, "forward", ns, forward)
			})
		}
	}
}
