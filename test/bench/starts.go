package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// starts is how long the daemon takes from its execution to READY, on a host where the
// module is loaded and everything is already right.
type starts struct {
	took []time.Duration // sorted
	err  error
}

// startTimes starts the daemon count times on the same host. The first start, which
// finds the sysctls wrong and no drop-ins, is not counted.
func (b *bench) startTimes(ctx context.Context, count int) (s starts) {
	progress("start: %d times", count)
	s.err = func() error {
		in, err := box.New()
		if err != nil {
			return err
		}
		defer in.Close()
		if err := in.Must(ctx, "", "ip", "link", "add", "cnio0", "up", "type", "bridge"); err != nil {
			return err
		}
		for i := range count + 1 {
			d, err := b.startDaemon(ctx, in, asPackaged)
			if err != nil {
				return err
			}
			if i > 0 {
				s.took = append(s.took, d.started)
			}
			if err := d.Stop(); err != nil {
				return err
			}
		}
		return nil
	}()
	slices.Sort(s.took)
	return s
}

// String is its part of the report, in Markdown.
func (s *starts) String() string {
	if s.err != nil {
		return fmt.Sprintf("\nHow long a start takes was not measured: %s.\n", oneLine(s.err))
	}
	return fmt.Sprintf("\nFrom its start to READY it takes %.0f ms, the median of %d starts; %.0f ms at the 95th percentile, %.0f ms at most.\n",
		millis(quantile(s.took, 0.5)), len(s.took), millis(quantile(s.took, 0.95)), millis(s.took[len(s.took)-1]))
}

func millis(d time.Duration) float64 { return d.Seconds() * 1e3 }
