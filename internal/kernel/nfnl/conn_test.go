package nfnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// message returns one message of an answer.
func message(kind, flags uint16, payload ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	return append(append(b, make([]byte, 8)...), payload...)
}

func code(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, -uint32(e)) }

func TestPart(t *testing.T) {
	type result struct {
		Objects       int
		Done, Changed bool
		Err           string
	}
	done := message(unix.NLMSG_DONE, 0, code(0)...)
	rule := nft(unix.NFT_MSG_NEWRULE, unix.NLM_F_MULTI, unix.NFPROTO_IPV4, Attrs{}.Text(unix.NFTA_RULE_TABLE, "nat"))
	refused := message(unix.NLMSG_ERROR, 0, code(unix.EPERM)...)
	behind := append(code(unix.EINVAL), make([]byte, unix.SizeofNlMsghdr)...)
	said := Attrs{}.Text(unix.NLMSGERR_ATTR_MSG, "No such family")
	for name, tt := range map[string]struct {
		b    []byte
		want result
	}{
		"nothing":                {nil, result{}},
		"two rules":              {slices.Concat(rule, rule), result{Objects: 2}},
		"the end":                {done, result{Done: true}},
		"a rule, the end":        {slices.Concat(rule, done), result{Objects: 1, Done: true}},
		"the end, an error":      {slices.Concat(rule, message(unix.NLMSG_DONE, 0, code(unix.ENOMEM)...)), result{Objects: 1, Done: true, Err: "cannot allocate memory"}},
		"acknowledged":           {message(unix.NLMSG_ERROR, 0, code(0)...), result{Done: true}},
		"refused":                {refused, result{Done: true, Err: "operation not permitted"}},
		"the first error counts": {slices.Concat(refused, message(unix.NLMSG_ERROR, 0, code(unix.ENOENT)...)), result{Done: true, Err: "operation not permitted"}},
		"refused, with a reason": {message(unix.NLMSG_ERROR, 0x300, append(behind, said...)...), result{Done: true, Err: "invalid argument: No such family"}},
		"the question behind it": {message(unix.NLMSG_ERROR, 0, append(behind, said...)...), result{Done: true, Err: "invalid argument"}},
		"a reason cut off":       {message(unix.NLMSG_ERROR, 0x300, behind[:9]...), result{Done: true, Err: "invalid argument"}},
		"changed":                {slices.Concat(rule, message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, code(0)...)), result{Objects: 1, Done: true, Changed: true}},
		"cut off":                {done[:17], result{Err: io.ErrUnexpectedEOF.Error()}},
		"the second cut off":     {slices.Concat(rule, rule[:len(rule)-4]), result{Objects: 1, Err: io.ErrUnexpectedEOF.Error()}},
		"a wrong length":         {append([]byte{1}, done[1:]...), result{Err: io.ErrUnexpectedEOF.Error()}},
		"an error without any":   {message(unix.NLMSG_ERROR, 0), result{Err: io.ErrUnexpectedEOF.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			var got result
			var err error
			got.Done, got.Changed, err = part(tt.b, func(in []byte) {
				got.Objects++
				if !bytes.Equal(in, rule[header:]) {
					t.Errorf("an object is %x", in)
				}
			})
			if err != nil {
				got.Err = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func dial(t *testing.T, ns *lab.Namespace) *Conn {
	t.Helper()
	var c *Conn
	var err error
	ns.Do(func() { c, err = Dial() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestConn creates a table, reads what is in it and removes it.
func TestConn(t *testing.T) {
	ns := lab.NewNamespace(t)
	c, table := dial(t, ns), Table{unix.NFPROTO_IPV4, "t"}
	port := []byte{0, 53}
	err := c.Commit(table.Create(0), table.CreateChain("pre", "nat", Prerouting, -100),
		table.CreateRule("pre", Exprs{}.Meta(unix.NFT_META_L4PROTO, []byte{unix.IPPROTO_UDP}).Equal(DestinationPort, port).
			Differ(Source(false), []byte{10, 0, 0, 1}).DNAT(unix.NFPROTO_IPV4, []byte{10, 0, 0, 2})))
	if err != nil {
		t.Fatal(err)
	}
	want := `table ip t {
	chain pre {
		type nat hook prerouting priority -100; policy accept;
		udp dport 53 ip saddr != 10.0.0.1 dnat to 10.0.0.2
	}
}
`
	if diff := cmp.Diff(want, ns.Run(t, "nft", "-n", "list", "ruleset")); diff != "" {
		t.Errorf("nft reads (-want +got):\n%s", diff)
	}
	var rules []string
	if err := c.List(t.Context(), table.Rules("pre"), nil, func(rule []byte) {
		for e := range Expressions(rule) {
			if to, _ := e.Translation(); to.IsValid() {
				rules = append(rules, to.String())
			}
		}
	}); err != nil || !slices.Equal(rules, []string{"10.0.0.2"}) {
		t.Errorf("translations %q, %v", rules, err)
	}
	chain, err := c.Get(table.Chain("pre"))
	if got := Text(Find(chain, unix.NFTA_CHAIN_TYPE)); got != "nat" || err != nil {
		t.Errorf("the chain is of type %q, %v", got, err)
	}
	if _, err := c.Get(table.Chain("other")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a chain that is not there: %v", err)
	}
	// A transaction that fails changes nothing.
	if err := c.Commit(table.DeleteRules(), table.Create(0)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("made twice: %v", err)
	}
	if there, err := dial(t, ns).Any(table.Rules("pre")); !there || err != nil {
		t.Errorf("the rule is there: %t, %v", there, err)
	}
	for _, step := range []struct {
		do    Message
		rules bool
	}{{table.DeleteRules(), false}, {table.Delete(), false}} {
		if err := c.Commit(step.do); err != nil {
			t.Error(err)
		}
		if there, err := dial(t, ns).Any(table.Rules("pre")); there != step.rules || err != nil {
			t.Errorf("a rule is there: %t, %v", there, err)
		}
	}
	if there, err := c.Any(table.Get()); there || err != nil {
		t.Errorf("the table is there: %t, %v", there, err)
	}
}

// TestOwner: a table with an owner is removed with the connection.
func TestOwner(t *testing.T) {
	ns := lab.NewNamespace(t)
	c, table := dial(t, ns), Table{unix.NFPROTO_BRIDGE, "mine"}
	if err := c.Commit(table.Create(Owner)); err != nil {
		t.Fatal(err)
	}
	other := dial(t, ns)
	if err := other.Commit(table.Delete()); !errors.Is(err, unix.EPERM) {
		t.Errorf("somebody else can remove it: %v", err)
	}
	var second *Conn
	ns.Do(func() { second, _ = Dial() })
	gone := Table{unix.NFPROTO_IPV4, "gone"}
	if err := second.Commit(gone.Create(Owner)); err != nil {
		t.Fatal(err)
	}
	second.Close()
	if there, err := other.Any(gone.Get()); there || err != nil {
		t.Errorf("it outlives its connection: %t, %v", there, err)
	}
}

// TestList reads a list of many parts while another process changes tables as fast
// as it can: the list is complete, or there is an error.
func TestList(t *testing.T) {
	const chains = 2000
	ns := lab.NewNamespace(t)
	c, table := dial(t, ns), Table{unix.NFPROTO_IPV4, "t"}
	if err := c.Commit(table.Create(0)); err != nil {
		t.Fatal(err)
	}
	shell(t, ns, fmt.Sprintf(`for i in $(seq %d); do echo add chain ip t chain-$i; done | nft -f -`, chains))
	count := func(ctx context.Context) (n int, err error) {
		err = c.List(ctx, Chains(unix.NFPROTO_IPV4), func() { n = 0 }, func([]byte) { n++ })
		return n, err
	}
	if n, err := count(t.Context()); n != chains || err != nil {
		t.Fatalf("%d of %d chains, %v", n, chains, err)
	}
	storm := ns.Command("sh", "-c", `PATH=$PATH:/usr/sbin:/sbin; nft add table ip6 x; while :; do nft 'add chain ip6 x c; delete chain ip6 x c'; done`)
	if err := storm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = storm.Process.Kill(); _ = storm.Wait() }()
	for range 50 {
		if n, err := count(t.Context()); n != chains || err != nil && (!errors.Is(err, ErrChanged) || err.Error() != "it changed during each of 10 attempts") {
			t.Errorf("%d of %d chains, %v", n, chains, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := count(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzMessage: broken bytes give at worst an error, and never data that they do not
// contain.
func FuzzMessage(f *testing.F) {
	immediate := Attrs{}.U32(unix.NFTA_IMMEDIATE_DREG, 1).Nest(unix.NFTA_IMMEDIATE_DATA, Attrs{}.Bytes(unix.NFTA_DATA_VALUE, make([]byte, 4)))
	nat := Attrs{}.U32(unix.NFTA_NAT_REG_ADDR_MIN, 1).U32(unix.NFTA_NAT_REG_PROTO_MIN, 99)
	f.Add([]byte(nft(unix.NFT_MSG_NEWRULE, 0, unix.NFPROTO_IPV4, Attrs{}.
		Nest(unix.NFTA_RULE_EXPRESSIONS, Attrs(Exprs{}.Add("immediate", immediate).Add("nat", nat).Masquerade())).
		Bytes(unix.NFTA_RULE_USERDATA, []byte{0, 3, 'x', 'y', 0}))))
	f.Add(message(unix.NLMSG_ERROR, 0x300, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(in []byte) {
			for e := range Expressions(in) {
				to, _ := e.Translation()
				name, _, _ := e.Target()
				if len(e.Map()) > len(b) || len(name) > len(b) || to.Zone() != "" {
					t.Errorf("%+v", e)
				}
			}
			for e := range Elements(in) {
				if _, chain, _ := Verdict(e.Verdict); len(chain) > len(b) {
					t.Errorf("%+v", e)
				}
			}
			if c := Comment(in); len(c) > len(b) {
				t.Errorf("%q", c)
			}
		}
		read(b)
		_, _, _ = part(b, read)
	})
}
