package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/demo/box"
)

// manyBridges is the number of bridges on a host that is hard to guard.
const manyBridges = 3000

// many is how nfguard performs on a host with many bridges.
type many struct {
	bridges   int
	stood     []time.Duration // of a foreign value in scope "host", sorted
	toBridges time.Duration   // from a reload until each bridge has its flags
	toHost    time.Duration   // from the reload back until none has
	err       error           // why it could not be measured
}

// besideMany measures with count bridges, by writing foreign values.
func (b *bench) besideMany(ctx context.Context, count, writes int) (m many) {
	progress("many: %d bridges", count)
	m.bridges = count
	make := func(in *box.Box) error { return bridges(ctx, in, count) }
	m.err = b.withDaemonAfter(ctx, make, func(in *box.Box, pid int) error {
		samples, err := b.observe(ctx, in, "1", writes, b.pace())
		if err != nil {
			return err
		}
		for _, s := range samples {
			m.stood = append(m.stood, s.stood)
		}
		slices.Sort(m.stood)
		if m.toBridges, err = m.scope(ctx, in, pid, scopeBridges, true); err != nil {
			return fmt.Errorf(`to scope = "bridges": %w`, err)
		}
		if m.toHost, err = m.scope(ctx, in, pid, "scope = \"host\"\n", false); err != nil {
			return fmt.Errorf(`to scope = "host": %w`, err)
		}
		return nil
	})
	return m
}

func bridges(ctx context.Context, in *box.Box, count int) error {
	var batch strings.Builder
	for i := range count {
		fmt.Fprintf(&batch, "link add cni%d type bridge\n", i)
	}
	return in.Must(ctx, batch.String(), "ip", "-batch", "-")
}

// scope reloads the daemon with a configuration, and waits until all bridges have
// their flags, or none has.
func (m *many) scope(ctx context.Context, in *box.Box, pid int, config string, want bool) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("not done within five minutes"))
	defer cancel()
	err = in.Do(func() error {
		if err := os.MkdirAll("/run/conf.d", 0o755); err != nil {
			return err
		}
		return os.WriteFile("/run/conf.d/scope.toml", []byte(config), 0o644)
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return 0, err
	}
	for {
		n := 0
		err := in.Do(func() error {
			list, err := rtnl.Bridges(ctx)
			for _, b := range list {
				if b.NFCallIPTables && b.NFCallIP6Tables && b.NFCallARPTables {
					n++
				}
			}
			return err
		})
		switch {
		case err != nil:
			return 0, err
		case want && n >= m.bridges, !want && n == 0:
			return time.Since(began), nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%d of %d bridges have flags: %w", n, m.bridges, err)
		}
	}
}

// String is its part of the report, in Markdown.
func (m *many) String() string {
	if m.err != nil {
		return fmt.Sprintf("\nBeside %d bridges it was not measured: %s.\n", m.bridges, oneLine(m.err))
	}
	return fmt.Sprintf("\nBeside %d bridges a foreign value stays %s µs at the median and %s µs at the 95th percentile of %d writes. "+
		"A reload to scope \"bridges\" has set the flags of all after %.1f s; the one back to scope \"host\" has taken them back after %.1f s.\n",
		m.bridges, micros(quantile(m.stood, 0.5)), micros(quantile(m.stood, 0.95)), len(m.stood), m.toBridges.Seconds(), m.toHost.Seconds())
}
