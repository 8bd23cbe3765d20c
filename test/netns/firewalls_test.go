package netns_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docker is what Docker has in FORWARD, 28.0 with sets, and before.
const (
	docker = `
	iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -N DOCKER; iptables-nft -N DOCKER-ISOLATION-STAGE-1; iptables-nft -N DOCKER-ISOLATION-STAGE-2
	iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-ISOLATION-STAGE-1
	iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-nft -A FORWARD -o docker0 -j DOCKER
	iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT; iptables-nft -A FORWARD -i docker0 -o docker0 -j ACCEPT
	iptables-nft -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2; iptables-nft -A DOCKER-ISOLATION-STAGE-1 -j RETURN
	iptables-nft -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP; iptables-nft -A DOCKER-USER -j RETURN
	`
	calico = `
	TABLES -P FORWARD DROP
	TABLES -t raw -N cali-PREROUTING; TABLES -t raw -A PREROUTING -j cali-PREROUTING
	TABLES -t raw -A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
	TABLES -t raw -A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
	TABLES -t raw -A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
	TABLES -t raw -A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
	TABLES -N cali-FORWARD; TABLES -N cali-from-wl-dispatch; TABLES -A FORWARD -j cali-FORWARD
	TABLES -A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
	TABLES -A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
	TABLES -A cali-from-wl-dispatch -j DROP
	`
	accepted = "TABLES -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT"
)

func with(tables, script string) string { return strings.ReplaceAll(script, "TABLES", tables) }

