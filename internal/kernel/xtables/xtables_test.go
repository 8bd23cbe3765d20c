package xtables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // not in the PATH that su sets
	os.Exit(m.Run())
}

var layouts = []layout{ipv4Entry, ipv6Entry}

// of returns a table of the given entries.
func of(l layout, entries []byte) *Table { return &Table{Family: Of(l == ipv6Entry), entries: entries} }

// entry returns an entry of a table: a target followed by data.
func (l layout) entry(target, data string) []byte {
	b := make([]byte, l.size+targetHeader+len(data))
	binary.NativeEndian.PutUint16(b[l.targetOffset:], uint16(l.size))
	binary.NativeEndian.PutUint16(b[l.nextOffset:], uint16(len(b)))
	copy(b[l.size+targetName:], target)
	copy(b[l.size+targetHeader:], data)
	return b
}

// testChain is a user-defined chain and the number of its entries, of which the last
// is no rule.
type testChain struct {
	name    string
	entries int
}

// table returns a table that has these chains between the built-in ones and the end.
func (l layout) table(chains ...testChain) []byte {
	b := bytes.Repeat(l.entry("", "verd"), 3)
	for _, c := range chains {
		b = append(b, l.entry(errorTarget, (c.name + strings.Repeat("\x00", 32))[:32])...)
		b = append(b, bytes.Repeat(l.entry("DNAT", "some data of a target"), c.entries)...)
	}
	return append(b, l.entry(errorTarget, (errorTarget + strings.Repeat("\x00", 32))[:32])...)
}

func TestUses(t *testing.T) {
	for name, tt := range map[string]struct {
		chains []testChain
		want   bool
	}{
		"no chains":                 {nil, false},
		"another":                   {[]testChain{{"KUBE-SVC-X", 5}}, false},
		"a longer name":             {[]testChain{{"KUBE-SERVICES-X", 5}}, false},
		"empty":                     {[]testChain{{"KUBE-SERVICES", 1}}, false},
		"empty, before one in use":  {[]testChain{{"KUBE-SERVICES", 1}, {"X", 3}}, false},
		"a rule":                    {[]testChain{{"KUBE-SERVICES", 2}}, true},
		"a rule, behind empty ones": {[]testChain{{"A", 1}, {"B", 1}, {"KUBE-SERVICES", 2}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, l := range layouts {
				got, err := of(l, l.table(tt.chains...)).Uses("KUBE-SERVICES")
				if got != tt.want || err != nil {
					t.Errorf("size %d: %t, %v; want %t", l.size, got, err, tt.want)
				}
			}
		})
	}
}

