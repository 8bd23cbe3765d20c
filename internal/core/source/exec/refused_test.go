package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/test/lab"
)

// dropBPF takes from the calling thread what lets it load BPF programs.
func dropBPF() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	for _, c := range []int{unix.CAP_SYS_ADMIN, unix.CAP_BPF} {
		data[c/32].Effective &^= 1 << (c % 32)
	}
	return unix.Capset(&hdr, &data[0])
}

func TestRefused(t *testing.T) {
	lab.Need(t, lab.Root)
	initial := func(f func()) { go func() { runtime.LockOSThread(); f() }() }
	const never = "process starts cannot be heard of here: "
	for _, tt := range []struct {
		name string
		on   func(f func()) // a thread, which dies with f
		drop func() error
		ways []way
		want string
	}{
		{
			"all is allowed", initial, func() error { return nil },
			[]way{bpf, connector},
			"subscribed: BPF raw tracepoint",
		},
		{
			"the connector is left", initial, dropBPF,
			[]way{bpf, connector},
			"subscribed: proc connector (BPF: operation not permitted)",
		},
		{
			"BPF is left in another network namespace", lab.NewNamespace(t).Go, func() error { return nil },
			[]way{connector, bpf},
			"subscribed: BPF raw tracepoint (proc connector: send: connection refused)",
		},
		{
			"nothing is left", lab.NewNamespace(t).Go, dropBPF,
			[]way{bpf, connector},
			never + "BPF: operation not permitted; proc connector: send: connection refused",
		},
		{
			"one may work later", lab.NewNamespace(t).Go, dropBPF,
			[]way{bpf, {"busy", "busy", func([]string) (feed, error) { return nil, unix.EMFILE }}},
			"BPF: operation not permitted; busy: too many open files",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			tt.on(func() {
				if err := tt.drop(); err != nil {
					got <- err.Error()
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := New(Options{Names: []string{standIn}})
				s.ways = tt.ways
				err := s.Run(ctx, func(h source.Hint) {
					got <- h.Reason
					cancel()
				})
				if err == nil {
					return
				}
				if want := strings.HasPrefix(tt.want, never); errors.Is(err, ErrNotSupported) != want {
					t.Errorf("it may work later: %t, want %t", !errors.Is(err, ErrNotSupported), !want)
				}
				got <- err.Error()
			})
			if got := <-got; got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// In another PID namespace the kernel's numbers mean other processes.
func TestWithinOtherPIDNamespace(t *testing.T) {
	const inside = "NFGUARD_TEST_PIDNS"
	if os.Getenv(inside) != "" {
		err := New(Options{Names: []string{standIn}}).Run(t.Context(), nil)
		fmt.Printf("%v, %t\n", err, errors.Is(err, ErrNotSupported))
		return
	}
	lab.Need(t, lab.Root)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(lab.Tool(t, lab.Root, "unshare"), "-p", "-f", "--mount-proc", exe, "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, _, _ := strings.Cut(string(out), "\n")
	want := "process starts cannot be heard of here: this is not the initial PID namespace, true"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
