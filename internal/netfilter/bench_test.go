package netfilter

import (
	"fmt"
	"testing"

	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// BenchmarkLook measures a look at the rules of so many Services, IPv4 only;
// "first" is one that remembers nothing.
func BenchmarkLook(b *testing.B) {
	lab.Need(b, lab.Root, lab.Netns)
	path := standin.Build(b)
	measure := func(name string, ns *lab.Namespace, with func() *Look) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			ns.Do(func() {
				for b.Loop() {
					if _, err := with().KubeProxy(b.Context()); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	kept := new(Look)
	measure("none", lab.NewNamespace(b), func() *Look { return kept })
	for _, mode := range [][]string{
		{"iptables-nft", "-mode=iptables", "-backend=nft"},
		{"iptables-legacy", "-mode=iptables", "-backend=legacy"},
		{"nftables", "-mode=nftables"},
	} {
		for _, n := range []int{1000, 10000} {
			ns := lab.NewNamespace(b)
			p := standin.Start(b, ns, path, append(mode[1:], "-family=ipv4", fmt.Sprintf("-services=%d", n))...)
			p.Stop(b)
			kept := new(Look)
			measure(fmt.Sprintf("%s/%d", mode[0], n), ns, func() *Look { return kept })
			if mode[0] == "iptables-legacy" {
				measure(fmt.Sprintf("%s/%d/first", mode[0], n), ns, func() *Look { return new(Look) })
			}
		}
	}
}
