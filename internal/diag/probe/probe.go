package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Result is what a probe in a world of its own has seen.
type Result struct {
	Settings Settings `json:"settings"`
	Cells    []Cell   `json:"cells"`
	Judgement
	Took time.Duration `json:"took_nsec"` // with the making of the world
}

// How long a question may take. In a world of our own an answer takes some
// 50 µs, but the machine can be busy, or stalled for a while: what stayed
// silent is asked once more at the end, all at the same time.
const (
	patience     = 300 * time.Millisecond // in a world of our own
	realPatience = time.Second            // on a real node
	lastPatience = time.Second            // of either, the second time
)

// port is where pods answer in a world of our own: that of echo (RFC 862).
const port = 7

// Run makes a world with those settings, asks in it, and leaves nothing of it.
// A question may take 300 ms, and one that stayed silent a second more, so that
// where everything is silent it takes 1.6 s. An error means that there was no
// world to ask in: it is unix.EPERM where privileges are missing, and [ErrNoNAT]
// where the kernel can't translate.
func Run(ctx context.Context, s Settings) (Result, error) {
	began := time.Now()
	w, err := newWorld(ctx, &s)
	if err != nil {
		return Result{}, err
	}
	defer w.close()
	stop, err := serve(ctx, w.families, w.client, w.server, w.remote)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	r := Result{Settings: s, Cells: w.ask(ctx, &s)}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	r.Judgement = s.judge(r.Cells)
	r.Took = time.Since(began)
	return r, nil
}

// ask puts the questions of a world with those settings.
func (w *world) ask(ctx context.Context, s *Settings) []Cell {
	cells := questions(s.NoIPv6)
	// Often, because the first ones can come before the world's links are up.
	hello := datagram{[]byte("nfguard"), 20 * time.Millisecond}
	ask := func(ctx context.Context, c *Cell) Answer { return w.client.ask(ctx, c.Protocol, c.Asked, hello) }
	// Pod IPs by UDP first, which is sent again and again: what follows finds
	// links that are up and neighbours that are known.
	round(ctx, patience, cells, ask, func(c *Cell) bool { return c.Outcome == "" && c.To == PodIP && c.Protocol == UDP })
	round(ctx, patience, cells, ask, func(c *Cell) bool { return c.Outcome == "" })
	round(ctx, lastPatience, cells, ask, func(c *Cell) bool { return c.silent() && !s.forbids(c) })
	return cells
}

// round asks some of cells, all at once.
func round(ctx context.Context, patience time.Duration, cells []Cell, ask func(context.Context, *Cell) Answer, some func(*Cell) bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all sync.WaitGroup
	for i := range cells {
		if c := &cells[i]; some(c) {
			all.Go(func() { c.Answer = ask(ctx, c) })
		}
	}
	all.Wait()
}

// silent reports whether nothing came: it may have come too late, or the link
// was not up yet.
func (c *Cell) silent() bool { return c.Outcome == TimedOut || c.Outcome == Failed }

// questions are those of a world: who is asked, and not yet what came of it.
func questions(noIPv6 string) []Cell {
	var cells []Cell
	for _, f := range []Family{IPv4, IPv6} {
		for _, q := range []struct {
			path Path
			to   Target
			who  addresses
		}{
			{Bridged, PodIP, serverAddresses},
			{Bridged, ClusterIP, serverService},
			{Routed, PodIP, remoteAddresses},
			{Routed, ClusterIP, remoteService},
			{Hairpin, ClusterIP, clientService},
		} {
			for _, p := range []Protocol{TCP, UDP} {
				c := Cell{Path: q.path, To: q.to, Family: f, Protocol: p, Asked: netip.AddrPortFrom(q.who.of(f), port)}
				if f == IPv6 && noIPv6 != "" {
					c.Outcome, c.Error = Absent, noIPv6
				}
				cells = append(cells, c)
			}
		}
	}
	return cells
}

// serve has pods answer until stop is called. TCP handshakes are the kernel's;
// datagrams go back as they came.
func serve(ctx context.Context, families []Family, pods ...*Pod) (stop func(), err error) {
	var closers []func() error
	var echoes sync.WaitGroup
	stop = func() {
		for _, c := range closers {
			_ = c()
		}
		echoes.Wait()
	}
	for _, p := range pods {
		for _, f := range families {
			wildcard := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
			if f == IPv6 {
				wildcard = netip.AddrPortFrom(netip.IPv6Unspecified(), port)
			}
			tcp, err := p.Listen(ctx, network("tcp", wildcard), wildcard.String())
			if err != nil {
				stop()
				return nil, fmt.Errorf("answer in a pod: %w", err)
			}
			closers = append(closers, tcp.Close)
			udp, err := p.ListenPacket(ctx, network("udp", wildcard), wildcard.String())
			if err != nil {
				stop()
				return nil, fmt.Errorf("answer in a pod: %w", err)
			}
			closers = append(closers, udp.Close)
			echoes.Go(func() { echo(udp) })
		}
	}
	return stop, nil
}

func echo(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		_, _ = conn.WriteTo(buf[:n], from) // a lost one is asked again
	}
}
