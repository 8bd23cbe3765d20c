package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/demo/box"
)

// idle is what the daemon costs when nothing happens.
type idle struct {
	rss, pss, anonymous int // KiB
	threads             int
	wakeups, switches   float64       // per second
	cpu                 time.Duration // over the window
	window              time.Duration
	err                 error
}

// churn is what the daemon costs while devices come and go.
type churn struct {
	what    string
	events  int
	cpu     time.Duration
	elapsed time.Duration
	err     error
}

// share is nfguard's share of one core, in per cent.
func (c *churn) share() float64 { return 100 * c.cpu.Seconds() / c.elapsed.Seconds() }

func (b *bench) idleCost(ctx context.Context) (cost idle) {
	progress("idle: %v to settle, %v of watching", b.calm, b.idle)
	cost.err = b.withDaemon(ctx, func(in *box.Box, pid int) error {
		if err := sleep(ctx, b.calm); err != nil {
			return err
		}
		before, err := switches(pid)
		if err != nil {
			return err
		}
		cpuBefore, err := cpuTime(pid)
		if err != nil {
			return err
		}
		began := time.Now()
		woken, err := wakeups(ctx, pid, b.idle)
		if err != nil {
			return err
		}
		after, err := switches(pid)
		if err != nil {
			return err
		}
		cpuAfter, err := cpuTime(pid)
		if err != nil {
			return err
		}
		cost.window = time.Since(began)
		cost.wakeups = float64(woken) / cost.window.Seconds()
		cost.switches = float64(after-before) / cost.window.Seconds()
		cost.cpu = cpuAfter - cpuBefore
		return cost.memory(pid)
	})
	return cost
}

func (c *idle) memory(pid int) error {
	path := fmt.Sprintf("/proc/%d/", pid)
	for _, f := range []struct {
		path, key string
		into      *int
	}{
		{path + "smaps_rollup", "Rss:", &c.rss},
		{path + "smaps_rollup", "Pss:", &c.pss},
		{path + "smaps_rollup", "Anonymous:", &c.anonymous},
		{path + "status", "Threads:", &c.threads},
	} {
		var err error
		if *f.into, err = field(f.path, f.key); err != nil {
			return err
		}
	}
	return nil
}

const vethPairs = "veth pairs"

// churns creates and removes devices, one at a time, as pods and networks do.
func (b *bench) churns(ctx context.Context) []*churn {
	veth := &churn{what: vethPairs, events: b.pairs}
	bridge := &churn{what: "bridges", events: b.bridges}
	for _, c := range []struct {
		*churn
		device func() netlink.Link
	}{
		{veth, func() netlink.Link {
			return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "churn"}, PeerName: "churn-peer"}
		}},
		{bridge, func() netlink.Link {
			return &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "churn"}}
		}},
	} {
		progress("churn: %d %s", c.events, c.what)
		c.err = b.withDaemon(ctx, func(in *box.Box, pid int) error {
			if err := sleep(ctx, b.settle); err != nil {
				return err
			}
			before, err := cpuTime(pid)
			if err != nil {
				return err
			}
			began := time.Now()
			for range c.events {
				err := in.Do(func() error {
					device := c.device()
					if err := netlink.LinkAdd(device); err != nil {
						return fmt.Errorf("add %s: %w", c.what, err)
					}
					return netlink.LinkDel(device)
				})
				if err != nil {
					return err
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
			c.elapsed = time.Since(began)
			if err := sleep(ctx, b.settle); err != nil { // until the last news has arrived
				return err
			}
			after, err := cpuTime(pid)
			c.cpu = after - before
			return err
		})
	}
	return []*churn{veth, bridge}
}

// startsPerSecond is that of a busy host: a node that runs probes in shells.
const startsPerSecond = 2000

const processStarts = "programs started"

// processStarts starts and ends programs that are not kube-proxy.
func (b *bench) processStarts(ctx context.Context) *churn {
	c := &churn{what: processStarts, events: b.starts}
	progress("churn: %d %s", c.events, c.what)
	c.err = b.withDaemon(ctx, func(in *box.Box, pid int) error {
		if err := sleep(ctx, b.settle); err != nil {
			return err
		}
		before, err := cpuTime(pid)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := in.Must(ctx, "", b.forker, b.forker, strconv.Itoa(startsPerSecond), strconv.Itoa(c.events)); err != nil {
			return err
		}
		c.elapsed = time.Since(began)
		after, err := cpuTime(pid)
		c.cpu = after - before
		return err
	})
	return c
}

// withDaemon runs f while nfguard runs in a box with one bridge.
func (b *bench) withDaemon(ctx context.Context, f func(in *box.Box, pid int) error) error {
	return b.withDaemonAfter(ctx, func(*box.Box) error { return nil }, f)
}

// withDaemonAfter is withDaemon with something to do before the start.
func (b *bench) withDaemonAfter(ctx context.Context, before func(in *box.Box) error, f func(in *box.Box, pid int) error) error {
	in, err := box.New()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := before(in); err != nil {
		return err
	}
	if err := in.Must(ctx, "", "ip", "link", "add", "cnio0", "up", "type", "bridge"); err != nil {
		return err
	}
	d, err := b.startDaemon(ctx, in, asPackaged)
	if err != nil {
		return err
	}
	if err := f(in, d.PID()); err != nil {
		d.Stop()
		return err
	}
	return d.Stop()
}

// wakeups counts the spells in which a process runs within a time, by a look every
// millisecond. A pause of less than ten, while others have its processor, ends none.
func wakeups(ctx context.Context, pid int, during time.Duration) (spells int, err error) {
	const pause = 10 * time.Millisecond
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	last, err := clock(pid)
	var ran time.Time
	for end := time.Now().Add(during); err == nil && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-tick.C:
		}
		var spent time.Duration
		if spent, err = clock(pid); spent == last {
			continue
		}
		now := time.Now()
		if now.Sub(ran) > pause {
			spells++
		}
		last, ran = spent, now
	}
	return spells, err
}

// switches counts how often the threads of a process have gone to sleep. The Go runtime
// keeps its threads, so nothing is lost from the count.
func switches(pid int) (int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	total := 0
	for _, task := range tasks {
		n, err := field(task, "voluntary_ctxt_switches:")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, err
}

// cpuTime is the processor time of a process in nanoseconds, and that of the
// programs that it ran in ticks of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	own, err := clock(pid)
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name, which ends with the last parenthesis, cutime and cstime
	// are the 14th and 15th field.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, f := range fields[13:15] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return own + time.Duration(ticks)*10*time.Millisecond, nil
}

// clock is the processor time of a process alone.
func clock(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3); it counts threads that have ended
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// field reads the number that follows key in a file of /proc.
func field(path, key string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, key)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
