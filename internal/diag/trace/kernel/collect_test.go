package kernel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/test/lab"
)

// flood sends the same datagram again and again from one socket, until stop is
// called.
func (w *worker) flood(from *lab.Namespace, to netip.AddrPort) (stop func()) {
	w.t.Helper()
	var conn *net.UDPConn
	var err error
	from.Do(func() { conn, err = net.ListenUDP("udp", nil) })
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := conn.WriteToUDPAddrPort([]byte("again"), to); err != nil {
				return // closed
			}
		}
	}()
	return func() {
		conn.Close()
		<-done
	}
}

// TestFlood: a connection that is never quiet, and whose packets all look
// alike, does not keep it from ending, and nothing of it comes before the
// beginning.
func TestFlood(t *testing.T) {
	w := newWorker(t, true)
	stop := w.flood(w.client, v6.endpoint)
	defer stop()
	q, err := trace.ParseQuery(v6.client.Addr().String(), v6.endpoint.String())
	if err != nil {
		t.Fatal(err)
	}
	const packets = 20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var r *trace.Record
	w.Do(func() { r, err = Follow(ctx, q, Options{For: time.Minute, Packets: packets}) })
	if err != nil || ctx.Err() != nil {
		t.Fatalf("%v; %d packets were not enough: %v", err, packets, ctx.Err())
	}
	if first := r.Events[0].At; first < 0 {
		t.Errorf("the first event is %v before the beginning", -first)
	}
	if got := len(trace.New(r).Packets); got < packets {
		t.Errorf("%d packets, want %d", got, packets)
	}
	if rules := w.ruleset(); strings.Contains(rules, namePrefix) {
		t.Errorf("it left:\n%s", rules)
	}
}

// TestOthersTrace: what somebody else has the kernel trace, also of the same
// client, neither counts nor is kept.
func TestOthersTrace(t *testing.T) {
	w := newWorker(t, true)
	w.load("table bridge others {\n chain everything { type filter hook prerouting priority -300; meta nftrace set 1\n}\n}\n")
	w.Run(t, "iptables-legacy", "-t", "raw", "-A", "PREROUTING", "-j", "TRACE")
	q, err := trace.ParseQuery("10.244.0.31", v4.endpoint.String()+"/tcp")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked := make(chan error, 1)
	var r *trace.Record
	w.Do(func() {
		r, err = Follow(ctx, q, Options{For: time.Minute, Packets: 5, Ready: func() {
			go func() {
				for range 20 {
					_, _ = w.send(w.client, v4.endpoint) // UDP, which nobody asked to see
				}
				asked <- w.get(w.client, v4.endpoint)
			}()
		}})
	})
	if err, err2 := err, <-asked; err != nil || err2 != nil || ctx.Err() != nil {
		t.Fatal(err, err2, ctx.Err())
	}
	for _, e := range r.Events {
		if e.Headers != nil && e.Headers.Protocol != trace.TCP {
			t.Errorf("an event of another's: %+v of %+v", e, e.Headers)
		}
	}
	if way := trace.New(r); way.Verdict != trace.Answered || len(way.Packets) != 5 {
		t.Errorf("%s, %d packets", way.Verdict, len(way.Packets))
	}
}

// TestGonePod: a pod that asks and ends, as a job does, is known by the time
// that the trace ends.
func TestGonePod(t *testing.T) {
	w := newWorker(t, true)
	f := &follower{devices: make(map[int]trace.Device), looked: make(map[int]bool)}
	index := map[string]int{}
	w.Do(func() {
		for _, name := range []string{"cnio0", "veth31", "veth1"} {
			if d, err := net.InterfaceByName(name); err == nil {
				index[name] = d.Index
			}
		}
		f.lookUpDevice(t.Context(), index["veth31"])
	})
	w.Run(t, "ip", "link", "del", "veth31")
	w.Do(func() { f.lookUpDevice(t.Context(), index["veth1"]) })
	for name, bridge := range map[string]string{"cnio0": "", "veth31": "cnio0", "veth1": "cnio0"} {
		if got := f.devices[index[name]]; got.Name != name || got.Bridge != bridge {
			t.Errorf("%s is %+v", name, got)
		}
	}
	if len(f.record.Notes) > 0 {
		t.Errorf("notes: %q", f.record.Notes)
	}
}

