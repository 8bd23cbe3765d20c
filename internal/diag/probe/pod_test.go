package probe

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// TestThreadsComeHome: whatever became of the work inside of a pod, no thread
// goes on there.
func TestThreadsComeHome(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	pod, err := newPod()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	var inside unix.Stat_t
	if err := unix.Fstat(pod.fd, &inside); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			why := []error{nil, errors.New("for a reason")}[i%2]
			if err := pod.do(func() error { return why }); !errors.Is(err, why) {
				t.Errorf("it returns %v, want %v", err, why)
			}
		})
	}
	all.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatal(err, threads)
	}
	for _, path := range threads {
		var s unix.Stat_t
		if err := unix.Stat(path, &s); err == nil && s.Ino == inside.Ino {
			t.Errorf("%s is the pod's", path)
		}
	}
}

// TestNothingStaysOpen: each way out closes what was opened.
func TestNothingStaysOpen(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "sh", "-ec", `ip link add cni0 type bridge
		ip addr add 10.1.0.1/24 dev cni0
		ip addr add fd00:1::1/64 dev cni0 nodad
		ip link set cni0 up`)
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	attach := func(want string) error {
		var err error
		ns.Do(func() {
			var a *Attachment
			subnets := []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd00:1::1/64")}
			if a, err = Attach(t.Context(), "cni0", subnets, []netip.Addr{netip.MustParseAddr(want)}, nil); err == nil {
				err = a.Close()
			}
		})
		return err
	}
	broken := with("0", "0", Flags{})
	broken.Bridge["no-such-key"] = "1"
	ways := []struct {
		name string
		run  func() error
		ends bool
	}{
		{"a world", func() error { _, err := Run(t.Context(), with("0", "0", Flags{})); return err }, true},
		{"a world that can't be made", func() error { _, err := Run(t.Context(), broken); return err }, false},
		{"a pod on a bridge", func() error { return attach("10.1.0.9") }, true},
		{"an address that no pod can have", func() error { return attach("10.1.0.1") }, false},
	}
	for _, w := range ways {
		_ = w.run() // what is opened once, for good, is open then
	}
	for _, w := range ways {
		before := open()
		if err := w.run(); (err == nil) != w.ends {
			t.Errorf("%s: %v", w.name, err)
		}
		if after := open(); after > before {
			t.Errorf("%s: %d descriptors before, %d after", w.name, before, after)
		}
	}
}
