package conntrack_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/conntrack"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/lab"
)

func tuple(from, to netip.AddrPort) nfnl.Attrs {
	source, destination := uint16(nl.CTA_IP_V4_SRC), uint16(nl.CTA_IP_V4_DST)
	if from.Addr().Is6() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	port := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	return nfnl.Attrs{}.
		Nest(nl.CTA_TUPLE_IP, nfnl.Attrs{}.Bytes(source, from.Addr().AsSlice()).Bytes(destination, to.Addr().AsSlice())).
		Nest(nl.CTA_TUPLE_PROTO, nfnl.Attrs{}.U8(nl.CTA_PROTO_NUM, unix.IPPROTO_UDP).
			Bytes(nl.CTA_PROTO_SRC_PORT, port(from.Port())).Bytes(nl.CTA_PROTO_DST_PORT, port(to.Port())))
}

const (
	dnat       = 13     // CTA_NAT_DST
	minimum    = 1      // CTA_NAT_MINIP, of IPv4
	minimum6   = 4      // CTA_NAT_V6_MINIP
	confirmed  = 1 << 3 // IPS_CONFIRMED
	answered   = 1<<1 | 1<<2
	minSeconds = 600
)

// fill makes n connections in the namespace: to a Service that is translated to an
// endpoint, or to the endpoint itself.
func fill(tb testing.TB, n int, from, service, endpoint netip.Addr, status uint32) {
	tb.Helper()
	fd, err := rtnl.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(fd)
	family, least := byte(unix.AF_INET), uint16(minimum)
	if from.Is6() {
		family, least = unix.AF_INET6, minimum6
	}
	var batch []byte
	for i := range n {
		a := from.AsSlice()
		a[len(a)-2] += byte(i >> 16) // 65,536 ports an address
		source, _ := netip.AddrFromSlice(a)
		client, to, server := netip.AddrPortFrom(source, uint16(i)), netip.AddrPortFrom(service, 53), netip.AddrPortFrom(endpoint, 53)
		in := nfnl.Attrs{}.Nest(nl.CTA_TUPLE_ORIG, tuple(client, to)).Nest(nl.CTA_TUPLE_REPLY, tuple(to, client)).
			U32(nl.CTA_STATUS, status).U32(nl.CTA_TIMEOUT, minSeconds)
		if server != to {
			in = in.Nest(dnat, nfnl.Attrs{}.Bytes(least, endpoint.AsSlice()))
		}
		batch = append(batch, nfnl.Request(unix.NFNL_SUBSYS_CTNETLINK<<8, unix.NLM_F_CREATE, family, in)...)
		if len(batch) > 16<<10 || i == n-1 {
			if err := unix.Send(fd, batch, 0); err != nil {
				tb.Fatal("make connections:", err)
			}
			batch = batch[:0]
		}
	}
}

var (
	client   = netip.MustParseAddr("10.244.0.31")
	client6  = netip.MustParseAddr("fd00:244::31")
	service  = netip.MustParseAddr("10.96.0.10")
	service6 = netip.MustParseAddr("fd00:96::10")
	pod      = netip.MustParseAddr("10.244.0.1")
	pod6     = netip.MustParseAddr("fd00:244::1")
)

// TestTranslated: of both families, what is translated and unreplied, and nothing else.
func TestTranslated(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	ns := lab.NewNamespace(t)
	var got []conntrack.Tuple
	ns.Do(func() {
		fill(t, 3, client, service, pod, confirmed)
		fill(t, 5, client, netip.MustParseAddr("10.96.0.11"), pod, confirmed|answered)
		fill(t, 7, client, pod, pod, confirmed)
		fill(t, 2, client6, service6, pod6, confirmed)
		err := conntrack.Translated(t.Context(), func(c *conntrack.Connection) bool {
			if c.Protocol != unix.IPPROTO_UDP || c.Replied || c.Ended || c.Reply.Destination != c.Original.Source || c.ID == 0 {
				t.Errorf("%+v", c)
			}
			got = append(got, conntrack.Tuple{Source: c.Reply.Source, Destination: c.Original.Destination})
			return true
		})
		if err != nil {
			t.Error(err)
		}
	})
	one := conntrack.Tuple{Source: netip.AddrPortFrom(pod, 53), Destination: netip.AddrPortFrom(service, 53)}
	six := conntrack.Tuple{Source: netip.AddrPortFrom(pod6, 53), Destination: netip.AddrPortFrom(service6, 53)}
	if want := []conntrack.Tuple{one, one, one, six, six}; !slices.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}

	n := 0
	ns.Do(func() {
		if err := conntrack.Translated(t.Context(), func(*conntrack.Connection) bool { n++; return n < 2 }); err != nil {
			t.Error(err)
		}
	})
	if n != 2 {
		t.Errorf("it went on to %d when 2 were enough", n)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ns.Do(func() {
		if err := conntrack.Translated(ctx, func(*conntrack.Connection) bool { return true }); !errors.Is(err, context.Canceled) {
			t.Errorf("a look that is not wanted any more: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(nfnl.Request(unix.NFNL_SUBSYS_CTNETLINK<<8, 0, unix.AF_INET, nfnl.Attrs{}.
		Nest(nl.CTA_TUPLE_ORIG, tuple(netip.AddrPortFrom(client, 1), netip.AddrPortFrom(service, 53))))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := conntrack.Parse(b); ok && (!c.Original.Source.IsValid() || !c.Reply.Source.IsValid()) {
			t.Errorf("a connection of nobody: %+v", c)
		}
	})
}

// A full table, of connections that are answered, and of such as are counted.
func BenchmarkTranslated(b *testing.B) {
	lab.Need(b, lab.Root, lab.Netns)
	for _, of := range []struct {
		name     string
		endpoint netip.Addr
		status   uint32
	}{{"answered", service, confirmed | answered}, {"unreplied", pod, confirmed}} {
		b.Run(of.name, func(b *testing.B) {
			ns := lab.NewNamespace(b)
			ns.Do(func() {
				fill(b, 250_000, client, service, of.endpoint, of.status)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					n = 0
					if err := conntrack.Translated(b.Context(), func(*conntrack.Connection) bool { n++; return true }); err != nil {
						b.Error(err)
					}
				}
				b.ReportMetric(float64(n), "connections")
			})
		})
	}
}
