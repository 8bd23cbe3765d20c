package kernel

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
)

// collect takes the news until a bound is reached. Then nothing more is marked,
// and what is on its way is followed to its end.
func (f *follower) collect(ctx context.Context) {
	f.takeFor(ctx, f.limits.For, f.limits.Packets)
	if err := f.marks.quiet(); err != nil {
		f.note(err.Error())
	}
	ctx = context.WithoutCancel(ctx)
	for range 5 { // a machine that stalls for all of one has the others
		f.takeFor(ctx, grace/5, math.MaxInt)
	}
	for range len(f.news) {
		f.take(ctx, <-f.news)
	}
	f.most = 0
	f.forget(math.MaxInt64)
}

// settle is how long a request that has ended is listened to: the kernel tells of
// some drops only when it has given up.
const settle = 300 * time.Millisecond

// collectUntilSent is collect, and where the trace makes the request itself it
// ends soon after that.
func (f *follower) collectUntilSent(ctx context.Context, s *sender) error {
	if s == nil {
		f.collect(ctx)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan *trace.Sent, 1)
	go func() {
		sent <- s.send(ctx, max(f.limits.For-settle, f.limits.For/2))
		select {
		case <-time.After(settle):
		case <-ctx.Done():
		}
		cancel()
	}()
	f.collect(ctx)
	cancel()
	f.record.Sent = <-sent
	f.record.Query.From = f.record.Sent.Port // others of the same client are not meant
	return nil
}

// takeFor takes the news until d is over, ctx ends, or so many packets have
// been seen.
func (f *follower) takeFor(ctx context.Context, d time.Duration, packets int) {
	end := time.NewTimer(d)
	defer end.Stop()
	for f.count < packets {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case one := <-f.news:
			f.take(context.WithoutCancel(ctx), one)
		}
	}
}

// wanted reports whether an event is of a packet that our tables have marked,
// within the limit. Somebody else may trace packets, too: of those nothing is
// kept. Ids are used again.
func (f *follower) wanted(t *traceMessage) bool {
	h := t.Headers
	if h == nil {
		if t.begins { // a packet of which nothing can be made
			delete(f.ids, t.ID)
		}
		return f.ids[t.ID]
	}
	if t.Rule != nil && t.table == f.marks.name && f.count < f.limits.Packets {
		here := spot{t.family, t.Rule.Handle, t.In}
		first, known := f.packets[h.Identity]
		if !known {
			f.packets[h.Identity] = here
		}
		if !known || here == first { // marked there once more, it is another one that looks alike
			f.count++
		}
	}
	if _, ours := f.packets[h.Identity]; !ours {
		delete(f.ids, t.ID)
		return false
	}
	f.ids[t.ID] = true
	return true
}

func (f *follower) take(ctx context.Context, one news) {
	switch {
	case errors.Is(one.err, unix.ENOBUFS):
		// What was lost comes behind all that the buffer holds: when there is
		// enough already, it is of others.
		if f.count < f.limits.Packets {
			f.note("more came at once than could be read: parts of the path are missing")
		}
	case one.err != nil:
		f.note("parts of the path are missing: " + one.err.Error())
	case one.group == unix.NFNLGRP_NFTRACE:
		if t, ok := parseTrace(one.b); ok && f.wanted(&t) {
			e := f.rules.resolve(&t)
			f.lookUpDevice(ctx, e.In)
			f.lookUpDevice(ctx, e.Out)
			e.At = one.at.Sub(f.record.Started)
			f.record.Events = append(f.record.Events, e)
		}
	case one.group == logged:
		if e, ok := f.legacy.parse(one.b); ok {
			e.At = one.at.Sub(f.record.Started)
			f.record.Events = append(f.record.Events, e)
			f.forget(e.At - grace) // nf_tables may tell of the packet only after this
		}
	default:
		if c, ok := parseConntrack(one.b); ok {
			f.connection(c)
		}
	}
}

// forget drops what iptables-legacy told, until then, of packets that are not
// ours, when there is much of it.
func (f *follower) forget(until time.Duration) {
	if len(f.record.Events) < f.most {
		return
	}
	f.record.Events = slices.DeleteFunc(f.record.Events, func(e trace.Event) bool {
		if e.Backend != "legacy" || e.At > until {
			return false
		}
		_, ours := f.packets[e.Headers.Identity]
		return !ours
	})
	f.most = 2*len(f.record.Events) + 1<<10
}

// lookUpDevice finds out who is behind a device when the first packet comes by it: a
// pod may be gone a moment later. An index of zero is none.
func (f *follower) lookUpDevice(ctx context.Context, index int) {
	if index == 0 || f.looked[index] {
		return
	}
	list, err := devices(ctx)
	if err != nil {
		f.note(err.Error())
	}
	for _, d := range list {
		if !f.looked[d.Index] {
			f.devices[d.Index] = d
		}
	}
	f.looked[index] = true
}

// connection keeps what is known last of each connection that was asked for.
// Old ones that end are no news: their packets were never seen.
func (f *follower) connection(c trace.Connection) {
	if !f.query.Covers(c.Protocol, c.Original.Source, c.Original.Destination) {
		return
	}
	i := slices.IndexFunc(f.record.Connections, func(old trace.Connection) bool {
		return old.ID == c.ID && old.Protocol == c.Protocol && old.Original == c.Original && old.Reply == c.Reply
	})
	switch {
	case i >= 0:
		c.Replied = c.Replied || f.record.Connections[i].Replied
		f.record.Connections[i] = c
	case !c.Ended:
		f.record.Connections = append(f.record.Connections, c)
		f.learn(c.Endpoint().Addr())
	}
}

// learn has the drops and the packets of an address told of, too: that of an
// endpoint, whose other end can be the node's by masquerading.
func (f *follower) learn(a netip.Addr) {
	if f.learned[a] || a == f.query.Client || a == f.query.Server {
		return
	}
	if f.learned == nil {
		f.learned = make(map[netip.Addr]bool)
	}
	f.learned[a] = true
	if f.drops != nil {
		if err := f.drops.watch.Add(a); err != nil {
			f.note(err.Error())
		}
	}
	if f.capture != nil {
		if err := f.capture.add(a); err != nil {
			f.note(err.Error())
		}
	}
}

func (f *follower) note(sentence string) {
	if !slices.Contains(f.record.Notes, sentence) {
		f.record.Notes = append(f.record.Notes, sentence)
	}
}
