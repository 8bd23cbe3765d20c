package netfilter

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// look is what one Look says, in words.
func look(t testing.TB, ns *lab.Namespace, l *Look) []string {
	t.Helper()
	var rules []Rules
	var err error
	ns.Do(func() { rules, err = l.KubeProxy(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, r := range rules {
		words = append(words, r.String())
	}
	return words
}

func shell(t testing.TB, ns *lab.Namespace, script string) {
	t.Helper()
	ns.Run(t, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin\n"+script)
}

// each is script for both families of iptables with a backend.
func each(backend, script string) string {
	return strings.ReplaceAll(script, "iptables", "iptables-"+backend) + "\n" +
		strings.ReplaceAll(script, "iptables", "ip6tables-"+backend)
}

const (
	chain   = "iptables -t nat -N KUBE-SERVICES\n"
	rule    = "iptables -t nat -A KUBE-SERVICES -j RETURN\n"
	wired   = "iptables -t nat -A PREROUTING -j KUBE-SERVICES\n"
	flushed = chain + rule + wired + "iptables -t nat -F\n"
	// What the kubelet makes, the older ones more than the newer.
	kubelet = `
		iptables -t mangle -N KUBE-KUBELET-CANARY; iptables -t nat -N KUBE-KUBELET-CANARY
		iptables -t mangle -N KUBE-IPTABLES-HINT; iptables -t mangle -N KUBE-PROXY-CANARY
		iptables -N KUBE-FIREWALL; iptables -A INPUT -j KUBE-FIREWALL; iptables -A KUBE-FIREWALL -j RETURN
		iptables -t nat -N KUBE-MARK-DROP; iptables -t nat -A KUBE-MARK-DROP -j MARK --or-mark 0x8000
		iptables -t nat -N KUBE-MARK-MASQ; iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
		iptables -t nat -N KUBE-POSTROUTING; iptables -t nat -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
		iptables -t nat -A KUBE-POSTROUTING -j MASQUERADE`
	others = `
		iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -j DOCKER; iptables -t nat -A DOCKER -j RETURN
		iptables -N KUBE-SERVICES; iptables -A INPUT -j KUBE-SERVICES; iptables -A KUBE-SERVICES -j RETURN
		iptables -t nat -N KUBE-SERVICES-X; iptables -t nat -A KUBE-SERVICES-X -j RETURN
		iptables -t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA; iptables -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -j RETURN`
)

func TestKubeProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   []string
	}{
		"nothing":                     {},
		"the chain holds a rule, nft": {"iptables-nft -t nat -N KUBE-SERVICES; iptables-nft -t nat -A KUBE-SERVICES -j RETURN", []string{"iptables mode (nf_tables), IPv4"}},
		"IPv6 only, nft":              {"ip6tables-nft -t nat -N KUBE-SERVICES; ip6tables-nft -t nat -A KUBE-SERVICES -j RETURN", []string{"iptables mode (nf_tables), IPv6"}},
		"both families, legacy":       {each("legacy", chain+rule), []string{"iptables mode (legacy), IPv4 and IPv6"}},
		"IPv6 only, legacy":           {"ip6tables-legacy -t nat -N KUBE-SERVICES; ip6tables-legacy -t nat -A KUBE-SERVICES -j RETURN", []string{"iptables mode (legacy), IPv6"}},
		"jumped to, empty, nft":       {each("nft", chain+wired), nil},
		"jumped to, empty, legacy":    {each("legacy", chain+wired), nil},
		"the name only, nft":          {each("nft", chain), nil},
		"the name only, legacy":       {each("legacy", chain), nil},
		"flushed, nft":                {each("nft", flushed), nil},
		"flushed, legacy":             {each("legacy", flushed), nil},
		"the kubelet's, nft":          {each("nft", kubelet), nil},
		"the kubelet's, legacy":       {each("legacy", kubelet), nil},
		"others', nft":                {each("nft", others), nil},
		"others', legacy":             {each("legacy", others), nil},
		"firewalld's": {"nft add table inet firewalld; nft add chain inet firewalld services; nft add rule inet firewalld services accept\n" +
			"nft add table inet kube-proxy; nft add chain inet kube-proxy services", nil},
		"another kube-proxy's table": {"nft add table ip6 kube-proxy; nft add chain ip6 kube-proxy whatever", []string{"nftables mode, IPv6"}},
		"ipvs, nft": {
			"ip link add kube-ipvs0 type bridge\n" + each("nft", chain+rule),
			[]string{"ipvs mode (nf_tables), IPv4 and IPv6"},
		},
		"ipvs, legacy": {
			"ip link add kube-ipvs0 type bridge\niptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A KUBE-SERVICES -j RETURN",
			[]string{"ipvs mode (legacy), IPv4"},
		},
		"ipvs, the device only": {"ip link add kube-ipvs0 type bridge", []string{"ipvs mode"}},
		"all at once": {
			each("nft", chain+rule) + each("legacy", chain+rule) + "nft add table ip kube-proxy; nft add chain ip kube-proxy services",
			[]string{"iptables mode (nf_tables), IPv4 and IPv6", "nftables mode, IPv4", "iptables mode (legacy), IPv4 and IPv6"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			shell(t, ns, tt.script)
			if diff := cmp.Diff(tt.want, look(t, ns, new(Look))); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStandIn follows a kube-proxy from its start over its end to its cleanup,
// with one Look each.
func TestStandIn(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	path := standin.Build(t)
	for args, want := range map[string]string{
		"-mode=iptables -backend=nft":                 "iptables mode (nf_tables), IPv4 and IPv6",
		"-mode=iptables -backend=nft -family=ipv4":    "iptables mode (nf_tables), IPv4",
		"-mode=iptables -backend=legacy":              "iptables mode (legacy), IPv4 and IPv6",
		"-mode=iptables -backend=legacy -family=ipv6": "iptables mode (legacy), IPv6",
		"-mode=nftables":                              "nftables mode, IPv4 and IPv6",
		"-mode=nftables -family=ipv4":                 "nftables mode, IPv4",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			ns := lab.NewNamespace(t)
			args := strings.Fields(args)
			shell(t, ns, each("nft", kubelet)+each("legacy", kubelet))
			l := new(Look)
			check := func(when string, want ...string) {
				t.Helper()
				for range 2 { // the second one may remember
					if diff := cmp.Diff(want, look(t, ns, l)); diff != "" {
						t.Errorf("%s (-want +got):\n%s", when, diff)
					}
				}
			}
			check("before")
			p := standin.Start(t, ns, path, append(args, "-services=100")...)
			check("synced", want)
			p.Stop(t)
			check("ended", want)
			ns.Run(t, path, append(args, "-cleanup")...)
			check("cleaned up")
			standin.Start(t, ns, path, append(args, "-services=1")...)
			check("started again", want)
		})
	}
}

// TestResync looks while the rules are replaced without a pause, of which
// nothing may be seen.
func TestResync(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	path := standin.Build(t)
	for _, args := range []string{"-mode=iptables -backend=nft", "-mode=iptables -backend=legacy", "-mode=nftables", "-mode=nftables -services=300"} {
		t.Run(args, func(t *testing.T) {
			ns := lab.NewNamespace(t)
			standin.Start(t, ns, path, append(strings.Fields(args), "-family=ipv4", "-resync=1us")...)
			want := look(t, ns, new(Look))
			looks, missed := 0, 0
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); looks++ {
				if !cmp.Equal(want, look(t, ns, new(Look))) {
					missed++
				}
			}
			if len(want) != 1 || missed > 0 {
				t.Errorf("%d of %d looks did not find %q", missed, looks, want)
			}
		})
	}
}

// TestLookLeavesNothing looks at rules in both backends again and again, while
// they change so that nothing can be remembered.
func TestLookLeavesNothing(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, each("nft", chain+rule)+each("legacy", chain+rule))
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	look(t, ns, new(Look))
	before := count()
	for range 100 {
		look(t, ns, new(Look))
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestWithoutCapability has a look fail, and say so: "none" would be wrong.
func TestWithoutCapability(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES; ip link add kube-ipvs0 type bridge")
	var rules []Rules
	var err, subErr error
	ns.Do(func() { // on a thread of its own, for good
		dropNetAdmin(t)
		rules, err = new(Look).KubeProxy(t.Context())
		_, subErr = nfnl.Subscribe()
	})
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v, want EPERM", err)
	}
	want := "ask nf_tables for the table kube-proxy: operation not permitted\n" +
		"read the IPv4 table nat of iptables-legacy: getsockopt: operation not permitted"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if diff := cmp.Diff([]Rules{{Mode: IPVS}}, rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	want = "join group 7 of netlink protocol 12: bind: operation not permitted"
	if subErr == nil || subErr.Error() != want {
		t.Errorf("subscribe: got %v, want %s", subErr, want)
	}
}

// dropNetAdmin takes CAP_NET_ADMIN from the calling thread.
func dropNetAdmin(t *testing.T) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Error(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Error(err)
	}
}

// TestLookMakesNothing: tables that do not exist do not exist after a look.
func TestLookMakesNothing(t *testing.T) {
	ns := lab.NewNamespace(t)
	look(t, ns, new(Look))
	if out := ns.Run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("tables of nf_tables: %s", out)
	}
	if out := ns.Run(t, "cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"); out != "" {
		t.Errorf("tables of iptables-legacy: %s", out)
	}
}