// TestNoConntrackEvents: without them less is known, and that is said.
func TestNoConntrackEvents(t *testing.T) {
	w := newWorker(t, true)
	w.load("table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.1:8080;\n}\n}\n")
	w.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_events=0")
	r := w.follow(v4.client.Addr().String(), v4.service.String(), func() {
		if err := w.get(w.client, v4.service); err != nil {
			t.Error(err)
		}
	})
	want := []string{"net.netfilter.nf_conntrack_events is 0: what conntrack knows of the connection is missing"}
	if way := trace.New(r); way.Verdict != trace.Answered || cmp.Diff(want, way.Notes) != "" {
		t.Errorf("%s, notes %q", way.Verdict, way.Notes)
	}
}

// TestConnection: what is kept of conntrack's news.
func TestConnection(t *testing.T) {
	q, err := trace.ParseQuery("10.0.0.31", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	one := func(id uint32, server string, replied, ended bool) trace.Connection {
		client, to := netip.MustParseAddrPort("10.0.0.31:40000"), netip.MustParseAddrPort(server)
		return trace.Connection{
			ID: id, Protocol: trace.TCP, Replied: replied, Ended: ended,
			Original: trace.Tuple{Source: client, Destination: to}, Reply: trace.Tuple{Source: to, Destination: client},
		}
	}
	f := &follower{query: q}
	for _, c := range []trace.Connection{
		one(1, "10.96.0.1:80", false, false),
		one(1, "10.96.0.1:80", true, false),
		one(1, "10.96.0.1:80", false, true),
		one(2, "10.96.0.1:80", false, false), // the same port is used once more
		one(3, "10.96.0.1:80", true, true),   // an old one
		one(4, "10.96.0.1:443", true, false), // another port
		one(5, "10.96.0.2:80", true, false),  // another server
	} {
		f.connection(c)
	}
	var got []string
	for _, c := range f.record.Connections {
		got = append(got, fmt.Sprintf("%d replied %t, ended %t", c.ID, c.Replied, c.Ended))
	}
	if diff := cmp.Diff([]string{"1 replied true, ended true", "2 replied false, ended false"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWanted: the kernel's id of a packet of ours is used again for one of
// another protocol, and for one of somebody else's.
func TestWanted(t *testing.T) {
	const name = namePrefix + "1"
	packet := func(identity string) *trace.Headers {
		return &trace.Headers{Source: v4.client, Destination: v4.endpoint, Identity: identity}
	}
	f := &follower{limits: Options{Packets: 9}, marks: &marks{name: name}, packets: make(map[string]spot), ids: make(map[uint32]bool)}
	for _, step := range []struct {
		what   string
		t      traceMessage
		wanted bool
	}{
		{"marked", traceMessage{table: name, begins: true, Event: trace.Event{ID: 7, Headers: packet("a"), Rule: &trace.Rule{Handle: 3}}}, true},
		{"further on", traceMessage{table: "nat", Event: trace.Event{ID: 7}}, true},
		{"under another id", traceMessage{table: "nat", begins: true, Event: trace.Event{ID: 8, Headers: packet("a")}}, true},
		{"a fragment", traceMessage{table: "nat", begins: true, Event: trace.Event{ID: 7}}, false},
		{"the fragment, further on", traceMessage{table: "nat", Event: trace.Event{ID: 7}}, false},
		{"somebody else's, seen by our chain", traceMessage{table: name, begins: true, Event: trace.Event{ID: 8, Headers: packet("b")}}, false},
		{"somebody else's, further on", traceMessage{table: "nat", Event: trace.Event{ID: 8}}, false},
	} {
		if got := f.wanted(&step.t); got != step.wanted {
			t.Errorf("%s: wanted %t", step.what, got)
		}
	}
	if f.count != 1 {
		t.Errorf("%d packets, want 1", f.count)
	}
}

// TestUnreadableLegacy: tables that cannot be read are said to be.
func TestUnreadableLegacy(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Do(func() {
		l, err := listenLegacy(unix.NFPROTO_IPV4)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = l.rule("nothing", "PREROUTING", 1)
		if got := fmt.Sprint(l.err); !strings.Contains(got, "nothing of iptables-legacy: ") {
			t.Errorf("error %s", got)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}
