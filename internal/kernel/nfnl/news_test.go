package nfnl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

func TestLoaded(t *testing.T) {
	const release, modules = "proc/sys/kernel/osrelease", "proc/modules"
	for name, tt := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"loaded":                    {map[string]string{"sys/module/nf_tables/refcnt": "0", modules: "nf_tables 1 0\n"}, true},
		"a kernel without modules":  {map[string]string{release: "6.18\n"}, true},
		"a module, not loaded":      {map[string]string{modules: "", release: "6.1\n", "lib/modules/6.1/modules.builtin": "kernel/net/netfilter/nfnetlink.ko\n"}, false},
		"built in":                  {map[string]string{modules: "", release: "6.1\n", "lib/modules/6.1/modules.builtin": "kernel/net/netfilter/nf_tables.ko\n"}, true},
		"no index to load it by":    {map[string]string{modules: "", release: "6.1\n"}, true},
		"an index of other kernels": {map[string]string{modules: "", release: "6.1\n", "lib/modules/6.2/modules.builtin": ""}, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range tt.files {
				path = filepath.Join(root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if got := has(root, "nf_tables"); got != tt.want {
				t.Errorf("loaded: %t", got)
			}
		})
	}
}

// TestSubscription makes small transactions and one of a thousand rules: each is one
// piece of news, and names its program.
func TestSubscription(t *testing.T) {
	ns := lab.NewNamespace(t)
	sub := subscribe(t, ns)
	shell(t, ns, `exec iptables-nft -t nat -N KUBE-SERVICES`)
	shell(t, ns, `exec nft list ruleset`) // no news
	shell(t, ns, `{ echo add table ip t; echo add chain ip t c; for i in $(seq 1000); do echo add rule ip t c counter; done; } | nft -f -`)
	shell(t, ns, `exec nft flush ruleset`)
	var got []string
	for range 3 {
		c := next(t, sub)
		if c.PID <= 1 {
			t.Errorf("pid %d", c.PID)
		}
		got = append(got, c.Comm)
	}
	if diff := cmp.Diff([]string{"iptables-nft", "nft", "nft"}, got); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
	quiet(t, sub)
}

func TestRenewForgets(t *testing.T) {
	ns := lab.NewNamespace(t)
	sub := subscribe(t, ns)
	shell(t, ns, "nft add table ip a; nft add table ip b")
	ns.Do(func() {
		if err := sub.Renew(); err != nil {
			t.Error(err)
		}
	})
	shell(t, ns, "nft add table ip c")
	next(t, sub)
	quiet(t, sub)
}

func shell(t testing.TB, ns *lab.Namespace, script string) {
	t.Helper()
	ns.Run(t, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin\n"+script)
}

func subscribe(t *testing.T, ns *lab.Namespace) *Subscription {
	t.Helper()
	var sub *Subscription
	var err error
	ns.Do(func() { sub, err = Subscribe() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	return sub
}

func next(t *testing.T, sub *Subscription) Commit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := sub.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// quiet fails the test if there is news. It also ends the subscription.
func quiet(t *testing.T, sub *Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := sub.Next(ctx); err == nil {
		t.Errorf("news of %+v", c)
	}
}

// FuzzParse: a broken message is at worst read as an empty one.
func FuzzParse(f *testing.F) {
	seed := newgen(258, "nft")
	f.Add(seed)
	f.Add(seed[:len(seed)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := parseCommit(b); c.PID < 0 || len(c.Comm) > len(b) {
			t.Errorf("%+v", c)
		}
	})
}

func TestParseCommit(t *testing.T) {
	b := newgen(258, "iptables-restor")
	if got, want := parseCommit(b), (Commit{PID: 258, Comm: "iptables-restor"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseCommit(b[:len(b)-9]); got != (Commit{PID: 258}) {
		t.Errorf("cut off: %+v", got)
	}
}

// newgen returns a message NFT_MSG_NEWGEN like the kernel's.
func newgen(pid uint32, comm string) []byte {
	return nft(unix.NFT_MSG_NEWGEN, 0, unix.AF_UNSPEC, Attrs{}.
		U32(unix.NFTA_GEN_ID, 9).U32(unix.NFTA_GEN_PROC_PID, pid).Text(unix.NFTA_GEN_PROC_NAME, comm))
}
