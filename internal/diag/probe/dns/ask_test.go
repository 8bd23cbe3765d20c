package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/diag/probe/dns/dnstest"
)

// listen opens the sockets of a server on one free port of the loopback.
func listen(t *testing.T) (*net.UDPConn, net.Listener, netip.AddrPort) {
	t.Helper()
	for range 10 { // the port may be taken for TCP
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := netip.MustParseAddrPort(l.Addr().String())
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err == nil {
			return c, l, at
		}
		l.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil, netip.AddrPort{}
}

// raw answers each datagram with what answer makes of it, and with nothing
// where that is nil.
func raw(t *testing.T, answer func([]byte) [][]byte) netip.AddrPort {
	t.Helper()
	c, l, at := listen(t)
	l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDPAddrPort(packet)
			if err != nil {
				return // closed below
			}
			for _, p := range answer(packet[:n]) {
				c.WriteToUDPAddrPort(p, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return at
}

// altered is a copy with one byte changed.
func altered(p []byte, at int, to byte) []byte {
	p = append([]byte(nil), p...)
	p[at] = to
	return p
}

func TestAsk(t *testing.T) {
	const patience = 300 * time.Millisecond
	serve := func(s *dnstest.Server, tcp bool) netip.AddrPort {
		c, l, at := listen(t)
		if !tcp {
			l.Close()
			l = nil
		}
		s.Serve(t, c, l)
		return at
	}
	good := serve(&dnstest.Server{Records: dnstest.Records("10.32.0.1"), Forward: true}, true)
	none := serve(&dnstest.Server{Records: dnstest.Records("10.32.0.1")}, true)
	long := serve(&dnstest.Server{Records: dnstest.Records("10.32.0.1"), Long: true}, true)
	udpOnly := serve(&dnstest.Server{Records: dnstest.Records("10.32.0.1"), Long: true}, false)
	c, l, closed := listen(t)
	c.Close()
	l.Close()
	silent := raw(t, func([]byte) [][]byte { return nil })
	// A reply has the id, the bit QR in byte 2 and the rcode in byte 3; a
	// question begins in byte 12.
	const header = 12
	garbage := raw(t, func(q []byte) [][]byte { return [][]byte{append(altered(q, 2, 0x80)[:header], 0xff)} })
	other := raw(t, func(q []byte) [][]byte { return [][]byte{altered(altered(q, 2, 0x80), header+1, 'x')} })
	late := raw(t, func(q []byte) [][]byte { // first the reply to an ask of another id, a question, and rubbish
		return [][]byte{altered(altered(q, 2, 0x80), 0, ^q[0]), q, {1}, altered(q, 2, 0x80)}
	})
	terse := raw(t, func(q []byte) [][]byte { // a refusal that leaves the question out
		return [][]byte{altered(altered(altered(q, 2, 0x80), 3, 5), 5, 0)[:header]}
	})
	odd := raw(t, func(q []byte) [][]byte { return [][]byte{altered(altered(q, 2, 0x80), 3, 15)} })

	tests := []struct {
		name   string
		server netip.AddrPort
		ask    string
		want   Ask
	}{
		{"answered", good, clusterName, Ask{Outcome: Answered, Rcode: noError, Answers: []string{"10.32.0.1"}, Source: good}},
		{"forwarded", good, worldName, Ask{Outcome: Answered, Rcode: noError, Answers: []string{"192.0.2.80"}, Source: good}},
		{"no such name", good, "no.cluster.local.", Ask{Outcome: Answered, Rcode: nxDomain, Source: good}},
		{"not forwarded", none, worldName, Ask{Outcome: Answered, Rcode: servFail, Source: none}},
		{"no one listens", closed, clusterName, Ask{Outcome: Refused, Detail: "connection refused"}},
		{"silence", silent, clusterName, Ask{Outcome: Timeout, Detail: "no reply within 300ms"}},
		{"garbage", garbage, clusterName, Ask{Outcome: Malformed, Detail: "bad question name: dns: buffer size too small"}},
		{"another question", other, clusterName, Ask{Outcome: Malformed, Detail: "the reply is to another question"}},
		{"another id first", late, clusterName, Ask{Outcome: Answered, Rcode: noError, Source: late}},
		{"a refusal without the question", terse, clusterName, Ask{Outcome: Answered, Rcode: refusal, Source: terse}},
		{"an rcode without a name", odd, clusterName, Ask{Outcome: Answered, Rcode: "RCODE15", Source: odd}},
		{"too long, and TCP closed", udpOnly, clusterName, Ask{Outcome: Truncated, TCP: true, Source: udpOnly, Detail: "connection refused"}},
		{"no name", good, "a..b.", Ask{Outcome: Unsent, Detail: "dns: bad rdata"}},
	}
	ignore := cmpopts.IgnoreFields(Ask{}, "Server", "Name", "Usec")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(context.Background(), Own{}, tt.server, tt.ask, patience)
			if diff := cmp.Diff(tt.want, got, ignore, compareAddrPort); diff != "" || got.Server != tt.server || got.Name != tt.ask {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if replied := got.Outcome == Answered; replied && (got.Usec <= 0 || got.Usec > patience.Microseconds()) {
				t.Errorf("it took %dµs", got.Usec)
			}
		})
	}
	t.Run("too long, and TCP open", func(t *testing.T) {
		got := ask(context.Background(), Own{}, long, clusterName, patience)
		if got.Outcome != Answered || !got.TCP || len(got.Answers) != 100 || got.Rcode != noError {
			t.Errorf("%+v", got)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(10*time.Millisecond, func() { cancel(errors.New("enough")) })
		began := time.Now()
		got := ask(ctx, Own{}, silent, clusterName, time.Minute)
		if got.Outcome != Unsent || got.Detail != "enough" || time.Since(began) > 10*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), got)
		}
	})
}

