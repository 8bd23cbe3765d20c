package netns_test

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

type need struct{ Bridge, Family, Need, State, Have, Reason, Next string }

// needsView is what check, apply and probe tell of what Services need.
type needsView struct {
	Summary string                            `json:"summary"`
	Meaning string                            `json:"meaning"`
	Needs   []need                            `json:"needs"`
	Ahead   []struct{ Sentence, Next string } `json:"ahead"`
	Probe   *probeView                        `json:"probe"`
}

// unmet are the needs of a state: "IPv4 forwarding".
func (v *needsView) unmet(state string) (list []string) {
	for _, n := range v.Needs {
		if n.State == state {
			list = append(list, n.Family+" "+n.Need)
		}
	}
	return list
}

// needs runs a command that prints JSON, and returns its exit code.
func (n *node) needs(args ...string) (v needsView, exit int) {
	n.t.Helper()
	out, err := n.nfguard(append(args, "-o", "json")...).Output()
	if jsonErr := json.Unmarshal(out, &v); jsonErr != nil {
		n.t.Fatalf("%v: %v, %v\n%s", args, err, jsonErr, out)
	}
	return v, code(err)
}

func (n *node) sh(script string) {
	n.t.Helper()
	n.Run(n.t, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin\n"+script)
}

// ruled are the rules that say that there is a kube-proxy, of both families.
const ruled = `
	for t in iptables-nft ip6tables-nft; do $t -t nat -N KUBE-SERVICES; $t -t nat -A KUBE-SERVICES -j RETURN; done`

// dropping is a policy of DROP, and what kube-proxy has in FORWARD.
func dropping(tables string) string {
	return strings.ReplaceAll(`
	TABLES -P FORWARD DROP; TABLES -N KUBE-FORWARD; TABLES -A FORWARD -j KUBE-FORWARD
	TABLES -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
	TABLES -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
	TABLES -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	`, "TABLES", tables)
}

// TestNeeds has packets sent in each situation, and check say what became of them.
func TestNeeds(t *testing.T) {
	const all = "IPv4 IPv6"
	for _, tt := range []struct {
		name    string
		script  string
		pods    string // the families in which pods reach each other by their own addresses
		service string // and by a Service
		missing []string
		unknown []string
	}{
		{"all is there", "", all, all, nil, nil},
		{"ip_forward is 0", "sysctl -qw net.ipv4.ip_forward=0", all, "IPv6", []string{"IPv4 forwarding"}, nil},
		{"the bridge does not forward", "sysctl -qw net.ipv4.conf.cni0.forwarding=0", all, "IPv6", []string{"IPv4 forwarding"}, nil},
		{"ip_forward is 0, the bridge forwards", "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.cni0.forwarding=1", all, all, nil, nil},
		{"IPv6 is not forwarded", "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.cni0.forwarding=0", all, all, nil, nil},
		{"IPv6 is off on the bridge", "sysctl -qw net.ipv6.conf.cni0.disable_ipv6=1", all, "IPv4", nil, nil},
		{"the bridge has no address", "ip addr flush dev cni0", all, "", []string{"IPv4 route", "IPv6 route"}, nil},
		{"the bridge has another network's address", "ip addr del 10.200.2.1/24 dev cni0; ip addr add 10.99.0.1/24 dev cni0", all, "IPv6", []string{"IPv4 route"}, nil},
		{"the bridge has no address, but a route", "ip addr del 10.200.2.1/24 dev cni0; ip route add 10.200.2.0/24 dev cni0", all, all, nil, nil},
		{
			"the way to a pod is elsewhere", "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; ip route add 10.200.2.32/32 dev up0",
			all, "IPv6",
			[]string{"IPv4 route"},
			nil,
		},
		{
			"rp_filter is strict, the way to the client elsewhere", `ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
			ip route add 10.200.2.31/32 dev up0
			sysctl -qw net.ipv4.conf.all.rp_filter=1`, all, "IPv6", []string{"IPv4 route", "IPv4 rp_filter"}, nil,
		},
		{"rp_filter is strict, all is symmetric", "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.cni0.rp_filter=1", all, all, nil, nil},
		{"DROP, iptables-nft", dropping("iptables-nft"), "IPv6", "IPv6", []string{"IPv4 FORWARD"}, nil},
		{"DROP, iptables-legacy", dropping("iptables-legacy"), "IPv6", "IPv6", []string{"IPv4 FORWARD"}, nil},
		{"DROP, ip6tables-nft", dropping("ip6tables-nft"), "IPv4", "IPv4", []string{"IPv6 FORWARD"}, nil},
		{"DROP, ip6tables-legacy", dropping("ip6tables-legacy"), "IPv4", "IPv4", []string{"IPv6 FORWARD"}, nil},
		{"DROP, flannel accepts, nft", dropping("iptables-nft") + "iptables-nft -N FLANNEL-FWD; iptables-nft -A FORWARD -j FLANNEL-FWD; iptables-nft -A FLANNEL-FWD -s 10.200.0.0/16 -j ACCEPT", all, all, nil, nil},
		{"DROP, the plugin firewall accepts, legacy", dropping("iptables-legacy") + `for p in 31 32; do
			iptables-legacy -A FORWARD -d 10.200.2.$p/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			iptables-legacy -A FORWARD -s 10.200.2.$p/32 -j ACCEPT; done`, all, all, nil, nil},
		{"a rule of firewalld's kind", `nft 'table inet f { chain c { type filter hook forward priority 10;
			ct state { established, related } accept; iifname "lo" accept; reject with icmpx admin-prohibited; }; }'`, "", "", []string{"IPv4 FORWARD", "IPv6 FORWARD"}, nil},
		{"nft drops", "nft 'table inet f { chain c { type filter hook forward priority 10; policy drop; }; }'", "", "", []string{"IPv4 FORWARD", "IPv6 FORWARD"}, nil},
		{"nft drops IPv6", "nft 'table ip6 f { chain c { type filter hook forward priority 10; policy drop; }; }'", "IPv4", "IPv4", []string{"IPv6 FORWARD"}, nil},
		{"nft drops what bridges forward", "nft 'table bridge f { chain c { type filter hook forward priority 10; policy drop; ether type arp accept; }; }'", "", "", []string{"IPv4 FORWARD", "IPv6 FORWARD"}, nil},
		{"nft accepts by device", `nft 'table inet f { chain c { type filter hook forward priority 10; policy drop; iifname "cni*" accept; }; }'`, all, all, nil, nil},
		{"a rule drops, legacy", "ip6tables-legacy -A FORWARD -i cni0 -j DROP", "IPv4", "IPv4", []string{"IPv6 FORWARD"}, nil},
		{"it depends", "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -m length --length 0:65535 -j ACCEPT", all, all, nil, []string{"IPv4 FORWARD"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "[persist]\nenabled = false\n")
			client := n.pods()
			n.sh(ruled)
			n.set("1", "1", "1")
			n.sh(tt.script)
			reached := func(what func(i int) netip.Addr) string {
				var families []string
				for i, family := range []string{"IPv4", "IPv6"} {
					var err error
					client.Do(func() { err = dial(netip.AddrPortFrom(what(i), 53)) })
					if err == nil {
						families = append(families, family)
					}
				}
				return strings.Join(families, " ")
			}
			gotPods := reached(func(i int) netip.Addr { return netip.MustParseAddr(endpoints[i]) })
			gotService := reached(func(i int) netip.Addr { return services[i] })
			if gotPods != tt.pods || gotService != tt.service {
				t.Fatalf("the situation is not as thought: pods reach each other by %q, want %q; Services by %q, want %q", gotPods, tt.pods, gotService, tt.service)
			}
			v, exit := n.needs("check")
			if diff := cmp.Diff(tt.missing, v.unmet("missing")); diff != "" {
				t.Errorf("missing (-want +got):\n%s\n%+v", diff, v.Needs)
			}
			if diff := cmp.Diff(tt.unknown, v.unmet("unknown")); diff != "" {
				t.Errorf("unknown (-want +got):\n%s\n%+v", diff, v.Needs)
			}
			// What iptables itself prints of the rule that decides.
			for rule, text := range map[string]string{"a rule drops, legacy": ": -A FORWARD -i cni0 -j DROP", "it depends": ": -A FORWARD -m length --length 0:65535 -j ACCEPT"} {
				has := slices.ContainsFunc(v.Needs, func(n need) bool { return strings.HasSuffix(n.Have, text) })
				if has != (tt.name == rule) {
					t.Errorf("%q: %t in %+v", text, has, v.Needs)
				}
			}
			wantExit := 0
			if len(tt.missing) > 0 {
				wantExit = 1
			}
			if exit != wantExit || strings.Contains(v.Meaning, "pods on cni0 reach") || (len(tt.missing) > 0) != strings.Contains(v.Meaning, "will not reach") {
				t.Errorf("check exits %d: %s", exit, v.Meaning)
			}
			// Of what is known to keep packets from Services, no probe says that it works.
			p, exit := n.probe()
			if works := p.Verdict == "works"; works != (len(tt.missing) == 0) || works != (exit == 0) {
				t.Errorf("probe exits %d: %s: %s", exit, p.Verdict, p.Meaning)
			}
			if len(tt.unknown) > 0 && !strings.Contains(p.Meaning, "the world of the probe routes and filters nothing itself: on cni0, FORWARD: cannot tell") {
				t.Errorf("probe says %s", p.Meaning)
			}
		})
	}
}

