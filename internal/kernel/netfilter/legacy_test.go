package netfilter

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/nfguard/nfguard/internal/kernel/xtables"
	"github.com/nfguard/nfguard/test/lab"
)

// TestRemembered: an unchanged table is not read again, a changed one is, and
// one that went is forgotten.
func TestRemembered(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A KUBE-SERVICES -j RETURN")
	l := new(Look)
	look(t, ns, l)
	if !l.ipv4.services || l.ipv4.info == (xtables.Info{}) || l.ipv6.info != (xtables.Info{}) {
		t.Fatalf("after a look: %+v", l)
	}
	l.ipv4.services = false // what only a reading would find out
	if got := look(t, ns, l); got != nil {
		t.Errorf("the same table was read again: %q", got)
	}
	shell(t, ns, "iptables-legacy -t nat -A OUTPUT -j RETURN")
	if got := look(t, ns, l); len(got) != 1 {
		t.Errorf("a changed table: %q", got)
	}
	other := lab.NewNamespace(t)
	if got := look(t, other, l); got != nil || l.ipv4 != (legacyTable{}) {
		t.Errorf("where there is no table: %q, %+v", got, l)
	}
}

// TestChanging looks while the table is replaced as fast as possible.
func TestChanging(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A KUBE-SERVICES -j RETURN")
	storm := ns.Command("sh", "-c", `while :; do iptables-legacy -t nat -A OUTPUT -j RETURN; iptables-legacy -t nat -D OUTPUT 1; done`)
	if err := storm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = storm.Process.Kill(); _ = storm.Wait() }()
	for range 2000 {
		if got := look(t, ns, new(Look)); len(got) != 1 {
			t.Fatalf("rules %q", got)
		}
	}
}

func TestCancelled(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ns.Do(func() {
		if _, err := new(Look).KubeProxy(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// TestHasLegacy: a table without rules is one, another table is not.
func TestHasLegacy(t *testing.T) {
	ns := lab.NewNamespace(t)
	for _, step := range []struct {
		script string
		want   bool
	}{
		{"true", false},
		{"ip6tables-legacy -L", false},
		{"ip6tables-legacy -t nat -L", true},
	} {
		shell(t, ns, step.script)
		ns.Do(func() {
			if got := HasLegacy(); got != step.want {
				t.Errorf("after %s: %t", step.script, got)
			}
		})
	}
}

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // su leaves them out
	os.Exit(m.Run())
}
