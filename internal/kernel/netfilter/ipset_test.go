package netfilter

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/test/lab"
)

// makeSet makes a set of ip_set, of networks of IPv4, as ipset(8) does.
func makeSet(t *testing.T, ns *lab.Namespace, name string, nets ...string) {
	t.Helper()
	const protocol, setName, kind, revision, family, data = 1, 2, 3, 4, 5, 7 // IPSET_ATTR_*
	const create, add = 2, 9                                                 // IPSET_CMD_*
	send := func(command uint16, in nfnl.Attrs) {
		t.Helper()
		var err error
		ns.Do(func() {
			var c *nfnl.Conn
			if c, err = nfnl.Dial(); err == nil {
				err = c.Commanded(nfnl.Request(unix.NFNL_SUBSYS_IPSET<<8|command, unix.NLM_F_ACK, unix.AF_INET, in))
				c.Close()
			}
		})
		if err != nil {
			t.Fatalf("ipset %d %s: %v", command, name, err)
		}
	}
	head := nfnl.Attrs{}.U8(protocol, 6).Text(setName, name)
	send(create, append(head, nfnl.Attrs{}.Text(kind, "hash:net").U8(revision, 0).U8(family, unix.AF_INET).Nest(data, nil)...))
	for _, n := range nets {
		p := netip.MustParsePrefix(n)
		const ip, v4, cidr = 1, 1, 3 // IPSET_ATTR_IP, IPSET_ATTR_IPADDR_IPV4, IPSET_ATTR_CIDR
		send(add, append(head, nfnl.Attrs{}.Nest(data, nfnl.Attrs{}.
			Nest(ip, nfnl.Attrs{}.Bytes(v4|unix.NLA_F_NET_BYTEORDER, p.Addr().AsSlice())).U8(cidr, uint8(p.Bits())))...))
	}
}

// TestPassagesBySets: the kernel is asked whether an address is in a set.
func TestPassagesBySets(t *testing.T) {
	const dropped = "dropped by the policy of FORWARD, in PLACE; accepted"
	for name, tt := range map[string]struct{ rule, want string }{
		"in it":                  {"-m set --match-set pods src", "accepted; accepted"},
		"in it, the destination": {"-m set --match-set pods dst", "accepted; accepted"},
		"not in it":              {"-m set --match-set others src", dropped},
		"inverted":               {"-m set ! --match-set others src", "accepted; accepted"},
		"inverted, in it":        {"-m set ! --match-set pods dst", dropped},
		"empty":                  {"-m set --match-set empty src", dropped},
	} {
		for backend, place := range map[string]string{"nft": "the table ip filter of nf_tables", "legacy": "the table filter of iptables-legacy"} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				t.Parallel()
				ns := lab.NewNamespace(t)
				makeSet(t, ns, "pods", "10.200.0.0/16")
				makeSet(t, ns, "others", "10.201.0.0/16", "10.9.0.0/24")
				makeSet(t, ns, "empty")
				shell(t, ns, by(backend, "iptables -P FORWARD DROP; iptables -A FORWARD "+tt.rule+" -j ACCEPT"))
				if got, want := fates(t, ns), strings.ReplaceAll(tt.want, "PLACE", place); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		}
	}
}
