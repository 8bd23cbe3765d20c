package link

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/source"
	"github.com/nfguard/nfguard/test/lab"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// start runs s in ns until the test ends, and returns its reasons after
// "subscribed". The caller receives them, or the source waits.
func start(t *testing.T, ns *lab.Namespace, s *Source) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	reasons, done := make(chan string), make(chan error)
	ns.Go(func() {
		done <- s.Run(ctx, func(h source.Hint) {
			there := strings.HasSuffix(h.Reason, " appeared") || strings.HasSuffix(h.Reason, " changed")
			if h.Source != "link" || h.Time.IsZero() || there != (h.Device != "") || !strings.Contains(h.Reason, h.Device) {
				t.Errorf("wrong hint %+v", h)
			}
			select {
			case reasons <- h.Reason:
			case <-ctx.Done():
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("cancelled: Run returned %v", err)
			}
		case <-time.After(patience):
			t.Error("cancelled: Run goes on")
		}
	})
	if got := next(t, reasons); got != "subscribed" {
		t.Fatalf("first hint: %q", got)
	}
	return reasons
}

func next(t *testing.T, reasons <-chan string) string {
	t.Helper()
	select {
	case r := <-reasons:
		return r
	case <-time.After(patience):
		t.Fatal("no hint")
		return ""
	}
}

// until collects reasons up to and with last. Repeated ones count once: how
// often the kernel says the same is its own affair.
func until(t *testing.T, reasons <-chan string, last string) []string {
	t.Helper()
	var got []string
	for {
		r := next(t, reasons)
		if len(got) == 0 || got[len(got)-1] != r {
			got = append(got, r)
		}
		if r == last {
			return got
		}
	}
}

func TestHints(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	reasons := start(t, ns, New())
	for _, tt := range []struct {
		do   string // ip …; a bridge that appears or goes ends the wait
		want []string
	}{
		{"link add cni0 type bridge", []string{"bridge cni0 appeared"}},
		{"link set cni0 up", []string{"bridge cni0 changed"}},
		{"link set v0 master cni0", []string{"bridge cni0 changed"}},
		{"link set cni0 type bridge nf_call_iptables 1", []string{"bridge cni0 changed"}},
		{"link set v0 nomaster", []string{"bridge cni0 changed"}},
		{"link set cni0 down", []string{"bridge cni0 changed"}},
		{"link set cni0 name cbr0", []string{"bridge cbr0 changed"}},
		{"link del cbr0", []string{"bridge cbr0 went"}},
	} {
		ns.Run(t, "ip", strings.Fields(tt.do)...)
		ns.Run(t, "ip", "link", "add", "end", "type", "bridge")
		got := until(t, reasons, "bridge end appeared")
		ns.Run(t, "ip", "link", "del", "end")
		until(t, reasons, "bridge end went")
		if diff := cmp.Diff(append(tt.want, "bridge end appeared"), got); diff != "" {
			t.Errorf("ip %s (-want +got):\n%s", tt.do, diff)
		}
	}
}

// TestOtherDevicesAreFree makes and deletes 500 pairs of veths named like
// bridges; the first hint is that of the bridge that comes last.
func TestOtherDevicesAreFree(t *testing.T) {
	ns := lab.NewNamespace(t)
	reasons := start(t, ns, New())
	var batch strings.Builder
	for i := range 500 {
		fmt.Fprintf(&batch, "link add bridge%d up group 7 type veth peer name p%d\n", i, i)
	}
	batch.WriteString("link del group 7\n")
	batch.WriteString("link add end type bridge\n")
	ipBatch(t, ns, batch.String())
	if got := next(t, reasons); got != "bridge end appeared" {
		t.Errorf("a veth woke us: %s", got)
	}
}

// TestOverflow pauses the reader while the kernel says more than the smallest
// buffer holds. News is lost, that is said, and later news is not lost.
func TestOverflow(t *testing.T) {
	ns := lab.NewNamespace(t)
	reasons := start(t, ns, &Source{buffer: 1})
	var batch strings.Builder
	batch.WriteString("link add storm type bridge\n")
	for i := range 2000 {
		fmt.Fprintf(&batch, "link set storm mtu %d\n", 1000+i%2)
	}
	ipBatch(t, ns, batch.String())
	until(t, reasons, "news lost")

	for i := 0; ; i++ { // the first ones may still fall into the full buffer
		ns.Run(t, "ip", "link", "add", fmt.Sprintf("after%d", i), "type", "bridge")
		if strings.HasPrefix(next(t, reasons), "bridge after") {
			return
		}
	}
}

func TestRunLeavesNothing(t *testing.T) {
	ns := lab.NewNamespace(t)
	once := func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		ns.Go(func() { done <- New().Run(ctx, func(source.Hint) { cancel() }) })
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	once() // the runtime's poller opens its own descriptors once
	before := descriptors(t)
	for range 20 {
		once()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func ipBatch(t *testing.T, ns *lab.Namespace, commands string) {
	t.Helper()
	cmd := ns.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}
