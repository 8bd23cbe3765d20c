package uevent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/lab"
)

// datagram has the form of a kernel uevent: its lines end with a zero.
func datagram(lines ...string) []byte {
	return []byte(strings.Join(lines, "\x00") + "\x00")
}

func TestParse(t *testing.T) {
	type result struct {
		Module string
		Did    source.Kind
	}
	for name, tt := range map[string]struct {
		in   []byte
		want result
	}{
		"module loaded": {
			datagram("add@/module/br_netfilter", "ACTION=add", "DEVPATH=/module/br_netfilter", "SUBSYSTEM=module", "SEQNUM=2437"),
			result{"br_netfilter", source.Appeared},
		},
		"module unloaded": {
			datagram("remove@/module/br_netfilter", "ACTION=remove"),
			result{"br_netfilter", source.Removed},
		},
		"a device":                {in: datagram("add@/devices/virtual/net/module", "ACTION=add")},
		"another action":          {in: datagram("change@/module/br_netfilter")},
		"udevd's copy":            {in: datagram("libudev", "add@/module/br_netfilter")},
		"cut off inside the name": {in: []byte("add@/module/br_net")},
		"empty":                   {},
	} {
		t.Run(name, func(t *testing.T) {
			module, did := parse(tt.in)
			if diff := cmp.Diff(tt.want, result{module, did}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzParse holds the parser and the kernel's filter together: what one takes
// for a module's uevent, the other passes.
func FuzzParse(f *testing.F) {
	f.Add(datagram("add@/module/br_netfilter", "ACTION=add"))
	f.Add(datagram("remove@/module/br_netfilter", "ACTION=remove"))
	f.Add([]byte("add@/module"))
	passes := filtered(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		_, did := parse(b)
		if passed := passes(b); did != 0 && !passed {
			t.Errorf("%q is %v, and is refused", b, did)
		}
	})
}

func TestFilter(t *testing.T) {
	passes := filtered(t)
	for in, want := range map[string]bool{
		"add@/module/":                    true,
		"add@/module/br_netfilter\x00":    true,
		"remove@/module/":                 true,
		"remove@/module/br_netfilter\x00": true,
		"":                                false,
		"add@/module":                     false,
		"remove@/module":                  false,
		"add@/devices/virtual/net/v0":     false,
		"remove@/devices/virtual/net/v0":  false,
		"bind@/module/":                   false,
		" add@/module/":                   false,
	} {
		if got := passes([]byte(in)); got != want {
			t.Errorf("%q passes: %t", in, got)
		}
	}
}

func TestFollow(t *testing.T) {
	type received struct {
		datagram []byte
		err      error
	}
	broken := errors.New("broken")
	news := []received{
		{datagram: datagram("add@/module/bridge")},
		{datagram: datagram("add@/module/br_netfilter", "ACTION=add")},
		{err: os.NewSyscallError("recvfrom", unix.ENOBUFS)},
		{datagram: datagram("remove@/module/br_netfilter", "ACTION=remove")},
		{datagram: datagram("remove@/module/br_netfilter_x")},
		{err: broken},
	}
	receive := func(_ context.Context, b []byte) (int, error) {
		r := news[0]
		news = news[1:]
		return copy(b, r.datagram), r.err
	}
	var got []string
	err := New("br-netfilter").follow(t.Context(), receive, func(k source.Kind, reason string) { got = append(got, k.String()+": "+reason) })
	want := []string{"appeared: module br_netfilter loaded", "news lost: news lost", "was removed: module br_netfilter unloaded"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

// TestRun asks the kernel to repeat a module's uevents, which is harmless and
// needs a kernel with loadable modules.
func TestRun(t *testing.T) {
	lab.Need(t, lab.Root)
	modules, err := filepath.Glob("/sys/module/*/uevent")
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) == 0 {
		t.Skip("this kernel has no loadable modules")
	}
	module := filepath.Base(filepath.Dir(modules[0]))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	err = New(module).Run(ctx, func(h source.Hint) {
		got = append(got, h.Reason)
		repeat := map[string]string{
			"subscribed":                     "add",
			"module " + module + " loaded":   "remove",
			"module " + module + " unloaded": "",
		}[h.Reason]
		if repeat == "" {
			cancel()
			return
		}
		if err := os.WriteFile(modules[0], []byte(repeat), 0); err != nil {
			t.Error(err)
			cancel()
		}
	})
	if err != nil {
		t.Error(err)
	}
	want := []string{"subscribed", "module " + module + " loaded", "module " + module + " unloaded"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	sourcetest.LeavesNothing(t, func() {
		sub := sourcetest.Run(t, New("br_netfilter"), nil)
		sub.First(t, "subscribed")
		sub.End()
		<-sub.Done
	})
}

// filtered returns a function that says whether the kernel, with our filter
// on a pair of ordinary sockets, lets a datagram through.
func filtered(t testing.TB) func([]byte) bool {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	filter := rtnl.StartsWith(loaded, unloaded)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		t.Fatal(err)
	}
	return func(b []byte) bool {
		if _, err := unix.Write(pair[0], b); err != nil && !errors.Is(err, unix.EPERM) {
			t.Fatalf("send %q: %v", b, err)
		}
		_, err := unix.Read(pair[1], make([]byte, 1))
		return err == nil
	}
}
