package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/demo/box"
)

// witness is what an independent reader sees of foreign writes in mode enforce, if the
// kernel stores our value instead of theirs.
type witness struct {
	writes, reads, zeros int
	elapsed              time.Duration
	err                  error
}

// witnessed has one thread write "0" and "0\n", half of count each, as fast as it
// can, while another one reads without a pause. Neither knows of the other.
func (b *bench) witnessed(ctx context.Context, count int) (w witness) {
	progress("witness: %d writes of 0, and a reader", count)
	w.err = b.withDaemon(ctx, func(in *box.Box, _ int) error {
		if err := sleep(ctx, b.settle); err != nil {
			return err
		}
		var mine, theirs int
		err := in.Do(func() (err error) {
			if mine, err = unix.Open(iptables, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
			theirs, err = unix.Open(iptables, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return err
		})
		if err != nil {
			return fmt.Errorf("open %s: %w", iptables, err)
		}
		defer unix.Close(mine)
		defer unix.Close(theirs)
		var over atomic.Bool
		read := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			read <- w.read(theirs, &over)
		}()
		began := time.Now()
		err = w.write(ctx, mine, count)
		w.elapsed = time.Since(began)
		over.Store(true)
		if failed := <-read; err == nil {
			err = failed
		}
		return err
	})
	return w
}

func (w *witness) write(ctx context.Context, fd, count int) error {
	for _, text := range []string{"0", "0\n"} {
		for range count / 2 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if n, err := unix.Pwrite(fd, []byte(text), 0); err != nil || n != len(text) {
				return fmt.Errorf("write %q: %d bytes, %w", text, n, err)
			}
			w.writes++
		}
	}
	return nil
}

func (w *witness) read(fd int, over *atomic.Bool) error {
	var have [2]byte
	for !over.Load() {
		if _, err := unix.Pread(fd, have[:], 0); err != nil {
			return err
		}
		w.reads++
		if have[0] != '1' {
			w.zeros++
		}
	}
	return nil
}

// String is its part of the report, in Markdown.
func (w *witness) String() string {
	if w.err != nil {
		return fmt.Sprintf("\nWhat a reader sees of writes of `0` was not measured: %s.\n", oneLine(w.err))
	}
	return fmt.Sprintf("\nOf %d writes of `0` and `0` with a newline, in %.1f s, a reader that reads without a pause saw %d: it read %d times.\n",
		w.writes, w.elapsed.Seconds(), w.zeros, w.reads)
}
