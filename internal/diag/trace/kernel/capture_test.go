package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/trace"
)

// captured reads a file of packets: "10.0.0.1:1 > 10.0.0.2:2 SYN", each once,
// however many devices it came by.
func captured(t *testing.T, b []byte) (list []string) {
	t.Helper()
	le := binary.LittleEndian
	if len(b) < 24 || le.Uint32(b) != 0xa1b23c4d || le.Uint32(b[20:]) != 276 {
		t.Fatalf("it begins with %x", b[:min(24, len(b))])
	}
	for b = b[24:]; len(b) > 0; {
		if age := time.Since(time.Unix(int64(le.Uint32(b)), int64(le.Uint32(b[4:])))); age < 0 || age > time.Hour {
			t.Errorf("a packet is %v old", age)
		}
		n := int(le.Uint32(b[8:]))
		one := b[16 : 16+n]
		b = b[16+n:]
		if binary.BigEndian.Uint32(one[4:]) == 0 {
			t.Error("a packet was at no device")
		}
		h, _ := split(one[sll2:])
		if h == nil {
			t.Fatalf("what is captured is no packet: %x", one)
		}
		if s := fmt.Sprintf("%s %s > %s %s", h.Protocol, h.Source, h.Destination, h.Flags); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// TestCapture: of all that comes by, the file has one connection, at both sides of
// its translation.
func TestCapture(t *testing.T) {
	w := newWorker(t, true)
	w.load("table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.1:8080;\n}\n}\n")
	w.client.Inhabit(t)
	q, err := trace.ParseQuery("10.244.0.31", "10.96.0.1:80/tcp")
	if err != nil {
		t.Fatal(err)
	}
	packets := &Packets{}
	var r *trace.Record
	w.Do(func() {
		r, err = Follow(t.Context(), q, Options{For: time.Minute, Packets: 1000, Send: true, Capture: packets, Ready: func() {
			for _, other := range []string{"10.244.0.1:8080", "10.244.0.254:9"} { // of the same client
				_ = w.get(w.client, netip.MustParseAddrPort(other))
			}
		}})
	})
	if err != nil {
		t.Fatal(err)
	}
	way := trace.New(r)
	if way.Verdict != trace.Answered || len(way.Connections) != 1 {
		t.Fatalf("%s, %d connections", way.Verdict, len(way.Connections))
	}
	client := way.Connections[0].Original.Source
	got := captured(t, packets.PCAP(way))
	if len(got) < 6 {
		t.Errorf("only %d different packets", len(got))
	}
	ends := map[string]bool{}
	for _, line := range got {
		var protocol, from, to string
		if _, err := fmt.Sscanf(line, "%s %s > %s", &protocol, &from, &to); err != nil {
			t.Fatal(err)
		}
		if from != client.String() && to != client.String() {
			t.Errorf("of another connection: %s", line)
		}
		ends[from], ends[to] = true, true
	}
	want := map[string]bool{client.String(): true, "10.96.0.1:80": true, "10.244.0.1:8080": true}
	if diff := cmp.Diff(want, ends); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
}