// TestFirewalls has packets sent past the rules of firewalls, and check say what
// became of them: which kinds of packets, and whether to a pod's own address or to
// a Service.
func TestFirewalls(t *testing.T) {
	const (
		every = "IPv4/tcp IPv4/udp IPv6/tcp IPv6/udp"
		v6    = "IPv6/tcp IPv6/udp"
	)
	load := func(name string) string {
		path, err := filepath.Abs(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".nft") {
			return "nft -f " + path
		}
		tables := "iptables"
		if strings.Contains(name, "ip6tables") {
			tables = "ip6tables"
		}
		return tables + "-BACKEND-restore --noflush " + path
	}
	backend := func(b, script string) string { return strings.ReplaceAll(script, "BACKEND", b) }
	for _, tt := range []struct {
		name    string
		script  string
		pods    string // by which they reach each other by their own addresses
		service string // and by a Service
		want    string // the rows about netfilter that are not "accepts", without steps
		about   string // a part of a finding; "": there is none about FORWARD
	}{
		{
			"firewalld", load("firewalld-default.nft"), "", every,
			"IPv4 FORWARD met: accepts what is for Services; of what pods send each other by their own addresses: drops: rule 8 of filter_FWD_public, in the table inet firewalld of nf_tables\n" +
				"IPv6 FORWARD met: accepts what is for Services; of what pods send each other by their own addresses: drops: rule 8 of filter_FWD_public, in the table inet firewalld of nf_tables",
			"do not reach each other over IPv4 by their own addresses: FORWARD drops what they send (rule 8 of filter_FWD_public, in the table inet firewalld of nf_tables); what is for a Service it accepts",
		},
		{"firewalld, the bridge is trusted", load("firewalld-trusted-if.nft"), every, every, "", ""},
		{"firewalld, the networks are trusted", load("firewalld-trusted-src.nft"), every, every, "", ""},
		{"firewalld, the bridge is internal", load("firewalld-internal.nft"), every, every, "", ""},
		{
			"firewalld, iptables-nft", backend("nft", load("firewalld-iptables.rules")), v6, every,
			"IPv4 FORWARD met: accepts what is for Services; of what pods send each other by their own addresses: drops: rule 8 of FWD_public, in the table ip filter of nf_tables: -A FWD_public -j REJECT --reject-with icmp-port-unreachable",
			"(rule 8 of FWD_public, in the table ip filter of nf_tables); what is for a Service it accepts",
		},
		{
			"firewalld, ip6tables-legacy", backend("legacy", load("firewalld-ip6tables.rules")), "IPv4/tcp IPv4/udp", every,
			"IPv6 FORWARD met: accepts what is for Services; of what pods send each other by their own addresses: drops: rule 8 of FWD_public, in the table filter of ip6tables-legacy: -A FWD_public -j REJECT --reject-with icmp6-port-unreachable",
			"(rule 8 of FWD_public, in the table filter of ip6tables-legacy); what is for a Service it accepts",
		},
		{
			"ufw", backend("nft", load("ufw-iptables.rules")), v6, v6,
			"IPv4 FORWARD missing: drops what nothing accepts: the policy of FORWARD, in the table ip filter of nf_tables", "do not reach each other over IPv4: FORWARD drops what they send (the policy of FORWARD",
		},
		{"ufw, a route is allowed", backend("legacy", load("ufw-route-iptables.rules")), every, every, "", ""},
		{
			"ufw, a port is allowed", backend("legacy", load("ufw-port-ip6tables.rules")), "IPv4/tcp IPv4/udp IPv6/tcp", "IPv4/tcp IPv4/udp IPv6/tcp",
			"IPv6 FORWARD missing: drops UDP and TCP but for the port 53: the policy of FORWARD, in the table filter of ip6tables-legacy",
			"do not reach each other over IPv6 by UDP and TCP but for the port 53: FORWARD drops UDP and TCP but for the port 53 (the policy of FORWARD",
		},
		{
			"Docker", docker, v6, v6,
			"IPv4 FORWARD missing: drops what nothing accepts: the policy of FORWARD, in the table ip filter of nf_tables", "FORWARD drops what they send (the policy of FORWARD",
		},
		{"Docker, and who lets pods through", docker + "iptables-nft -I DOCKER-USER -i cni0 -o cni0 -j ACCEPT", every, every, "", ""},
		{
			"Docker in nf_tables", `nft 'table ip docker-bridges {
			chain filter-forward-in__docker0 { drop; }
			map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-in__docker0 }; }
			chain filter-FORWARD { type filter hook forward priority 0; policy accept; oifname vmap @filter-forward-in-jumps; }; }'`, every, every, "", "",
		},
		{
			"Calico's marks", with("iptables-nft", calico+accepted), v6, v6,
			"IPv4 FORWARD missing: drops what nothing accepts: the policy of FORWARD, in the table ip filter of nf_tables", "FORWARD drops what they send (the policy of FORWARD",
		},
		{"Calico accepts", with("iptables-legacy", calico+"TABLES -A cali-FORWARD -i cni0 -j MARK --set-xmark 0x10000/0x10000; "+accepted), every, every, "", ""},
		{
			"kube-proxy's marks", dropping("iptables-nft") + "iptables-nft -t mangle -A PREROUTING -i cni0 -j MARK --or-mark 0x4000", every, every, "", "",
		},
		{
			"UDP is dropped", "iptables-legacy -A FORWARD -p udp -j DROP", "IPv4/tcp IPv6/tcp IPv6/udp", "IPv4/tcp IPv6/tcp IPv6/udp",
			"IPv4 FORWARD missing: drops UDP: rule 1 of FORWARD, in the table filter of iptables-legacy: -A FORWARD -p udp -j DROP", "do not reach each other over IPv4 by UDP: FORWARD drops UDP (rule 1 of FORWARD",
		},
		{
			"DNS is dropped", "ip6tables-nft -A FORWARD -p udp -m multiport --dports 53,5353 -j DROP", "IPv4/tcp IPv4/udp IPv6/tcp", "IPv4/tcp IPv4/udp IPv6/tcp",
			"IPv6 FORWARD missing: drops UDP for the ports 53 and 5353: rule 1 of FORWARD, in the table ip6 filter of nf_tables: -A FORWARD -p udp -m multiport --dports 53,5353 -j DROP", "by UDP for the ports 53 and 5353",
		},
		{"another port is dropped", "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -p tcp --dport 80 -j DROP; iptables-nft -A FORWARD -i cni0 -j ACCEPT", every, every, "IPv4 FORWARD missing: drops TCP for the port 80: rule 1 of FORWARD, in the table ip filter of nf_tables: -A FORWARD -p tcp -m tcp --dport 80 -j DROP", "by TCP for the port 80"},
		{
			"no replies", "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -p tcp --dport 53 -j ACCEPT; iptables-legacy -A FORWARD -p udp --dport 53 -j ACCEPT", v6, v6,
			"IPv4 FORWARD missing: drops what nothing accepts: the policy of FORWARD, in the table filter of iptables-legacy", "FORWARD drops what they send",
		},
		{"a large set", `nft -f - <<-END
			table inet f { set s { type ipv4_addr; elements = { 10.200.2.31, 10.200.2.32, $(for i in $(seq 1500); do echo "10.9.$((i / 250)).$((i % 250)),"; done) }; }
			chain c { type filter hook forward priority 0; policy drop; ip saddr @s accept; meta nfproto ipv6 accept; }; }
			END`, every, every, "", ""},
		{
			"before routing, raw", "iptables-nft -t raw -A PREROUTING -i cni0 -j DROP", v6, v6,
			"IPv4 other hooks missing: drops: rule 1 of PREROUTING, in the table ip raw of nf_tables: -A PREROUTING -i cni0 -j DROP", "over IPv4: netfilter drops what they send (rule 1 of PREROUTING",
		},
		{
			"before routing, mangle", "ip6tables-legacy -t mangle -A PREROUTING -p udp -j DROP", "IPv4/tcp IPv4/udp IPv6/tcp", "IPv4/tcp IPv4/udp IPv6/tcp",
			"IPv6 other hooks missing: drops UDP: rule 1 of PREROUTING, in the table mangle of ip6tables-legacy: -A PREROUTING -p udp -j DROP", "over IPv6 by UDP: netfilter drops UDP (rule 1 of PREROUTING",
		},
		{
			"behind routing", "nft 'table inet f { chain c { type filter hook postrouting priority 0; oifname \"cni0\" tcp sport 53 drop; }; }'", "IPv4/udp IPv6/udp", "IPv4/udp IPv6/udp",
			"IPv4 other hooks missing: drops TCP for the port 53: rule 1 of c, in the table inet f of nf_tables\nIPv6 other hooks missing: drops TCP for the port 53: rule 1 of c, in the table inet f of nf_tables",
			"by TCP for the port 53: netfilter drops TCP for the port 53",
		},
		{
			"a port's ingress", "nft 'table netdev n { chain c { type filter hook ingress device veth31 priority 0; ip protocol udp drop; }; }'", "IPv4/tcp IPv6/tcp IPv6/udp", "IPv4/tcp IPv6/tcp IPv6/udp",
			"IPv4 other hooks missing: drops UDP: rule 1 of c, in the table netdev n of nf_tables", "",
		},
		{
			"a bridge forwards no UDP", "nft 'table bridge b { chain c { type filter hook forward priority 0; ip protocol udp drop; }; }'", "IPv4/tcp IPv6/tcp IPv6/udp", "IPv4/tcp IPv6/tcp IPv6/udp",
			"IPv4 FORWARD missing: drops UDP: rule 1 of c, in the table bridge b of nf_tables", "",
		},
		{
			"ebtables", "ebtables-nft -A FORWARD -p IPv4 --ip-proto tcp -j DROP", "IPv4/udp IPv6/tcp IPv6/udp", "IPv4/udp IPv6/tcp IPv6/udp",
			"IPv4 FORWARD missing: drops TCP: rule 1 of FORWARD, in the table bridge filter of nf_tables", "",
		},
		{
			"ebtables, by ports", "ebtables-nft -A FORWARD -p IPv6 -i veth+ -o veth3+ -j DROP", "IPv4/tcp IPv4/udp", "IPv4/tcp IPv4/udp",
			"IPv6 FORWARD missing: drops: rule 1 of FORWARD, in the table bridge filter of nf_tables", "",
		},
		{
			"a set of who is banned", "nft 'table inet b { set s { type ipv4_addr; flags timeout; elements = { 10.200.2.31 timeout 1h }; }; chain c { type filter hook forward priority -1; ip saddr @s reject; }; }'", v6, v6,
			"IPv4 FORWARD missing: drops: rule 1 of c, in the table inet b of nf_tables", "over IPv4: FORWARD drops what they send (rule 1 of c",
		},
		{
			"what no route leads back to", "nft 'table inet f { chain c { type filter hook prerouting priority 10; fib saddr . mark . iif oif missing drop; }; }'", every, every, "", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "[persist]\nenabled = false\n")
			client := n.pods()
			n.sh(ruled)
			n.set("1", "1", "1")
			n.sh(tt.script)
			reached := func(what func(i int) netip.Addr) string {
				var ways []string
				for i, family := range []string{"IPv4", "IPv6"} {
					for _, by := range []struct {
						word string
						call func(netip.AddrPort) error
					}{{"tcp", dial}, {"udp", ask}} {
						var err error
						client.Do(func() { err = by.call(netip.AddrPortFrom(what(i), 53)) })
						if err == nil {
							ways = append(ways, family+"/"+by.word)
						}
					}
				}
				return strings.Join(ways, " ")
			}
			gotPods := reached(func(i int) netip.Addr { return netip.MustParseAddr(endpoints[i]) })
			gotService := reached(func(i int) netip.Addr { return services[i] })
			if gotPods != tt.pods || gotService != tt.service {
				t.Fatalf("the situation is not as thought: pods reach each other by %q, want %q; Services by %q, want %q", gotPods, tt.pods, gotService, tt.service)
			}
			v, _ := n.needs("check")
			var rows []string
			for _, n := range v.Needs {
				if (n.Need == "FORWARD" || n.Need == "other hooks") && n.Have != "accepts" {
					rows = append(rows, n.Family+" "+n.Need+" "+n.State+": "+n.Have)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(rows, "\n")); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			var findings []string
			for _, f := range n.check().Findings {
				if strings.Contains(f.Sentence, "do not reach each other") {
					findings = append(findings, f.Sentence)
				}
			}
			if (tt.about == "") != (len(findings) == 0) || !slices.ContainsFunc(append(findings, ""), func(s string) bool { return strings.Contains(s, tt.about) }) {
				t.Errorf("findings %q, want one with %q", findings, tt.about)
			}
			if p, _ := n.probe(); p.Verdict == "works" && strings.Contains(tt.want, "missing") {
				t.Errorf("probe says %s: %s", p.Verdict, p.Meaning)
			}
		})
	}
}
