package run

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
)

func TestAbilitiesInWords(t *testing.T) {
	const how = "BPF cgroup/sysctl; rewrites nothing: this kernel drops what a program puts in place of a value"
	noDrops := errors.New("the kernel has no drop reasons, which it has from 5.17 on: not supported")
	for _, tt := range []struct {
		name string
		p    probed
		want []Ability
	}{
		{"all", probed{named: true, rewrites: true, refuses: true}, []Ability{
			{"names", "BPF", "every writer is named, also one in a container with its own /proc"},
			{"window", "BPF", "a foreign value is never in effect: the kernel stores the wanted one instead of it"},
			{"lock", "BPF", `mode = "lock" has the kernel refuse foreign values`},
			{"drops", "BPF", "trace hears the kernel's reason for a dropped packet"},
		}},
		{"a kernel that does not rewrite, without drop reasons", probed{named: true, refuses: true, how: how, drops: noDrops}, []Ability{
			{"names", "BPF", "every writer is named, also one in a container with its own /proc"},
			{"window", "", "a foreign value is in effect until it is put right: " + how},
			{"lock", "BPF", `mode = "lock" has the kernel refuse foreign values`},
			{"drops", "", "trace does not hear why the kernel drops a packet: " + noDrops.Error()},
		}},
		{"no BPF", probed{why: "BPF: not supported", drops: noDrops}, []Ability{
			{"names", "fanotify", "writers through the host's own /proc are named; it takes CAP_SYS_ADMIN: BPF: not supported"},
			{"window", "", "a foreign value is in effect until it is put right: BPF: not supported"},
			{"lock", "", `mode = "lock" does what enforce does: BPF: not supported`},
			{"drops", "", "trace does not hear why the kernel drops a packet: " + noDrops.Error()},
		}},
		{"another user", probed{why: "BPF: operation not permitted", fanotify: unix.EPERM}, []Ability{
			{"names", "", "not known: as root it can be found out"},
			{"window", "", "a foreign value is in effect until it is put right: BPF: operation not permitted"},
			{"lock", "", `mode = "lock" does what enforce does: BPF: operation not permitted`},
			{"drops", "BPF", "trace hears the kernel's reason for a dropped packet"},
		}},
	} {
		if diff := cmp.Diff(tt.want, tt.p.abilities()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// The probes leave nothing behind, and say the same twice.
func TestAbilitiesOfThisHost(t *testing.T) {
	ns := lab.NewNamespace(t)
	m := NewMachine(t.Context())
	defer m.Close()
	s := daemon.Settings{Policy: guard.Policy{Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}}}}
	var first, second []Ability
	ns.Do(func() { first, second = m.Abilities(&s), m.Abilities(&s) })
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
	for i, what := range []string{"names", "window", "lock", "drops"} { // after where this is, if that is to be said
		if at := len(first) - 4 + i; at < 0 || first[at].What != what {
			t.Errorf("no word on %s: %+v", what, first)
		}
	}
	for _, a := range first {
		t.Logf("%s  %s", a.What, a.Sentence)
	}
}