// TestAhead: before packets are handed over it is said who will be cut off, by
// check, by apply before it acts, and by the daemon's first pass; and they proceed.
func TestAhead(t *testing.T) {
	for _, backend := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, "[persist]\nenabled = false\n")
			client := n.pods()
			n.sh(ruled + dropping(backend))
			reach := func() (err error) {
				client.Do(func() { err = dial(netip.AddrPortFrom(netip.MustParseAddr(endpoints[0]), 53)) })
				return err
			}
			if err := reach(); err != nil {
				t.Fatalf("at 0 pods do not reach each other: %v", err)
			}
			const sentence = "with net.bridge.bridge-nf-call-iptables = 1, pods on cni0 do not reach each other over IPv4: FORWARD drops what they send (the policy of FORWARD, in the table "
			for _, args := range [][]string{{"check"}, {"apply", "--dry-run"}} {
				if v, exit := n.needs(args...); exit != 1 || len(v.Ahead) != 1 || !strings.HasPrefix(v.Ahead[0].Sentence, sentence) ||
					!strings.HasPrefix(v.Ahead[0].Next, "iptables"+strings.TrimPrefix(strings.TrimPrefix(backend, "iptables"), "-nft")+" -I FORWARD -i cni0 -o cni0 -j ACCEPT") {
					t.Errorf("%v exits %d: %+v", args, exit, v.Ahead)
				}
			}
			would, err := n.nfguard("apply", "--dry-run").Output()
			if !strings.HasPrefix(string(would), "ahead    "+sentence) || strings.Count(string(would), sentence) != 1 || !strings.Contains(string(would), "\nwould set net.bridge.bridge-nf-call-iptables: 0 → 1\n") {
				t.Errorf("apply --dry-run: %v\n%s", err, would)
			}
			out, err := n.nfguard("apply").Output()
			said, set := strings.Index(string(out), "ahead    "+sentence), strings.Index(string(out), "set net.bridge.bridge-nf-call-iptables: 0 → 1")
			if err != nil || said < 0 || set < said {
				t.Errorf("apply: %v\n%s", err, out)
			}
			if err := reach(); err == nil || n.values() != "1 1 1" {
				t.Errorf("after apply the keys are %s, and pods reach each other: %v", n.values(), err)
			}
			n.set("0", "0", "0")
			n.start()
			n.awaitReady()
			n.stop()
			n.mu.Lock()
			defer n.mu.Unlock()
			before := slices.IndexFunc(n.records, func(r map[string]string) bool { return strings.HasPrefix(r["MESSAGE"], sentence) })
			after := slices.IndexFunc(n.records, func(r map[string]string) bool { return r["NFGUARD_SUBJECT"] == "net.bridge.bridge-nf-call-iptables" })
			if before < 0 || after < before {
				t.Errorf("recorded at %d and %d: %v", before, after, n.records)
			}
		})
	}
}

