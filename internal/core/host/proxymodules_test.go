package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

func TestLacks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const most = "kernel/net/netfilter/xt_conntrack.ko.xz:\nkernel/net/netfilter/xt_mark.ko:\nkernel/net/netfilter/xt_statistic.ko:\nkernel/net/netfilter/xt_nat.ko:\n"
	write("proc/sys/kernel/osrelease", "6.1\n")
	write("lib/modules/6.1/modules.dep", "") // runs, with the rules in it
	write("lib/modules/6.1/modules.builtin", "")
	write("lib/modules/6.2/modules.dep", most+"kernel/net/ipv4/netfilter/ipt_MASQUERADE.ko:\nkernel/net/netfilter/nft_compat.ko:\n")
	write("lib/modules/6.2/modules.builtin", "kernel/net/netfilter/nf_tables.ko\n")
	write("lib/modules/6.3/modules.dep", most) // whose other list is not there
	l := New(Options{Proc: filepath.Join(dir, "proc")})
	l.dir = dir
	rules := []guard.Rules{{Mode: "iptables", Backend: "nf_tables", IPv4: true}}
	want := []guard.Lack{{Module: "xt_comment", Release: "6.2", For: "iptables mode (nf_tables), IPv4"}}
	if diff := cmp.Diff(want, l.lacks(rules)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := l.lacks(nil); got != nil {
		t.Errorf("without rules: %v", got)
	}
}
