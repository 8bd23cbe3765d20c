// Package kernel asks the kernel for the way of a connection. For as long as it
// listens it has tables of its own in nf_tables, which mark the packets of that
// connection for the kernel's trace and let everything pass; those of others
// are only read. All of it is about the network namespace of the calling
// thread, and needs CAP_NET_ADMIN there.
package kernel

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
	"github.com/nfguard/nfguard/internal/trace"
)

// Options bound a trace.
type Options struct {
	For     time.Duration // how long it listens
	Packets int           // after so many packets it has seen enough

	// Ready is called when packets are marked from now on. It may be nil.
	Ready func()
}

// Follow listens until a bound is reached or ctx ends, which is no error, and
// returns what it heard. The tables are gone when it returns; where it is
// killed, the kernel removes them with the socket, and before Linux 5.12 the
// next Follow does.
func Follow(ctx context.Context, q trace.Query, o Options) (*trace.Record, error) {
	runtime.LockOSThread() // for /proc/thread-self and the sockets' namespace
	defer runtime.UnlockOSThread()

	f := &follower{query: q, news: make(chan news, backlog)}
	r, err := f.follow(ctx, o)
	if err != nil {
		return nil, err
	}
	return r, nil
}

type follower struct {
	query  trace.Query
	rules  *ruleset
	legacy *legacy // nil where iptables-legacy has no tables
	news   chan news
	record trace.Record
	limits Options
	seen   map[string]bool // packets, by what tells them apart: whether they are the client's
	count  int             // of the client's
	ids    map[uint32]bool // whether the events with that id are of one of them
}

// news is a datagram of one of the groups, or the news that some was lost.
type news struct {
	at    time.Time
	group int
	b     []byte
	lost  bool
}

// buffer of each group, for what has not been read yet: a packet makes some
// thirty events of half a kilobyte.
const buffer = 4 << 20

// backlog is how many events wait while the rules of a chain are read: with
// 10,000 Services that takes a tenth of a second.
const backlog = 1 << 15

// grace is how long the events of the last packet may take.
const grace = 100 * time.Millisecond

func (f *follower) follow(ctx context.Context, o Options) (_ *trace.Record, err error) {
	family := byte(unix.NFPROTO_IPV4)
	if f.query.Client.Is6() {
		family = unix.NFPROTO_IPV6
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	if f.rules, err = newRuleset(); err != nil {
		return nil, err
	}
	defer f.rules.close()
	tracked, err := f.rules.tracks(family)
	if err != nil {
		return nil, err
	}

	if f.legacy, err = openLegacy(family); err != nil {
		f.note(err.Error())
	}
	if f.legacy != nil {
		defer func() { err = errors.Join(err, f.legacy.close()) }()
	}

	// Who listens first misses nothing.
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	if err := f.listen(listening, &readers); err != nil {
		return nil, err
	}
	m, err := mark(f.query, tracked)
	if err != nil {
		return nil, err
	}
	if !m.bridge {
		f.note("this kernel has no nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE): what crosses a bridge at layer 2 is not seen")
	}

	f.record.Query, f.record.Started = f.query, time.Now()
	f.record.Host, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.record.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if o.Ready != nil {
		o.Ready()
	}
	f.collect(ctx, o)
	f.record.Lasted = time.Since(f.record.Started)
	if err := m.close(); err != nil {
		return nil, err
	}
	if err := f.lookAround(context.WithoutCancel(ctx), family); err != nil {
		return nil, err
	}
	return &f.record, nil
}

// listen joins the groups and reads them until ctx ends.
func (f *follower) listen(ctx context.Context, readers *sync.WaitGroup) error {
	if f.legacy != nil {
		readers.Go(func() { f.read(ctx, f.legacy.group, logged) })
	}
	for _, group := range []int{unix.NFNLGRP_NFTRACE, unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_UPDATE, unix.NFNLGRP_CONNTRACK_DESTROY} {
		g, err := rtnl.Join(unix.NETLINK_NETFILTER, group, nil, buffer)
		if err != nil {
			return err
		}
		readers.Go(func() {
			defer g.Close()
			f.read(ctx, g, group)
		})
	}
	return nil
}

func (f *follower) read(ctx context.Context, g *rtnl.Group, group int) {
	b := make([]byte, 1<<16)
	for {
		n, err := g.Receive(ctx, b)
		one := news{at: time.Now(), group: group, b: append([]byte{}, b[:n]...), lost: errors.Is(err, unix.ENOBUFS)}
		if err != nil && !one.lost {
			return // ctx has ended
		}
		select {
		case f.news <- one:
		case <-ctx.Done():
			return
		}
	}
}

// collect takes the news until a bound is reached, and what is there then.
func (f *follower) collect(ctx context.Context, o Options) {
	f.limits, f.seen, f.ids = o, make(map[string]bool), make(map[uint32]bool)
	end := time.NewTimer(o.For)
	defer end.Stop()
	for done, ending := ctx.Done(), false; ; {
		select {
		case <-done:
			done = nil
			end.Reset(0)
		case <-end.C:
			for {
				select {
				case one := <-f.news:
					f.take(one)
				default:
					return
				}
			}
		case one := <-f.news:
			f.take(one)
			if !ending && f.full() {
				ending = true
				end.Reset(grace)
			}
		}
	}
}

func (f *follower) full() bool { return f.count >= f.limits.Packets }

// wanted reports whether an event is of a packet within the limit. Somebody
// else may trace packets, too: those do not count.
func (f *follower) wanted(e *trace.Event) bool {
	if h := e.Headers; h != nil {
		ours, known := f.seen[h.Identity]
		if !ours && !f.full() {
			ours = h.Source.Addr() == f.query.Client || h.Destination.Addr() == f.query.Client
			f.seen[h.Identity], known = ours, true
			if ours {
				f.count++
			}
		}
		f.ids[e.ID] = known
	}
	return f.ids[e.ID]
}

func (f *follower) take(one news) {
	switch {
	case one.lost:
		if f.full() {
			break // that was of others
		}
		f.note("more came at once than could be read: parts of the way are missing")
	case one.group == unix.NFNLGRP_NFTRACE:
		if t, ok := parseTrace(one.b); ok {
			e := f.rules.resolve(&t)
			e.At = one.at.Sub(f.record.Started)
			if f.wanted(&e) {
				f.record.Events = append(f.record.Events, e)
			}
		}
	case one.group == logged:
		if e, ok := f.legacy.parse(one.b); ok {
			e.At = one.at.Sub(f.record.Started)
			f.record.Events = append(f.record.Events, e) // others than seen are left out by [trace.New]
		}
	default:
		if c, ok := parseConntrack(one.b); ok {
			f.connection(c)
		}
	}
}

// connection keeps what is known last of each connection of the client's.
func (f *follower) connection(c trace.Connection) {
	if c.Original.Source.Addr() != f.query.Client {
		return
	}
	for i := range f.record.Connections {
		old := &f.record.Connections[i]
		if old.Protocol == c.Protocol && old.Original == c.Original && old.Reply == c.Reply {
			c.Replied = c.Replied || old.Replied
			*old = c
			return
		}
	}
	f.record.Connections = append(f.record.Connections, c)
}

func (f *follower) note(sentence string) {
	for _, n := range f.record.Notes {
		if n == sentence {
			return
		}
	}
	f.record.Notes = append(f.record.Notes, sentence)
}

// lookAround reads what the way leads through.
func (f *follower) lookAround(ctx context.Context, family byte) (err error) {
	if f.record.Devices, err = devices(ctx); err != nil {
		return err
	}
	f.record.Handing, err = handing(ctx, family)
	return err
}
