// Soak runs nfguard, built with the race detector, on a throw-away worker for a long time,
// while everything around it misbehaves at random. At the end the host has to be right,
// without any crash, data race or leak.
//
//	go run ./test/soak -nfguard bin/nfguard-race -for 20m
//
// It exits 0 if all of that holds, 1 if not, 2 if it could not try.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/demo/box"
)

// untouched is the content of a file that a link leads to in place of one of our drop-ins.
const untouched = "nobody writes here\n"

func main() {
	binary := flag.String("nfguard", "bin/nfguard-race", "the nfguard to try")
	last := flag.Duration("for", 20*time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what chance begins with")
	keep := flag.String("log", "", "where to leave the daemon's records")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	faults, err := run(ctx, *binary, *last, *seed, *keep)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	case len(faults) > 0:
		fmt.Fprintf(os.Stderr, "soak: -seed %d\nsoak: %s\n", *seed, strings.Join(faults, "\nsoak: "))
		os.Exit(1)
	}
}

// worker is the host on which all this happens.
type worker struct {
	in      *box.Box
	nfguard string
	pid     int

	mu   sync.Mutex
	done map[string]int // how often each thing was done
	odd  []string       // faults: what a command did wrong
}

// counted notes that a thing was done.
func (w *worker) counted(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[what]++
}

// wrong notes a fault.
func (w *worker) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.odd) < 20 {
		w.odd = append(w.odd, fmt.Sprintf(format, args...))
	}
}

func run(ctx context.Context, binary string, last time.Duration, seed uint64, keep string) ([]string, error) {
	if err := box.Ready(); err != nil {
		return nil, err
	}
	path, err := box.Binary(binary)
	if err != nil {
		return nil, err
	}
	in, err := box.New()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var log *os.File
	err = in.Do(func() (err error) {
		// Filling the disk must only fill this one.
		if err := unix.Mount("tmpfs", "/run", "", unix.MS_REMOUNT, "size=64m"); err != nil {
			return fmt.Errorf("bound /run: %w", err)
		}
		return errors.Join(os.MkdirAll("/run/conf.d", 0o755), os.WriteFile("/run/decoy", []byte(untouched), 0o644))
	})
	if err != nil {
		return nil, err
	}
	if log, err = os.CreateTemp("", "nfguard-soak-"); err != nil {
		return nil, err
	}
	defer log.Close()
	if keep == "" {
		defer os.Remove(log.Name())
	} else {
		defer os.Rename(log.Name(), keep)
	}
	daemon, err := in.StartDaemon(ctx, log, path)
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	w := &worker{in: in, nfguard: path, pid: daemon.PID(), done: make(map[string]int)}
	early := make(chan usage, 1)
	go func() {
		select {
		case <-time.After(last / 4):
			u, _ := used(w.pid)
			early <- u
		case <-ctx.Done():
			early <- usage{}
		}
	}()
	w.misbehave(ctx, last, seed)
	faults := w.judge(ctx, <-early)
	if stopped := daemon.Stop(); stopped != nil {
		faults = append(faults, "the daemon was told to stop: "+stopped.Error())
	}
	said, err := judgeLog(log.Name())
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return append(faults, said...), err
}

// misbehave causes every kind of trouble at random times, concurrently, until the time is
// over.
func (w *worker) misbehave(ctx context.Context, last time.Duration, seed uint64) {
	ctx, cancel := context.WithTimeout(ctx, last)
	defer cancel()
	var running sync.WaitGroup
	for i, t := range troubles {
		running.Go(func() {
			chance := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				t.make(ctx, w, chance)
				w.counted(t.name)
				pause(ctx, time.Duration(chance.Int64N(int64(t.most))))
			}
		})
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-tick.C:
			u, _ := used(w.pid)
			fmt.Fprintf(os.Stderr, "soak: %v: %v; %v\n", time.Since(began).Round(time.Second), u, w.summary())
		case <-ctx.Done():
			running.Wait()
			fmt.Fprintf(os.Stderr, "soak: %v\n", w.summary())
			return
		}
	}
}

func (w *worker) summary() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var parts []string
	for _, t := range troubles {
		parts = append(parts, fmt.Sprintf("%d %s", w.done[t.name], t.name))
	}
	return strings.Join(parts, ", ")
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
