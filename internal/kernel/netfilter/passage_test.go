package netfilter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// fates says what the hook does to pods of cni0, by both families: "accepted;
// dropped by the policy of FORWARD, in …".
func fates(t testing.TB, ns *lab.Namespace) string {
	t.Helper()
	connected := []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("fd17::/64"), netip.MustParsePrefix("fe80::/64")}
	routes := []Route{
		{Bridge: "cni0", Index: 7, Ports: []string{"veth1"}, Connected: connected, From: netip.MustParsePrefix("10.200.2.41/32"), To: netip.MustParsePrefix("10.200.2.51/32")},
		{Bridge: "cni0", Index: 7, Ports: []string{"veth1"}, Connected: connected, IPv6: true, From: netip.MustParsePrefix("fd00:2::41/128"), To: netip.MustParsePrefix("fd00:2::51/128")},
	}
	var found []Passage
	var err error
	ns.Do(func() { found, err = Passages(t.Context(), routes) })
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, p := range found {
		words = append(words, p.String())
	}
	return strings.Join(words, "; ")
}

// String is what becomes of both ways, once where it is the same.
func (p *Passage) String() string {
	direct, service := p.Direct.String(), p.Service.String()
	if direct == service {
		return direct
	}
	return "directly " + direct + ", as a Service " + service
}

func (w *Way) String() string {
	s := w.Forward.String()
	if w.Beside.Fate != Accepted {
		s += ", beside " + w.Beside.String()
	}
	return s
}

func (v *Verdict) String() string {
	s := "accepted"
	switch v.Fate {
	case DroppedByPolicy, DroppedByRule:
		s = "dropped by " + v.By
	case Depends:
		s = "depends on " + v.By
	case Accepted:
	}
	if v.Of != "" {
		s = v.Of + " " + s
	}
	return s
}

// proxyForward is what kube-proxy has in the table filter.
const proxyForward = `
	iptables -N KUBE-FORWARD; iptables -N KUBE-SERVICES; iptables -N KUBE-PROXY-FIREWALL
	iptables -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
	iptables -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
	iptables -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
	iptables -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
	iptables -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
	iptables -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	iptables -A KUBE-SERVICES -d 10.32.0.7/32 -p tcp -m comment --comment "default/x has no endpoints" -m tcp --dport 80 -j REJECT
`

// established lets replies through.
const established = "\niptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"

