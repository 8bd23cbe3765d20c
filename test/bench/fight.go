package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/demo/box"
)

// fight is the result for a writer that sets a key to 0 in a tight loop.
type fight struct {
	what    string
	config  string // in addition to the defaults
	text    string // what is written; "": 0 and a newline
	writes  int
	zeros   int // reads, one after each write, that found the 0
	records int
	cpu     time.Duration // nfguard's
	elapsed time.Duration
	err     error
}

// fights runs the same writer against each of nfguard's ways to deal with it.
func (b *bench) fights(ctx context.Context) []*fight {
	list := []*fight{
		{what: "enforce, hold (the default)"},
		{what: "enforce, hold, a text of another length", text: "0x0\n"},
		{what: "enforce, yield", config: "[contention]\npolicy = \"yield\"\n"},
		{what: "observe", config: "mode = \"observe\"\n"},
		{what: "lock", config: "mode = \"lock\"\n"},
	}
	for _, f := range list {
		progress("fight: %s, %v of writing", f.what, b.storm)
		f.err = b.fight(ctx, f)
	}
	return list
}

func (b *bench) fight(ctx context.Context, f *fight) error {
	before := func(in *box.Box) error {
		return in.Do(func() error {
			if err := os.MkdirAll("/run/conf.d", 0o755); err != nil {
				return err
			}
			return os.WriteFile("/run/conf.d/10-fight.toml", []byte(f.config), 0o644)
		})
	}
	return b.withDaemonAfter(ctx, before, func(in *box.Box, pid int) error {
		if err := sleep(ctx, b.settle); err != nil {
			return err
		}
		cpu, err := cpuTime(pid)
		if err != nil {
			return err
		}
		if err := in.Do(func() error { return f.write(ctx, b.storm) }); err != nil {
			return err
		}
		after, err := cpuTime(pid)
		if err != nil {
			return err
		}
		f.cpu = after - cpu
		return nil
	})
}

// count counts the records of the fight so far.
func (f *fight) count() error {
	log, err := os.ReadFile("/run/stderr")
	f.records = 0
	for _, kind := range []string{"drift", "denied", "contention"} {
		f.records += bytes.Count(log, []byte(`"NFGUARD_EVENT":"`+kind+`"`))
	}
	return err
}

// write writes and reads without a pause, with a descriptor that stays open. The records
// are counted a moment before the end, because the record for a minute of a fight is due
// just when the minute of the storm is over.
func (f *fight) write(ctx context.Context, d time.Duration) error {
	fd, err := unix.Open(iptables, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", iptables, err)
	}
	defer unix.Close(fd)
	text := []byte(cmp.Or(f.text, "0\n"))
	var have [1]byte
	counted := false
	began := time.Now()
	for ; ; f.writes++ {
		if f.writes%1024 == 0 {
			f.elapsed = time.Since(began)
			if !counted && f.elapsed >= d-50*time.Millisecond {
				if err := f.count(); err != nil {
					return err
				}
				counted = true
			}
			if f.elapsed >= d {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		if _, err := unix.Pwrite(fd, text, 0); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("write %s: %w", iptables, err)
		}
		if _, err := unix.Pread(fd, have[:], 0); err != nil {
			return fmt.Errorf("read %s: %w", iptables, err)
		}
		if have[0] == '0' {
			f.zeros++
		}
	}
}

// share is nfguard's share of one core.
func (f *fight) share() float64 { return 100 * f.cpu.Seconds() / f.elapsed.Seconds() }
