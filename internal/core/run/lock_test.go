package run

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
)

func TestLockFindings(t *testing.T) {
	const (
		enforced = "none is needed: they are enforced"
		writable = "give nfguard's unit write access to /proc/sys, or run nfguard on the host and not in a container"
	)
	for _, tt := range []struct {
		name string
		lock lock
		want []guard.Finding
	}{
		{"all of it is locked", lock{}, nil},
		{"all of it is locked, and we cannot write", lock{readOnly: []string{"net/ipv4/ip_forward"}, nowhere: true}, nil},
		{
			"no BPF",
			lock{why: "BPF: not supported"},
			[]guard.Finding{{
				Subject:  LockSubject,
				Sentence: `mode = "lock" is not in force: foreign values are put right and not kept out: BPF: not supported`,
				Next:     `see bpf(2) for what that takes, or set mode = "enforce"`,
			}},
		},
		{
			"no BPF, and we cannot write",
			lock{why: "BPF: not supported", nowhere: true},
			[]guard.Finding{{
				Subject:  LockSubject,
				Sentence: `mode = "lock" is not in force, and /proc/sys is mounted read-only here: foreign values are neither kept out nor put right: BPF: not supported`,
				Next:     writable,
			}},
		},
		{
			"a vector, and bridges",
			lock{free: []string{"net/ipv4/tcp_rmem", "vm/swappiness"}, bridges: true},
			[]guard.Finding{
				{Subject: LockSubject, Sentence: "the flags of bridges can't be locked, they are put right", Next: enforced},
				{Subject: LockSubject, Sentence: "foreign values are put right and not kept out of net.ipv4.tcp_rmem, vm.swappiness: no number below net", Next: enforced},
			},
		},
		{
			"no BPF, and we cannot write to one of two",
			lock{why: "BPF: not supported", readOnly: []string{"vm/swappiness"}},
			[]guard.Finding{{
				Subject:  LockSubject,
				Sentence: `mode = "lock" is not in force: foreign values are put right and not kept out: BPF: not supported`,
				Next:     `see bpf(2) for what that takes, or set mode = "enforce"`,
			}},
		},
		{
			"a vector, and a key that we cannot write to",
			lock{free: []string{"net/ipv4/tcp_rmem", "vm/swappiness"}, readOnly: []string{"vm/swappiness"}},
			[]guard.Finding{
				{Subject: LockSubject, Sentence: "foreign values are put right and not kept out of net.ipv4.tcp_rmem: no number below net", Next: enforced},
				{Subject: LockSubject, Sentence: "foreign values are neither kept out of vm.swappiness (no number below net) nor put right: it is mounted read-only here", Next: writable},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.lock.findings()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// Whether we can write is asked of the kernel.
func TestLockOnAReadOnlyProcfs(t *testing.T) {
	ns := lab.NewNamespace(t)
	s := daemon.Settings{Policy: guard.Policy{Mode: guard.Lock, Sysctls: []guard.Setting{{Key: "net.ipv4.ip_forward", Value: "1"}}}}
	h := &writeHook{why: "BPF: not supported"}
	weak := func() (sentence string) {
		for _, f := range h.weak(s) {
			sentence += f.Sentence
		}
		return sentence
	}
	ns.Do(func() {
		if got, want := weak(), (&lock{why: h.why}).findings()[0].Sentence; got != want {
			t.Errorf("writable: %s", got)
		}
	})
	ns.Do(func() { // on a thread of its own, which dies with the function
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		for _, err := range []error{
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
			unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		if got, want := weak(), (&lock{why: h.why, nowhere: true}).findings()[0].Sentence; got != want {
			t.Errorf("read-only: %s", got)
		}
	})
}