func TestPassages(t *testing.T) {
	forward := func(policy, rules string) string { return "iptables -P FORWARD " + policy + "\n" + rules }
	type verdict struct{ v4, v6 string }
	ok := verdict{"accepted", "accepted"}
	for name, tt := range map[string]struct {
		script string
		want   verdict // PLACE stands for the table
	}{
		"no rules":                        {forward("ACCEPT", ""), ok},
		"kube-proxy's":                    {forward("ACCEPT", proxyForward), ok},
		"drops, nothing accepts":          {forward("DROP", ""), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"drops, kube-proxy's only":        {forward("DROP", proxyForward), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"drops, flannel accepts":          {forward("DROP", proxyForward+"iptables -N FLANNEL-FWD; iptables -A FORWARD -j FLANNEL-FWD; iptables -A FLANNEL-FWD -s 10.200.0.0/16 -j ACCEPT"), ok},
		"drops, another net accepted":     {forward("DROP", "iptables -A FORWARD -s 10.201.0.0/16 -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"drops, not another net":          {forward("DROP", "iptables -A FORWARD ! -s 10.201.0.0/16 -j ACCEPT"), ok},
		"drops, the plugin firewall":      {forward("DROP", "iptables -N CNI-FORWARD; iptables -A FORWARD -j CNI-FORWARD; iptables -A CNI-FORWARD -d 10.200.2.41/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A CNI-FORWARD -s 10.200.2.41/32 -j ACCEPT"), ok},
		"drops, by another's address":     {forward("DROP", "iptables -A FORWARD -s 10.200.2.9/32 -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"drops, by device":                {forward("DROP", "iptables -A FORWARD -i cni0 -o cni0 -j ACCEPT"), ok},
		"drops, by devices":               {forward("DROP", "iptables -A FORWARD -i cni+ -j ACCEPT"), ok},
		"drops, by another device":        {forward("DROP", "iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT; iptables -A FORWARD -o cni1 -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"drops, bridged accepted":         {forward("DROP", "iptables -A FORWARD -m physdev --physdev-is-bridged -j ACCEPT"), ok},
		"drops, routed accepted":          {forward("DROP", "iptables -A FORWARD -m physdev ! --physdev-is-bridged -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a rule drops":                    {forward("ACCEPT", "iptables -A FORWARD -m comment --comment x -j LOG; iptables -A FORWARD -i cni0 -j DROP"), verdict{"dropped by rule 2 of FORWARD, in PLACE", "accepted"}},
		"a rule rejects, behind jumps":    {forward("ACCEPT", "iptables -N A; iptables -N B; iptables -A FORWARD -j A; iptables -A A -g B; iptables -A A -j ACCEPT; iptables -A B -i other -j ACCEPT; iptables -A FORWARD -j REJECT"), verdict{"dropped by rule 2 of FORWARD, in PLACE", "accepted"}},
		"returns":                         {forward("DROP", "iptables -N A; iptables -A FORWARD -j A; iptables -A A -i cni0 -j RETURN; iptables -A A -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a port, and no replies":          {forward("DROP", "iptables -A FORWARD -p tcp --dport 80 -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a port":                          {forward("DROP", "iptables -A FORWARD -p tcp --dport 80 -j ACCEPT;"+established), verdict{"UDP and TCP but for the port 80 dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"ports":                           {forward("DROP", "iptables -A FORWARD -p tcp -m multiport --dports 80,443,8000:8100 -j ACCEPT; iptables -A FORWARD -p udp -j ACCEPT;"+established), verdict{"TCP but for the ports 80, 443 and 8000-8100 dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a port is dropped":               {forward("ACCEPT", "iptables -A FORWARD -p udp --dport 53 -j DROP"), verdict{"UDP for the port 53 dropped by rule 1 of FORWARD, in PLACE", "accepted"}},
		"one protocol":                    {forward("DROP", "iptables -A FORWARD -p tcp -j ACCEPT"), verdict{"UDP dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"one, and the other depends":      {forward("DROP", "iptables -A FORWARD -p tcp -m length --length 0:9 -j ACCEPT"), verdict{"UDP dropped by the policy of FORWARD, in PLACE; what becomes of TCP depends on rule 1 of FORWARD, in PLACE", "accepted"}},
		"from below 1024":                 {forward("ACCEPT", "iptables -A FORWARD -p tcp --sport 0:1023 --dport 0:1023 -j DROP"), ok},
		"what is new without SYN":         {forward("ACCEPT", "iptables -A FORWARD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP; iptables -A FORWARD -p tcp --tcp-flags SYN,RST SYN,RST -j DROP"), ok},
		"only the other's replies":        {forward("DROP", "iptables -A FORWARD -s 10.200.2.41/32 -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a Service's":                     {forward("DROP", "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"), verdict{"directly dropped by the policy of FORWARD, in PLACE, as a Service accepted", "accepted"}},
		"what is no Service's":            {forward("ACCEPT", "iptables -A FORWARD -m conntrack ! --ctstate DNAT -j DROP"), verdict{"directly dropped by rule 1 of FORWARD, in PLACE, as a Service accepted", "accepted"}},
		"the direction":                   {forward("ACCEPT", "iptables -A FORWARD -m conntrack --ctdir REPLY -j DROP"), verdict{"dropped by rule 1 of FORWARD, in PLACE", "accepted"}},
		"the older state":                 {forward("DROP", "iptables -A FORWARD -m state --state NEW,ESTABLISHED -j ACCEPT"), ok},
		"what is local":                   {forward("ACCEPT", "iptables -A FORWARD -m addrtype --dst-type LOCAL -j DROP; iptables -A FORWARD -m pkttype --pkt-type broadcast -j DROP"), ok},
		"before it, raw":                  {forward("ACCEPT", "iptables -t raw -A PREROUTING -i cni0 -p udp -j DROP"), verdict{"accepted, beside UDP dropped by rule 1 of PREROUTING, in RAW", "accepted"}},
		"before it, by its destination":   {forward("ACCEPT", "iptables -t mangle -A PREROUTING -d 10.200.2.51/32 -p tcp -j DROP"), verdict{"directly accepted, beside TCP dropped by rule 1 of PREROUTING, in MANGLE, as a Service accepted, beside TCP depends on rule 1 of PREROUTING, in MANGLE", "accepted"}},
		"before it, by another's address": {forward("ACCEPT", "iptables -t raw -A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP"), ok},
		"behind it":                       {forward("ACCEPT", "iptables -t mangle -A POSTROUTING -o cni0 -j DROP"), verdict{"accepted, beside dropped by rule 1 of POSTROUTING, in MANGLE", "accepted"}},
		"not tracked":                     {forward("DROP", "iptables -t raw -A PREROUTING -j CT --notrack; iptables -A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT"), verdict{"depends on rule 1 of FORWARD, in PLACE", "accepted"}},
		"Calico's marks": {forward("DROP", `iptables -t raw -N cali-PREROUTING; iptables -t raw -A PREROUTING -j cali-PREROUTING
			iptables -t raw -A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
			iptables -t raw -A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
			iptables -t raw -A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
			iptables -N cali-FORWARD; iptables -A FORWARD -j cali-FORWARD
			iptables -A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
			iptables -A cali-FORWARD -i cali+ -j DROP
			iptables -A cali-FORWARD -j MARK --set-xmark 0x0/0x10000; iptables -A cali-FORWARD -i cni0 -j MARK --set-xmark 0x10000/0x10000
			iptables -A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT`), ok},
		"Calico's marks, of others": {forward("DROP", `iptables -t raw -A PREROUTING -j MARK --set-xmark 0x0/0xf0000
			iptables -A FORWARD -i cali+ -j MARK --set-xmark 0x10000/0x10000
			iptables -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT`), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a mark, where that depends":    {forward("DROP", "iptables -A FORWARD -m limit --limit 5/s -j MARK --set-mark 0x4000; iptables -A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT"), verdict{"depends on rule 2 of FORWARD, in PLACE", "accepted"}},
		"depends on what is not known":  {forward("DROP", "iptables -A FORWARD -m limit --limit 5/s -j ACCEPT"), verdict{"depends on rule 1 of FORWARD, in PLACE", "accepted"}},
		"a queue":                       {forward("ACCEPT", "iptables -A FORWARD -j NFQUEUE"), verdict{"depends on rule 1 of FORWARD, in PLACE", "accepted"}},
		"a mark that a rule set":        {forward("DROP", "iptables -A FORWARD -j MARK --set-mark 0x4000; iptables -A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT"), ok},
		"kube-proxy masquerades all":    {forward("DROP", proxyForward+established+"; iptables -t nat -N KUBE-MARK-MASQ; iptables -t nat -N KUBE-SVC-A; iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000; iptables -t nat -A KUBE-SVC-A -d 10.32.0.7/32 -p tcp -j KUBE-MARK-MASQ"), verdict{"directly dropped by the policy of FORWARD, in PLACE, as a Service depends on rule 2 of KUBE-FORWARD, in PLACE", "accepted"}},
		"kube-proxy masquerades others": {forward("DROP", proxyForward+established+"; iptables -t nat -N KUBE-MARK-MASQ; iptables -t nat -N KUBE-SVC-A; iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000; iptables -t nat -A KUBE-SVC-A ! -s 10.200.0.0/16 -d 10.32.0.7/32 -p tcp -j KUBE-MARK-MASQ"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"a mark of others":              {forward("DROP", "iptables -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT"), verdict{"depends on rule 1 of FORWARD, in PLACE", "accepted"}},
		"only the first packet":         {forward("DROP", "iptables -A FORWARD -m conntrack --ctstate NEW -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
		"ICMP only":                     {forward("DROP", "iptables -A FORWARD -p icmp -j ACCEPT"), verdict{"dropped by the policy of FORWARD, in PLACE", "accepted"}},
	} {
		for _, backend := range []string{"nft", "legacy"} {
			for _, v6 := range []bool{false, true} {
				script, want, family, place := by(backend, tt.script), tt.want, "ip", "iptables"
				if v6 {
					script = strings.NewReplacer("iptables", "ip6tables", "10.200.0.0/16", "fd00:2::/48", "10.201.0.0/16", "fd01::/16", "10.200.2.41/32", "fd00:2::41", "10.200.2.51/32", "fd00:2::51", "172.17.0.2/32", "fd17::2",
						"10.200.2.9/32", "fd00:2::9", "10.32.0.7/32", "fd00:32::7", "-p icmp", "-p icmpv6").Replace(script)
					want, family, place = verdict{want.v6, want.v4}, "ip6", "ip6tables"
				}
				where := "the table " + family + " filter of nf_tables"
				if backend == "legacy" {
					where = "the table filter of " + place + "-legacy"
				}
				t.Run(fmt.Sprintf("%s/%s/%s", name, backend, family), func(t *testing.T) {
					t.Parallel()
					ns := lab.NewNamespace(t)
					shell(t, ns, script)
					wanted := strings.NewReplacer("PLACE", where, "RAW", strings.Replace(where, "filter", "raw", 1), "MANGLE", strings.Replace(where, "filter", "mangle", 1)).Replace(want.v4 + "; " + want.v6)
					if got := fates(t, ns); got != wanted {
						t.Errorf("got  %s\nwant %s", got, wanted)
					}
				})
			}
		}
	}
}

func TestPassagesOfNFT(t *testing.T) {
	chain := func(family, rules string) string {
		return "nft -f - <<-'END'\n table " + family + " t { \n chain c { type filter hook forward priority 10; policy drop;\n" + rules + "\n}; }\nEND"
	}
	const policy = "dropped by the policy of c, in the table inet t of nf_tables"
	both := func(s string) string { return s + "; " + s }
	for name, tt := range map[string]struct{ script, want string }{
		"inet, drops":                   {chain("inet", ""), both(policy)},
		"ip6, drops":                    {chain("ip6", ""), "accepted; dropped by the policy of c, in the table ip6 t of nf_tables"},
		"bridge, drops":                 {chain("bridge", ""), both("dropped by the policy of c, in the table bridge t of nf_tables")},
		"bridge, accepts IP":            {chain("bridge", "ether type { ip, ip6 } accept"), both("accepted")},
		"bridge, by its port":           {chain("bridge", `iifname "cni0" accept`), both("dropped by the policy of c, in the table bridge t of nf_tables")},
		"bridge, by a port":             {chain("bridge", `iifname "veth*" oifname "veth1" accept`), both("accepted")},
		"the bridge's name":             {chain("inet", `iifname "cni0" accept`), both("accepted")},
		"names in a set":                {chain("inet", `iifname { "cni0", "docker0" } accept`), both("accepted")},
		"not in a set":                  {chain("inet", `iifname != { "cni0", "docker0" } accept`), both(policy)},
		"names with a star":             {chain("inet", `oifname "cni*" accept`), both("accepted")},
		"states in a set":               {chain("inet", `ct state { established, related } accept`), both(policy)},
		"states together":               {chain("inet", "ct state established,related accept\niifname \"cni0\" ct state new accept"), both("accepted")},
		"states in a map":               {chain("inet", `ct state vmap { established : accept, new : accept, invalid : drop }`), both("accepted")},
		"a map that drops":              {chain("inet", `ct state vmap { established : accept, new : drop }`), both("dropped by rule 1 of c, in the table inet t of nf_tables")},
		"addresses side by side":        {chain("inet", "ip saddr . ip daddr { 10.200.2.41 . 10.200.2.51, 10.200.2.51 . 10.200.2.41 } accept\nmeta nfproto ipv6 accept"), both("accepted")},
		"other addresses together":      {chain("inet", "ip saddr . ip daddr { 10.200.2.41 . 10.200.2.52 } accept\nmeta nfproto ipv6 accept"), policy + "; accepted"},
		"a source in a net":             {chain("inet", "ip saddr 10.0.0.0/8 accept"), "accepted; " + policy},
		"a destination in a net":        {chain("inet", "ip6 daddr fd00:2::/64 accept"), policy + "; accepted"},
		"a destination of others":       {chain("inet", "ip6 daddr fd00:3::/64 accept"), both(policy)},
		"a set of nets":                 {chain("inet", "ip saddr { 10.0.0.0/8, 192.168.0.0/16 } accept\nmeta nfproto ipv6 accept"), both("accepted")},
		"a set of other nets":           {chain("inet", "ip saddr { 10.0.0.0/24, 10.200.2.42-10.200.2.50, 192.168.0.0/16 } accept\nmeta nfproto ipv6 accept"), policy + "; accepted"},
		"a set of all but one":          {chain("inet", "ip saddr != { 10.200.0.0/16 } accept\nip6 saddr { fd00:2::40-fd00:2::52 } accept"), policy + "; accepted"},
		"nets side by side":             {chain("inet", "ip saddr . ip daddr { 10.200.2.0/24 . 10.200.2.40-10.200.2.60 } accept\nip6 saddr . ip6 daddr { fd00:2::/64 . fd00:3::/64 } accept"), "accepted; " + policy},
		"the rest of a map":             {chain("inet", `iifname vmap { "eth0" : drop, * : accept }`), both("accepted")},
		"not the rest of a map":         {chain("inet", `iifname vmap { "cni0" : drop, * : accept }`), both("dropped by rule 1 of c, in the table inet t of nf_tables")},
		"a port":                        {chain("inet", "tcp dport { 80, 443 } accept\nct state established accept"), both("UDP and TCP but for the ports 80 and 443 " + policy)},
		"a range of ports":              {chain("inet", "th dport 1-1023 drop\naccept"), both("TCP for the ports 1-1023 and UDP for the ports 1-1023 dropped by rule 1 of c, in the table inet t of nf_tables")},
		"a mark that is set":            {chain("inet", "meta mark set mark and 0xfff0ffff or 0x10000\nmark and 0x10000 == 0x10000 accept"), both("accepted")},
		"a mark before":                 {"nft 'table inet p { chain c { type filter hook prerouting priority -150; iifname \"cni0\" meta mark set 0x7; }; }'\n" + chain("inet", "meta mark 0x7 accept"), both("accepted")},
		"a map that sets nothing":       {chain("inet", "meta mark set ip daddr map { 10.0.0.1 : 1 }\naccept"), both("accepted")},
		"what a rule puts there":        {"nft -f - <<-'END'\ntable ip t { set s { type ipv4_addr; flags dynamic; }\n chain c { type filter hook forward priority 10; policy drop; ip saddr @s accept; }; }\nEND", "depends on rule 1 of c, in the table ip t of nf_tables; accepted"},
		"by the kind of device":         {chain("inet", `meta iifkind "bridge" accept`), both("accepted")},
		"an address of the host's":      {chain("inet", "fib daddr type local drop\naccept"), both("accepted")},
		"what is for another's address": {"nft 'table inet p { chain c { type filter hook prerouting priority -300; ip daddr { 172.17.0.2, 172.17.0.3 } iifname != docker0 drop; ip6 daddr fd17::2 drop; }; }'", both("accepted")},
		"a prerouting that drops":       {"nft 'table inet p { chain c { type filter hook prerouting priority -150; policy drop; }; }'", both("accepted, beside dropped by the policy of c, in the table inet p of nf_tables")},
		"a postrouting that drops":      {"nft 'table inet p { chain c { type filter hook postrouting priority 0; oifname \"cni0\" drop; }; }'", both("accepted, beside dropped by rule 1 of c, in the table inet p of nf_tables")},
		"all frames, before":            {"nft 'table bridge p { chain c { type filter hook prerouting priority -300; policy drop; }; }'", both("accepted, beside dropped by the policy of c, in the table bridge p of nf_tables")},
		"a port's ingress": {
			"ip link add veth1 type veth peer name x1; ip link add veth9 type veth peer name x9\n" +
				"nft 'table netdev n { chain c { type filter hook ingress device veth1 priority 0; policy drop; }; chain d { type filter hook ingress device veth9 priority 0; policy drop; }; }'",
			both("accepted, beside dropped by the policy of c, in the table netdev n of nf_tables"),
		},
		"the ingress of another": {"ip link add veth9 type veth peer name x9\nnft 'table netdev n { chain d { type filter hook ingress device veth9 priority 0; policy drop; }; }'", both("accepted")},
		"firewalld rejects":      {chain("inet", "ct state established,related accept\nct status dnat accept\niifname \"lo\" accept\nct state invalid drop\nreject with icmpx admin-prohibited"), both("directly dropped by rule 5 of c, in the table inet t of nf_tables, as a Service accepted")},
		"kube-proxy in mode nftables": {`nft -f - <<-'END'
			table ip kube-proxy {
				map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
				chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
				chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump service-endpoints-check; }
			}
			END`, both("accepted")},
		"two chains": {chain("inet", "accept") + "\niptables-legacy -P FORWARD DROP", "dropped by the policy of FORWARD, in the table filter of iptables-legacy; accepted"},
		"mangle":     {"iptables-legacy -t mangle -A FORWARD -j DROP", "dropped by rule 1 of FORWARD, in the table mangle of iptables-legacy; accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			if got := fates(t, ns); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestPassagesMakeNothing: where there are no tables, there are none after it.
func TestPassagesMakeNothing(t *testing.T) {
	ns := lab.NewNamespace(t)
	if got := fates(t, ns); got != "accepted; accepted" {
		t.Error(got)
	}
	for _, program := range []string{"nft list ruleset", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names"} {
		if out := ns.Run(t, "sh", "-c", "PATH=$PATH:/usr/sbin "+program); out != "" {
			t.Errorf("%s: %s", program, out)
		}
	}
}

// TestPassagesAreBounded: more rules than are read, sets with more elements, and a
// time that is over, are no answer.
func TestPassagesAreBounded(t *testing.T) {
	for name, tt := range map[string]struct{ script, want string }{
		"nft": {
			fmt.Sprintf(`{ echo 'table inet t { chain c { type filter hook forward priority 0; policy drop; }; }'; for i in $(seq %d); do echo add rule inet t c counter; done; } | nft -f -`, maxRules+1),
			"depends on c: it has more than 10000 rules, in the table inet t of nf_tables; depends on c: it has more than 10000 rules, in the table inet t of nf_tables",
		},
		"legacy": {
			fmt.Sprintf(`{ echo '*filter'; for i in $(seq %d); do echo -A FORWARD -s 10.0.0.1/32 -j DROP; done; echo COMMIT; } | iptables-legacy-restore`, maxRules+1),
			"depends on more rules than are read, in the table filter of iptables-legacy; accepted",
		},
		"a set": {
			fmt.Sprintf(`nft -f - <<-END
			table ip t { set s { type ipv4_addr; elements = { $(for i in $(seq %d); do echo "10.9.$((i / 250)).$((i %% 250)),"; done) }; }
			chain c { type filter hook forward priority 0; policy drop; ip saddr @s accept; }; }
			END`, maxElements+1),
			"dropped by the policy of c, in the table ip t of nf_tables; accepted",
		},
		"a set of nets": {
			fmt.Sprintf(`nft -f - <<-END
			table ip t { set s { type ipv4_addr; flags interval; elements = { $(for i in $(seq %d); do echo "10.$((i / 250)).$((i %% 250)).0/25,"; done) }; }
			chain c { type filter hook forward priority 0; policy drop; ip saddr @s accept; }; }
			END`, maxElements+1),
			"depends on rule 1 of c, in the table ip t of nf_tables; accepted",
		},
		"a set that has them": {
			fmt.Sprintf(`nft -f - <<-END
			table ip t { set s { type ipv4_addr; elements = { 10.200.2.41, 10.200.2.51, $(for i in $(seq %d); do echo "10.9.$((i / 250)).$((i %% 250)),"; done) }; }
			chain c { type filter hook forward priority 0; policy drop; ip saddr @s accept; }; }
			END`, maxElements+1),
			"accepted; accepted",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			if got := fates(t, ns); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var cancelled, refused error
	ns.Do(func() { // on a thread of its own, for good
		routes := []Route{{Bridge: "cni0"}}
		_, cancelled = Passages(ctx, routes)
		dropNetAdmin(t)
		_, refused = Passages(t.Context(), routes)
	})
	if !errors.Is(cancelled, context.Canceled) || !errors.Is(refused, unix.EPERM) {
		t.Errorf("cancelled: %v; without the capability: %v", cancelled, refused)
	}
}
