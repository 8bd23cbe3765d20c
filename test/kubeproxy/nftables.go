package main

import (
	"context"
	"fmt"
	"strings"
)

// nfTables writes the rules of mode nftables.
type nfTables struct{ *proxy }

// base is the beginning of the table; %[1]s is ip or ip6.
const base = `add table %[1]s kube-proxy
delete table %[1]s kube-proxy
table %[1]s kube-proxy {
	comment "rules for kube-proxy"
	map service-nodeports { type inet_proto . inet_service : verdict; comment "NodePort traffic"; }
	map no-endpoint-services { type %[2]s . inet_proto . inet_service : verdict; comment "vmap to drop or reject packets to services with no endpoints"; }
	map firewall-ips { type %[2]s . inet_proto . inet_service : verdict; comment "destinations that are subject to LoadBalancerSourceRanges"; }
	set nodeport-ips { type %[2]s; comment "IPs that accept NodePort traffic"; }
	chain service-endpoints-check { %[1]s daddr . meta l4proto . th dport vmap @no-endpoint-services; }
	chain firewall-check { %[1]s daddr . meta l4proto . th dport vmap @firewall-ips; }
	chain mark-for-masquerade { mark set mark or 0x4000; }
	chain masquerading { mark and 0x4000 == 0 return; mark set mark xor 0x4000; masquerade fully-random; }
`

// end is the rest, after the chains of the Services.
const end = `	chain services {
		%[1]s daddr . meta l4proto . th dport vmap @service-ips
		%[1]s daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}
	chain filter-prerouting { type filter hook prerouting priority -110; ct state new jump firewall-check; }
	chain filter-input { type filter hook input priority -110; ct state new jump service-endpoints-check; }
	chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; }
	chain filter-output { type filter hook output priority -110; ct state new jump service-endpoints-check; ct state new jump firewall-check; }
	chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
}
`

func (t *nfTables) sync(ctx context.Context, services []service) error {
	_, err := program(ctx, t.rules(services), "nft", "-f", "-")
	return err
}

func (t *nfTables) cleanup(ctx context.Context) error {
	_, err := program(ctx, fmt.Sprintf("add table %[1]s kube-proxy\ndelete table %[1]s kube-proxy\n", t.ip), "nft", "-f", "-")
	return err
}

func (t *nfTables) rules(services []service) string {
	var chains, elements strings.Builder
	address := map[string]string{"ip": "ipv4_addr", "ip6": "ipv6_addr"}[t.ip]
	fmt.Fprintf(&chains, base, t.ip, address)
	for _, s := range services {
		id, _, _ := strings.Cut(s.name, ":")
		id = hash(s.name)[:8] + "-" + id + "/tcp/http"
		endpoint := fmt.Sprintf("endpoint-%s__%s/%d", id, strings.ReplaceAll(s.endpoint.Addr().String(), ":", "."), s.endpoint.Port())
		fmt.Fprintf(&chains, `	chain %s { %s saddr %s jump mark-for-masquerade; meta l4proto tcp dnat to %s; }
	chain service-%s { %s daddr %s tcp dport %d %[2]s saddr != %[9]s jump mark-for-masquerade; goto %[1]s; }
`, endpoint, t.ip, s.endpoint.Addr(), s.endpoint, id, t.ip, s.clusterIP.Addr(), s.clusterIP.Port(), t.pods)
		fmt.Fprintf(&elements, "%s . tcp . %d : goto service-%s,", s.clusterIP.Addr(), s.clusterIP.Port(), id)
	}
	fmt.Fprintf(&chains, "	map service-ips { type %s . inet_proto . inet_service : verdict; comment \"ClusterIP, ExternalIP and LoadBalancer IP traffic\"; ", address)
	if elements.Len() > 0 {
		fmt.Fprintf(&chains, "elements = { %s }; ", elements.String())
	}
	fmt.Fprintf(&chains, "}\n"+end, t.ip)
	return chains.String()
}