func TestUsesRefusesWhatIsNoTable(t *testing.T) {
	l := ipv4Entry
	damaged := func(offset int, value uint16) []byte {
		b := l.table()
		binary.NativeEndian.PutUint16(b[offset:], value)
		return b
	}
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"cut off":                     {l.table()[:100], "entry at 0 of 100 is cut off"},
		"cut off later":               {l.table()[:len(l.table())-1], "entry at 444 of 619 is malformed"},
		"a target inside the match":   {damaged(l.targetOffset, 8), "entry at 0 of 620 is malformed"},
		"no room for a target":        {damaged(l.nextOffset, 113), "entry at 0 of 620 is malformed"},
		"an entry without an end":     {damaged(l.nextOffset, 0), "entry at 0 of 620 is malformed"},
		"an entry behind the table":   {damaged(l.nextOffset, 60000), "entry at 0 of 620 is malformed"},
		"a target behind its entry":   {damaged(l.targetOffset, 60000), "entry at 0 of 620 is malformed"},
		"an end inside another entry": {damaged(l.nextOffset, 300), "entry at 300 of 620 is malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := of(l, tt.b).Uses("KUBE-SERVICES"); fmt.Sprint(err) != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// FuzzUses: broken bytes give at worst an error, and nothing after the first rule
// found is read.
func FuzzUses(f *testing.F) {
	for _, l := range layouts {
		chain := testChain{"KUBE-SERVICES", 2}
		f.Add(l.table(chain), l.size == ipv6Entry.size)
		f.Add(l.table(chain)[:500], l.size == ipv6Entry.size)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		l := Of(v6).layout
		used, err := of(l, b).Uses("KUBE-SERVICES")
		if used && err != nil {
			t.Errorf("a rule, and %v", err)
		}
		if again, err := of(l, append(b, 1, 2, 3)).Uses("KUBE-SERVICES"); used && (!again || err != nil) {
			t.Errorf("a rule only without what follows: %t, %v", again, err)
		}
	})
}

// TestRules reads what iptables-legacy wrote.
func TestRules(t *testing.T) {
	const rules = `*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SEP-X - [0:0]
:EMPTY - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SEP-X
-A KUBE-SERVICES -j RETURN
-A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination ENDPOINT
-A POSTROUTING -j MASQUERADE
COMMIT
`
	want := []Rule{
		{Chain: "PREROUTING", Number: 1, Comment: "kubernetes service portals", Verdict: "jump KUBE-SERVICES"},
		{Chain: "PREROUTING", Number: 2, Verdict: "accept"},
		{Chain: "INPUT", Number: 1, Verdict: "accept"},
		{Chain: "OUTPUT", Number: 1, Verdict: "accept"},
		{Chain: "POSTROUTING", Number: 1, Target: "MASQUERADE"},
		{Chain: "POSTROUTING", Number: 2, Verdict: "accept"},
		{Chain: "EMPTY", Number: 1, Verdict: "return"},
		{Chain: "KUBE-SEP-X", Number: 1, Target: "DNAT"},
		{Chain: "KUBE-SEP-X", Number: 2, Verdict: "return"},
		{Chain: "KUBE-SERVICES", Number: 1, Comment: "default/web:http cluster IP", Verdict: "jump KUBE-SEP-X"},
		{Chain: "KUBE-SERVICES", Number: 2, Verdict: "return"},
		{Chain: "KUBE-SERVICES", Number: 3, Verdict: "return"},
	}
	for name, tt := range map[string]struct {
		program, endpoint string
		ipv6              bool
	}{
		"IPv4": {"iptables-legacy-restore", "10.244.0.1:8080", false},
		"IPv6": {"ip6tables-legacy-restore", "[fd00:244::1]:8080", true},
	} {
		t.Run(name, func(t *testing.T) {
			ns := lab.NewNamespace(t)
			cmd := ns.Command(lab.Tool(t, lab.Netns, tt.program))
			cmd.Stdin = strings.NewReader(strings.Replace(rules, "ENDPOINT", tt.endpoint, 1))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", tt.program, err, out)
			}
			var got []Rule
			var err error
			ns.Do(func() {
				_, err = Of(tt.ipv6).Read(t.Context(), "nat", Info{}, func(x *Table) (err error) {
					got, err = x.Rules()
					return err
				})
			})
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Rule{}, "Revision", "Info", "Header", "Asks")); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestBuiltin: built-in chains among others, and bytes that are no table.
func TestBuiltin(t *testing.T) {
	for _, l := range layouts {
		verdict := func(v int32) []byte {
			return l.entry("", string(binary.NativeEndian.AppendUint32(nil, uint32(v))))
		}
		size := len(verdict(0))
		entries := slices.Concat(verdict(-2), verdict(-5), verdict(-2), verdict(-1), verdict(-2), l.entry(errorTarget, errorTarget))
		info := func(valid, first, last int) (i Info) {
			binary.NativeEndian.PutUint32(i[nameSize:], uint32(valid))
			binary.NativeEndian.PutUint32(i[nameSize+4*3:], uint32(first))
			binary.NativeEndian.PutUint32(i[nameSize+4*8:], uint32(last))
			return i
		}
		for name, tt := range map[string]struct {
			info    Info
			entries []byte
			policy  string
			rules   int
			err     string
		}{
			"accepts, two rules": {info(1<<2, 0, 2*size), entries, "accept", 2, ""},
			"drops, one rule":    {info(1<<2, 2*size, 3*size), entries, "drop", 1, ""},
			"accepts, none":      {info(1<<2, 4*size, 4*size), entries, "accept", 0, ""},
			"not in this table":  {info(1<<1, 0, 0), entries, "", 0, "it has no chain FORWARD"},
			"returns":            {info(1<<2, 0, size), entries, "", 0, "its chain FORWARD has no policy"},
			"between entries":    {info(1<<2, 0, size+8), entries, "", 0, "its chain FORWARD has no policy"},
			"behind the end":     {info(1<<2, 0, len(entries)), entries, "", 0, "its chain FORWARD has no policy"},
			"a target with none": {info(1<<2, 0, 5*size), entries, "", 0, "its chain FORWARD has no policy"},
			"cut off":            {info(1<<2, 0, size), entries[:size+9], "", 0, fmt.Sprintf("entry at %d of %d is cut off", size, size+9)},
		} {
			t.Run(fmt.Sprint(name, ", entries of ", l.size), func(t *testing.T) {
				table := of(l, tt.entries)
				table.info = tt.info
				policy, rules, err := table.Builtin("FORWARD")
				text := ""
				if err != nil {
					text = err.Error()
				}
				if policy != tt.policy || rules != tt.rules || text != tt.err {
					t.Errorf("%q, %d rules, %v; want %q, %d, %s", policy, rules, err, tt.policy, tt.rules, tt.err)
				}
			})
		}
	}
}

// TestNAT: the range of a target is read by the family of its table.
func TestNAT(t *testing.T) {
	info := func(flags byte, address string) []byte {
		b := make([]byte, 44) // struct nf_nat_range2
		binary.NativeEndian.PutUint32(b, uint32(flags))
		copy(b[4:], netip.MustParseAddr(address).AsSlice())
		copy(b[36:], []byte{0x1f, 0x90})
		return b
	}
	old := make([]byte, 20) // struct nf_nat_ipv4_multi_range_compat
	binary.NativeEndian.PutUint32(old[4:], 3)
	copy(old[8:], []byte{10, 0, 0, 32})
	copy(old[16:], []byte{0x1f, 0x90})
	for name, tt := range map[string]struct {
		v6       bool
		revision uint8
		info     []byte
		address  string
		port     uint16
	}{
		"both":                       {false, 2, info(3, "10.0.0.32"), "10.0.0.32", 8080},
		"an address":                 {false, 1, info(1, "10.0.0.32"), "10.0.0.32", 0},
		"a port":                     {false, 2, info(2, "0.0.0.0"), "invalid IP", 8080},
		"IPv6":                       {true, 2, info(3, "fd00::20"), "fd00::20", 8080},
		"IPv6 that ends in zeros":    {true, 2, info(1, "2001:db8::"), "2001:db8::", 0},
		"an old iptables":            {false, 0, old, "10.0.0.32", 8080},
		"IPv6 never had revision 0":  {true, 0, old, "invalid IP", 0},
		"cut off":                    {false, 2, info(3, "10.0.0.32")[:39], "invalid IP", 0},
		"an old iptables, cut off":   {false, 0, old[:19], "invalid IP", 0},
		"nothing that is translated": {false, 2, info(0, "10.0.0.32"), "invalid IP", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if a, port := NAT(tt.v6, tt.revision, tt.info); a.String() != tt.address || port != tt.port {
				t.Errorf("%s, port %d; want %s, %d", a, port, tt.address, tt.port)
			}
		})
	}
}

// FuzzRules: broken bytes give at worst an error, and never an invalid address.
func FuzzRules(f *testing.F) {
	info := append(binary.NativeEndian.AppendUint32(nil, 3), make([]byte, 40)...)
	for _, l := range layouts {
		f.Add(l.table(testChain{"KUBE-SERVICES", 2}, testChain{"KUBE-SEP-A", 2}), info, l == ipv6Entry)
	}
	f.Fuzz(func(t *testing.T, b, info []byte, v6 bool) {
		table := of(Of(v6).layout, b)
		copy(table.info[:], info)
		if policy, rules, err := table.Builtin("FORWARD"); (policy == "") != (err != nil) || rules < 0 {
			t.Errorf("policy %q, %d rules, %v", policy, rules, err)
		}
		rules, err := table.Rules()
		for _, r := range rules {
			if r.Number < 1 {
				t.Errorf("rule %+v, error %v", r, err)
			}
		}
		_ = table.Destinations("KUBE-SEP-", func(a netip.Addr) {
			if !a.IsValid() {
				t.Error("an invalid address")
			}
		})
		for revision := range uint8(3) {
			if a, _ := NAT(v6, revision, info); a.IsValid() && a.Is4() == v6 {
				t.Errorf("revision %d gives %s", revision, a)
			}
		}
	})
}

// TestWrongSize has the kernel answer as if the table had changed.
func TestWrongSize(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "iptables-legacy", "-t", "nat", "-N", "X")
	ns.Do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		info := Info([]byte("nat" + string(make([]byte, len(Info{})-3))))
		binary.NativeEndian.PutUint32(info[len(info)-4:], 4096)
		if err := IPv4.entries(fd, info, nil); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("error %v, want EAGAIN", err)
		}
	})
}
