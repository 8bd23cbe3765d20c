package link

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/test/lab"
)

// start runs s in ns until the test ends, and returns its reasons after
// "subscribed". The caller receives them, or the source waits.
func start(t *testing.T, ns *lab.Namespace, s *Source) (next func() string) {
	t.Helper()
	sub := sourcetest.Run(t, s, ns.Go)
	sub.First(t, "subscribed")
	return func() string {
		t.Helper()
		h := sub.Next(t)
		port := strings.HasPrefix(h.Reason, "port ")
		there := port || strings.HasPrefix(h.Reason, "bridge ") && !strings.HasSuffix(h.Reason, " was removed")
		if there != (h.Device != "") || port != (h.About == source.Ports) || !strings.Contains(h.Reason, h.Device) {
			t.Errorf("wrong hint %+v", h)
		}
		return h.Reason
	}
}

// until collects reasons up to and with last. Repeated ones count once: how
// often the kernel says the same is its own affair.
func until(next func() string, last string) []string {
	var got []string
	for {
		r := next()
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
	next := start(t, ns, New(false, "eth1"))
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
		{"link del cbr0", []string{"bridge cbr0 was removed"}},
		{"link add eth10 type veth peer name v10", nil},
		{"link add eth1 type veth peer name v2", []string{"device eth1 appeared"}},
		{"link set eth1 name other", nil},
		{"link set other name eth1", []string{"device eth1 changed"}},
		{"link del eth1", []string{"device eth1 was removed"}},
	} {
		ns.Run(t, "ip", strings.Fields(tt.do)...)
		ns.Run(t, "ip", "link", "add", "end", "type", "bridge")
		got := until(next, "bridge end appeared")
		ns.Run(t, "ip", "link", "del", "end")
		until(next, "bridge end was removed")
		if diff := cmp.Diff(append(tt.want, "bridge end appeared"), got); diff != "" {
			t.Errorf("ip %s (-want +got):\n%s", tt.do, diff)
		}
	}
}

// A port is told of, where it is asked for, until it is in hairpin mode.
func TestPorts(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	next := start(t, ns, New(true))
	ns.Run(t, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	ns.Run(t, "ip", "link", "set", "v0", "master", "cni0")
	until(next, "port v0 changed")
	ns.Run(t, "ip", "link", "set", "v0", "type", "bridge_slave", "hairpin", "on")
	ns.Run(t, "ip", "link", "add", "end", "type", "bridge")
	until(next, "bridge end appeared") // what was told before that
	ns.Run(t, "ip", "link", "set", "v0", "type", "bridge_slave", "learning", "off")
	ns.Run(t, "ip", "link", "del", "end")
	if got := until(next, "bridge end was removed"); len(got) != 1 {
		t.Errorf("a port in hairpin mode woke us: %s", got)
	}
}

// TestOtherDevicesAreFree makes and deletes 500 pairs of veths named like
// bridges; the first hint is that of the bridge that comes last.
func TestOtherDevicesAreFree(t *testing.T) {
	ns := lab.NewNamespace(t)
	next := start(t, ns, New(false, "eth1"))
	var batch strings.Builder
	for i := range 500 {
		fmt.Fprintf(&batch, "link add bridge%d up group 7 type veth peer name p%d\n", i, i)
	}
	batch.WriteString("link del group 7\n")
	batch.WriteString("link add end type bridge\n")
	ipBatch(t, ns, batch.String())
	if got := next(); got != "bridge end appeared" {
		t.Errorf("a veth woke us: %s", got)
	}
}

// TestOverflow pauses the reader while the kernel says more than the smallest
// buffer holds. News is lost, that is said, and later news is not lost.
func TestOverflow(t *testing.T) {
	ns := lab.NewNamespace(t)
	next := start(t, ns, &Source{buffer: 1})
	var batch strings.Builder
	batch.WriteString("link add storm type bridge\n")
	for i := range 2000 {
		fmt.Fprintf(&batch, "link set storm mtu %d\n", 1000+i%2)
	}
	ipBatch(t, ns, batch.String())
	until(next, "news lost")

	for i := 0; ; i++ { // the first ones may still fall into the full buffer
		ns.Run(t, "ip", "link", "add", fmt.Sprintf("after%d", i), "type", "bridge")
		if strings.HasPrefix(next(), "bridge after") {
			return
		}
	}
}

func TestRunLeavesNothing(t *testing.T) {
	ns := lab.NewNamespace(t)
	sourcetest.LeavesNothing(t, func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		ns.Go(func() { done <- New(false).Run(ctx, func(source.Hint) { cancel() }) })
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func ipBatch(t *testing.T, ns *lab.Namespace, commands string) {
	t.Helper()
	cmd := ns.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}