// TestNeedsMakeNothing: what check looks at is there after it as it was before,
// and no table or module came into being.
func TestNeedsMakeNothing(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "[persist]\nenabled = false\n")
	n.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	pod := lab.NewNamespace(t)
	n.Run(t, "ip", "link", "add", "veth1", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	state := func() string {
		out, err := n.Command("sh", "-c", "PATH=$PATH:/usr/sbin; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names /proc/modules; nft list ruleset; ip rule; ip -6 rule; ip route show table all | grep -v fe80; sysctl -a 2>/dev/null | grep -v 'random\\|^fs\\|nr_\\|dentry'|grep ^net.bridge").CombinedOutput()
		if err != nil {
			var exit *exec.ExitError
			t.Logf("%v %v", err, exit)
		}
		return string(out)
	}
	before := state()
	n.needs("check")
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// TestForeignProxy: rules of another proxy fail as kube-proxy's do.
func TestForeignProxy(t *testing.T) {
	n := newNode(t, "[persist]\nenabled = false\n")
	client := n.pods() // whose Service is in no chain of kube-proxy
	const others = "there are no rules of a kube-proxy, destinations are translated by the table ip nat of nf_tables and the table ip6 nat of nf_tables"
	for _, tt := range []struct {
		key   string
		fails bool
		want  string
	}{
		{"0", true, "pods on cni0 will not reach Services with an endpoint on this node: their packets are not handed to netfilter; " + others},
		{"1", false, "the packets of pods on cni0 are handed to netfilter, and nothing that was looked at keeps them from Services with an endpoint on this node; " + others},
	} {
		n.set(tt.key, tt.key, tt.key)
		var err error
		client.Do(func() { err = dial(netip.AddrPortFrom(services[0], 53)) })
		if (err != nil) != tt.fails {
			t.Fatalf("at %s: %v", tt.key, err)
		}
		if v, _ := n.needs("check"); v.Meaning != tt.want {
			t.Errorf("at %s check says %s", tt.key, v.Meaning)
		}
	}
}

// TestVirtualMachines: what FORWARD does to them is read, before and after.
func TestVirtualMachines(t *testing.T) {
	n := newNode(t, "[persist]\nenabled = false\n")
	n.taps()
	n.sh("iptables-nft -P FORWARD DROP")
	v, _ := n.needs("check")
	const ahead = "with net.bridge.bridge-nf-call-iptables = 1, virtual machines on virbr0 do not reach each other over IPv4: " +
		"FORWARD drops what they send (the policy of FORWARD, in the table ip filter of nf_tables)"
	if len(v.Ahead) != 1 || v.Ahead[0].Sentence != ahead {
		t.Errorf("ahead: %+v", v.Ahead)
	}
	n.set("1", "1", "1")
	const now = "virbr0 carries virtual machines, and their frames pass through iptables, ip6tables and arptables: " +
		"FORWARD drops what nothing accepts: the policy of FORWARD, in the table ip filter of nf_tables (IPv4); FORWARD accepts (IPv6); fragments are put together"
	if v := n.check(); !slices.ContainsFunc(v.Findings, func(f struct {
		Subject  string `json:"subject"`
		Sentence string `json:"sentence"`
		Next     string `json:"next"`
	},
	) bool {
		return f.Sentence == now
	}) {
		t.Errorf("findings: %+v", v.Findings)
	}
}

// TestOffer: config show offers what would guard that which is off, and reads as
// configuration.
func TestOffer(t *testing.T) {
	n := newNode(t, "[persist]\nenabled = false\n")
	n.pods()
	n.sh(ruled)
	n.set("1", "1", "1")
	show := func() string {
		out, err := n.nfguard("config", "show").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if out := show(); strings.Contains(out, "ip_forward") {
		t.Errorf("all is on, and it offers\n%s", out)
	}
	n.sh("sysctl -qw net.ipv4.ip_forward=0")
	out := show()
	if !strings.Contains(out, "\n# [sysctl]\n# \"net.ipv4.ip_forward\" = 1  # cni0, IPv4: off\n") {
		t.Errorf("ip_forward is 0, and it offers\n%s", out)
	}
	n.write("nfguard.toml", out)
	if again := show(); !strings.Contains(again, "ip_forward") {
		t.Errorf("read back:\n%s", again)
	}
}

// TestReadOnlySysctls: where /proc/sys is read-only, as in a container, probe says
// that it is that, and check --probe has it as something that could not be told.
func TestReadOnlySysctls(t *testing.T) {
	n := newNode(t, "[persist]\nenabled = false\n")
	n.pods()
	n.sh(ruled)
	n.set("1", "1", "1")
	run := func(args ...string) (string, int) {
		cmd := n.nfguard(args...)
		cmd.Args = append([]string{"unshare", "-m", "sh", "-c", `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		unshare, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = unshare
		out, err := cmd.CombinedOutput()
		return string(out), code(err)
	}
	const why = "/proc/sys is read-only here, as in a container, and what packets are sent through needs settings of its own"
	const next = "run it on the host; from here nfguard check looks without sending anything"
	for _, tt := range []struct {
		args []string
		says []string
		exit int
	}{
		{[]string{"probe"}, []string{"nfguard: error: " + why, "nfguard: hint: " + next}, 2},
		{[]string{"check", "--probe"}, []string{"unknown  " + why, next}, 2},
		{[]string{"check"}, []string{"nothing that was looked at keeps them from Services"}, 0},
	} {
		out, exit := run(tt.args...)
		for _, says := range tt.says {
			if !strings.Contains(out, says) {
				t.Errorf("%v does not say %q:\n%s", tt.args, says, out)
			}
		}
		if exit != tt.exit {
			t.Errorf("%v exits %d, want %d", tt.args, exit, tt.exit)
		}
	}
}

// TestOwnServiceNamesTheCause: a pod does not reach itself either where no Service
// answers, and that comes before hairpin mode.
func TestOwnServiceNamesTheCause(t *testing.T) {
	n := newNode(t, "[persist]\nenabled = false\n")
	n.pods()
	n.sh(`nat() { iptables-nft -t nat "$@"; }
		for c in KUBE-SERVICES KUBE-SVC-A KUBE-SEP-A; do nat -N $c; done; nat -I PREROUTING -j KUBE-SERVICES
		nat -A KUBE-SERVICES -d 10.32.0.10/32 -p tcp -m comment --comment "kube-system/dns:tcp cluster IP" -m tcp --dport 53 -j KUBE-SVC-A
		nat -A KUBE-SVC-A -m comment --comment "kube-system/dns:tcp" -j KUBE-SEP-A
		nat -A KUBE-SEP-A -p tcp -m comment --comment "kube-system/dns:tcp" -m tcp -j DNAT --to-destination 10.200.2.32:53`)
	n.set("1", "1", "1")
	n.sh("sysctl -qw net.ipv4.ip_forward=0")
	for _, args := range [][]string{{"probe"}, {"probe", "--bridge", "cni0", "--yes"}} {
		out, err := n.nfguard(args...).CombinedOutput()
		if code(err) == 0 || !strings.Contains(string(out), "does not reach itself") || !strings.Contains(string(out), "): net.ipv4.ip_forward is 0\n") ||
			strings.Contains(string(out), "nfguard trace shows where the packets of a pod of such a Service are lost") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// A rule for one pod, as of a NetworkPolicy that isolates it, says nothing about the
// others of its bridge: it is not said of them that they do not reach each other.
func TestOneOfThreePodsIsIsolated(t *testing.T) {
	t.Parallel()
	n := newNode(t, "[persist]\nenabled = false\n")
	n.pods()
	third := lab.NewNamespace(t)
	n.sh(ruled + "\nip link add veth33 up master cni0 type veth peer name eth0 netns " + third.Path())
	third.Run(t, "sh", "-ec", "ip addr add 10.200.2.33/24 dev eth0; ip link set eth0 up")
	n.set("1", "1", "1")
	told := make(map[string]bool)
	for _, isolated := range []string{"10.200.2.31", "10.200.2.32", "10.200.2.33"} {
		rule := "-d " + isolated + "/32 -j REJECT"
		n.sh("iptables-nft -A FORWARD " + rule)
		v, exit := n.needs("check")
		if got := v.unmet("missing"); got != nil || exit != 0 || len(v.Ahead) > 0 || strings.Contains(v.Meaning, "will not reach") {
			t.Errorf("%s is isolated: missing is %q, exit %d, %q, ahead %+v", isolated, got, exit, v.Meaning, v.Ahead)
		}
		told[strings.Join(v.unmet("unknown"), ", ")] = true
		n.sh("iptables-nft -D FORWARD " + rule)
	}
	// Of the two that are asked about, it is known.
	if diff := cmp.Diff(map[string]bool{"": true, "IPv4 FORWARD": true}, told); diff != "" {
		t.Errorf("unknown (-want +got):\n%s", diff)
	}
	n.sh("iptables-nft -P FORWARD DROP")
	if v, exit := n.needs("check"); !slices.Equal(v.unmet("missing"), []string{"IPv4 FORWARD"}) || exit != 1 {
		t.Errorf("all are cut off: missing is %q, exit %d", v.unmet("missing"), exit)
	}
}
