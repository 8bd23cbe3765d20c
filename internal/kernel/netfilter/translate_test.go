package netfilter

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

func TestTranslators(t *testing.T) {
	const dnat = "iptables -t nat -A PREROUTING -d 10.32.0.1/32 -p tcp -j DNAT --to-destination 10.200.2.51\n"
	const docker = "iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER; iptables -t nat -A DOCKER -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80\n"
	for name, tt := range map[string]struct {
		script string
		want   []string
	}{
		"nothing":                {},
		"a rule, nft":            {by("nft", dnat), []string{"the table ip nat of nf_tables"}},
		"a rule, legacy":         {by("legacy", dnat), []string{"the table nat of iptables-legacy"}},
		"a chain, legacy":        {by("legacy", "iptables -t nat -N X; iptables -t nat -A PREROUTING -j X"), []string{"the table nat of iptables-legacy"}},
		"Docker, nft":            {by("nft", docker), nil},
		"Docker, legacy":         {by("legacy", docker), nil},
		"Docker and another":     {by("nft", docker+"iptables -t nat -N X; iptables -t nat -A PREROUTING -j X"), []string{"the table ip nat of nf_tables"}},
		"kube-proxy, nft":        {by("nft", chain+rule+wired), nil},
		"kube-proxy, legacy":     {by("legacy", chain+rule+wired), nil},
		"a table of nft":         {"nft 'table inet x { chain c { type nat hook prerouting priority -100; ip daddr 10.32.0.1 dnat ip to 10.200.2.51; }; }'", []string{"the table inet x of nf_tables"}},
		"a map of verdicts":      {"nft 'table ip x { chain d { dnat to 10.200.2.51; }; chain c { type nat hook prerouting priority -100; ip daddr vmap { 10.32.0.1 : goto d }; }; }'", []string{"the table ip x of nf_tables"}},
		"no rules in it":         {"nft 'table ip x { chain c { type nat hook prerouting priority -100; }; }'", nil},
		"for the way out only":   {"nft 'table ip x { chain c { type nat hook postrouting priority 100; masquerade; }; }'", nil},
		"kube-proxy's own table": {"nft 'table ip kube-proxy { chain services { accept; }; chain c { type nat hook prerouting priority -100; jump services; }; }'", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			var got []string
			var err error
			ns.Do(func() { got, err = Translators(t.Context()) })
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}
