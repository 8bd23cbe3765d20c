package dnstest

import (
	"fmt"
	"strings"
	"testing"
)

// KubeProxy writes the rules that kube-proxy has for the Service in iptables
// mode, instead of those of [Worker.Rules].
func (w *Worker) KubeProxy(t testing.TB) {
	t.Helper()
	w.Node.Run(t, "nft", "delete table "+w.family.nft+" proxy")
	restore := "iptables-nft-restore"
	if w.Service.Addr().Is6() {
		restore = "ip6tables-nft-restore"
	}
	var chains, rules strings.Builder
	for _, proto := range []string{"udp", "tcp"} {
		name := "kube-system/kube-dns:dns"
		if proto == "tcp" {
			name += "-tcp"
		}
		svc := "KUBE-SVC-" + strings.ToUpper(proto)
		fmt.Fprintf(&chains, ":%s - [0:0]\n", svc)
		fmt.Fprintf(&rules, "-A KUBE-SERVICES -m comment --comment \"%s cluster IP\" -m %s -p %s -d %s --dport 53 -j %s\n", name, proto, proto, w.Service.Addr(), svc)
		for i, e := range []struct{ endpoint, chance string }{
			{w.Near.String(), "-m statistic --mode random --probability 0.50000000000 "}, {w.Far.String(), ""},
		} {
			sep := fmt.Sprintf("KUBE-SEP-%s%d", strings.ToUpper(proto), i)
			fmt.Fprintf(&chains, ":%s - [0:0]\n", sep)
			fmt.Fprintf(&rules, "-A %s -m comment --comment \"%s -> %s\" %s-j %s\n", svc, name, e.endpoint, e.chance, sep)
			fmt.Fprintf(&rules, "-A %s -m comment --comment %s -m %s -p %s -j DNAT --to-destination %s\n", sep, name, proto, proto, e.endpoint)
		}
	}
	w.Node.Run(t, "sh", "-ec", `PATH=$PATH:/usr/sbin; `+restore+` <<END
*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
`+chains.String()+`-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
`+rules.String()+`COMMIT
END`)
}