var compareAddrPort = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// Each ask has a port and an id of its own: else kube-proxy's rules would take
// all to the same replica, and one late reply would do for another ask.
func TestAsksDiffer(t *testing.T) {
	const n = 20
	asked := make(chan [2]uint16, 100)
	c, l, at := listen(t)
	l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 512)
		for {
			_, from, err := c.ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			asked <- [2]uint16{from.Port(), uint16(packet[0])<<8 | uint16(packet[1])}
		}
	}()
	plan := Plan{Server: at, Questions: Questions("cluster.local", "", "", nil), Tries: n, Timeout: 200 * time.Millisecond}
	r := Run(context.Background(), Own{}, plan)
	c.Close()
	<-done
	close(asked)
	ports, ids := map[uint16]bool{}, map[uint16]bool{}
	for a := range asked {
		ports[a[0]], ids[a[1]] = true, true
	}
	if len(r.Asks) != n || len(ports) != n || len(ids) < n-1 {
		t.Errorf("%d asks from %d ports with %d ids", len(r.Asks), len(ports), len(ids))
	}
}

// An external name that fails is followed by one that no cache has, and only
// that tells a slow upstream from none.
func TestRunExternal(t *testing.T) {
	tests := []struct {
		name   string
		server *dnstest.Server
		want   []Cause
	}{
		{"no forward", &dnstest.Server{Records: dnstest.Records("10.32.0.1")}, []Cause{NoForward}},
		{"a forward whom nobody answers", &dnstest.Server{Records: dnstest.Records("10.32.0.1"), Upstream: 50 * time.Millisecond}, []Cause{UpstreamFails}},
		{"a forward that is slower than we are", &dnstest.Server{Records: dnstest.Records("10.32.0.1"), Upstream: 400 * time.Millisecond}, []Cause{UpstreamFails}},
		{"a forward", &dnstest.Server{Records: dnstest.Records("10.32.0.1"), Forward: true}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, l, at := listen(t)
			tt.server.Serve(t, c, l)
			r := Run(context.Background(), Own{}, Plan{
				Server: at, Questions: Questions("cluster.local", "kubernetes.io", "", nil), Tries: 4, Timeout: 300 * time.Millisecond,
			})
			d := Diagnose(&r)
			if diff := cmp.Diff(tt.want, causes(&d)); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, d.Findings)
			}
		})
	}
}

func causes(d *Diagnosis) []Cause {
	var list []Cause
	for _, f := range d.Findings {
		list = append(list, f.Cause)
	}
	return list
}
