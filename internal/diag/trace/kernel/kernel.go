// Package kernel asks the kernel for the path of a connection. For as long as it
// listens it has tables of its own in nf_tables, which mark the packets of that
// connection for the kernel's trace and let everything pass; those of others
// are only read. All of it is about the network namespace of the calling
// thread, and needs CAP_NET_ADMIN there.
package kernel

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Options bound a trace.
type Options struct {
	For     time.Duration // how long it listens
	Packets int           // after so many packets it has seen enough: [MostPackets] at the most

	// Send has the trace make the request itself, from the network namespace that
	// has the client's address. It ends soon after the request has.
	Send bool

	// Capture keeps the packets of the connection as they came by: see [Packets].
	Capture *Packets

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

	f := &follower{
		query: q, limits: o, news: make(chan news, backlog),
		packets: make(map[string]spot), ids: make(map[uint32]bool), devices: make(map[int]trace.Device), looked: make(map[int]bool),
		own: ownInode(), places: make(map[uint64]trace.Place), tenants: make(map[uint64]tenant),
	}
	if err := f.follow(ctx); err != nil {
		return nil, err
	}
	return &f.record, nil
}

type follower struct {
	query   trace.Query
	limits  Options
	rules   *ruleset
	legacy  *legacy // nil where iptables-legacy has no tables
	marks   *marks
	news    chan news
	record  trace.Record
	packets map[string]spot // ours, by what tells them apart: where each was marked first
	count   int             // of packets: those that look alike, too
	ids     map[uint32]bool // the kernel's for our packets
	devices map[int]trace.Device
	looked  map[int]bool // the devices that a packet came by
	most    int          // events, until [follower.forget] goes through them

	own     uint64                 // the inode of this network namespace
	places  map[uint64]trace.Place // it, and those that its devices lead into, by inode
	tenants map[uint64]tenant      // of the others
	before  map[uint64]map[string]uint64
	drops   *watcher // nil where the kernel does not tell of drops
	capture *capture // nil where nothing is kept
	learned map[netip.Addr]bool
}

// spot is one of our rules, and the device that a packet came in by.
type spot struct {
	family byte
	handle uint64
	in     int
}

// news is a datagram of one of the groups, or why there is none.
type news struct {
	at    time.Time
	group int
	b     []byte
	err   error
}

// buffer of each group, for what has not been read yet: a packet makes some
// thirty events of half a kilobyte.
const buffer = 4 << 20

// backlog is how many events wait while the rules of a chain are read: with
// 10,000 Services that takes a tenth of a second.
const backlog = 1 << 15

// grace is how long the events of the last packet may take.
const grace = 100 * time.Millisecond

func (f *follower) follow(ctx context.Context) (err error) {
	family := byte(unix.NFPROTO_IPV4)
	if f.query.Client.Is6() {
		family = unix.NFPROTO_IPV6
	}
	if err := sweep(); err != nil {
		return err
	}
	if f.rules, err = newRuleset(); err != nil {
		return err
	}
	defer f.rules.close()
	tracked, err := f.rules.tracks(family)
	if err != nil {
		return err
	}
	if events, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_events"); err == nil && tracked && string(events) == "0\n" {
		f.note("net.netfilter.nf_conntrack_events is 0: what conntrack knows of the connection is missing")
	}

	if f.legacy, err = openLegacy(family); err != nil {
		f.note(err.Error())
	}
	if f.legacy != nil {
		defer func() { err = errors.Join(err, f.legacy.close()) }()
	}

	f.learnPlaces()
	var sender *sender
	if f.limits.Send {
		if sender, err = f.newSender(ctx); err != nil {
			return err
		}
	}
	f.countAtStart()
	if f.drops, err = watchDrops(f.query.Client, f.query.Server); err != nil {
		f.note("the kernel's reasons for drops are missing, settings and counters have to tell: " + err.Error())
	} else {
		defer func() { _, _ = f.drops.close() }() // once more, where an error has come between
	}
	if f.limits.Capture != nil {
		if f.capture, err = startCapture(f.limits.Capture, f.query); err != nil {
			return err
		}
		defer f.capture.close()
	}

	// Who listens first misses nothing.
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	if err := f.listen(listening, &readers); err != nil {
		return err
	}
	f.record.Query, f.record.Started = f.query, time.Now()
	if f.marks, err = mark(f.query, tracked); err != nil {
		return err
	}
	if !f.marks.bridge {
		f.note("this kernel has no nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE): what crosses a bridge at layer 2 is not seen")
	}
	f.record.Host, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.record.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if f.limits.Ready != nil {
		f.limits.Ready()
	}
	if err := f.collectUntilSent(ctx, sender); err != nil {
		return err
	}
	f.record.Lasted = time.Since(f.record.Started)
	f.record.Facts = f.facts(context.WithoutCancel(ctx)) // before anything of it goes
	if err := f.marks.close(); err != nil {
		return err
	}
	if f.drops != nil {
		heard, err := f.drops.close()
		if err != nil {
			f.note(err.Error())
		}
		if len(heard) > 0 {
			f.learnPlaces() // once more: a pod may have come since
		}
		f.record.Drops = f.placed(heard)
	}
	if f.capture != nil {
		f.capture.close()
	}
	if f.legacy != nil && f.legacy.err != nil {
		f.note("rules of iptables-legacy are shown by their number only: " + f.legacy.err.Error())
	}
	f.record.Devices = slices.SortedFunc(maps.Values(f.devices), func(a, b trace.Device) int { return a.Index - b.Index })
	if f.record.Handing, err = handing(context.WithoutCancel(ctx), family); err != nil {
		f.note("the flags of the bridges could not be read: " + err.Error())
	}
	return nil
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
		select {
		case f.news <- news{at: time.Now(), group: group, b: bytes.Clone(b[:n]), err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}
