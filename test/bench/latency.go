package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// The keys that every contender guards; the observer writes to the first one.
const (
	iptables  = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	ip6tables = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"
	arptables = "/proc/sys/net/bridge/bridge-nf-call-arptables"
)

// shellLoop is what people without nfguard write.
const shellLoop = `while sleep 1; do read -r v <` + iptables + `; [ "$v" = 1 ] || echo 1 >` + iptables + `; done`

// tooLong is used for a value that nobody put right while the observer waited.
const tooLong = 5 * time.Second

//go:embed observer.c loop.c forker.c sleepers.c
var sources embed.FS

// compile builds one of the C programs, static if the machine can do that.
func compile(ctx context.Context, dir, name string) (string, error) {
	source, err := sources.ReadFile(name + ".c")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	for _, link := range []string{"-static", "-dynamic"} {
		gcc := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", link, "-x", "c", "-o", path, "-")
		gcc.Stdin = bytes.NewReader(source)
		var out []byte
		if out, err = gcc.CombinedOutput(); err == nil {
			return path, nil
		}
		err = fmt.Errorf("compile %s.c: %w\n%s", name, err, out)
	}
	return "", fmt.Errorf("%w\nhint: run make deps", err)
}

// contender is one way to keep a key at its value.
type contender struct {
	name  string
	nice  int
	right string // the value: "1", or "0" with scope "bridges"
	// start begins it in the box and returns what ends it.
	start func(ctx context.Context, in *box.Box, nice int) (stop func() error, err error)
}

// sample is one foreign write, see observer.c.
type sample struct {
	stood time.Duration // until the value was seen to be right again
	slack time.Duration // how much stood can be too long
	own   time.Duration // until the writer itself saw it
}

// latency is how long a foreign value stayed under one contender.
type latency struct {
	contender
	samples []sample
	stood   []time.Duration // of the samples, sorted
	least   []time.Duration // likewise, less their slack
	own     []time.Duration // likewise
	err     error           // why it could not be measured
}

// count returns how many samples satisfy a condition.
func (l *latency) count(is func(sample) bool) (n int) {
	for _, s := range l.samples {
		if is(s) {
			n++
		}
	}
	return n
}

// blurred is the slack above which a single sample says little: some thirty reads.
const blurred = 20 * time.Microsecond

func (s sample) missed() bool { return s.stood == tooLong }
func (s sample) unseen() bool { return !s.missed() && s.slack == s.stood }
func (s sample) vague() bool  { return !s.unseen() && s.slack > blurred }

func (b *bench) startNfguard(ctx context.Context, in *box.Box, nice int) (func() error, error) {
	d, err := b.startDaemon(ctx, in, nice)
	if err != nil {
		return nil, err
	}
	return d.Stop, nil
}

// program is a contender that is a plain program.
func program(words ...string) func(context.Context, *box.Box, int) (func() error, error) {
	return func(ctx context.Context, in *box.Box, nice int) (func() error, error) {
		ctx, cancel := context.WithCancel(ctx)
		words := words
		if nice != 0 {
			words = slices.Concat([]string{"nice", "-n", strconv.Itoa(nice)}, words)
		}
		var said strings.Builder
		cmd := in.Command(ctx, words[0], words[1:]...)
		cmd.Stderr = &said
		if err := in.Start(cmd); err != nil {
			cancel()
			return nil, err
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		return func() error {
			defer cancel()
			select {
			case err := <-done: // it should have kept running
				return errors.Join(fmt.Errorf("%s ended by itself: %s", words[0], said.String()), err)
			default:
				cancel()
				<-done
				return nil
			}
		}, nil
	}
}

// latencies measures the contenders one at a time, in turns, so that other activity of the
// machine affects all alike; each turn has its own box. The shell loop is too slow for
// that: many of them run concurrently at the end.
func (b *bench) latencies(ctx context.Context) []*latency {
	all := b.turns(ctx, "1", b.startNfguard)
	shell := &latency{contender: contender{"shell loop, sleep 1", 0, "1", program("sh", "-c", shellLoop)}}
	shell.samples, shell.err = b.crowd(ctx, shell.contender)
	progress("%s: %v", shell.title(), shell.state(shell.samples))
	shell.sort()
	return append(all, shell)
}

// turns measures nfguard and the C loop, each at both nices, in turns.
func (b *bench) turns(ctx context.Context, right string, nfguard func(context.Context, *box.Box, int) (func() error, error)) []*latency {
	loop := program(b.loop, right, iptables, ip6tables, arptables)
	all := []*latency{
		{contender: contender{"nfguard", 0, right, nfguard}},
		{contender: contender{"nfguard", -10, right, nfguard}},
		{contender: contender{"C loop", 0, right, loop}},
		{contender: contender{"C loop", -10, right, loop}},
	}
	for block := range b.blocks {
		for i := range all {
			l := all[(block+i)%len(all)] // so that none is always first
			if l.err != nil {
				continue
			}
			var samples []sample
			samples, l.err = b.block(ctx, l.contender, b.writes/b.blocks, b.pace())
			l.samples = append(l.samples, samples...)
			progress("turn %d of %d, %s: %v", block+1, b.blocks, l.title(), l.state(samples))
		}
	}
	for _, l := range all {
		l.sort()
	}
	return all
}

// How the observer watches, its pauses and its grain: see observer.c. nfguard makes at most
// a hundred corrections a second, and pauses of 10 ms stay within that: this measures how
// fast it reacts. The crowd of observers should leave the processors to the shells.
var (
	watch  = pace{"watch", "10000", "15000", "0"}
	alone  = pace{"self", "10000", "15000", "0"}
	coarse = pace{"self", "0", "1000000", "1000"}
)

type pace struct{ who, least, most, grain string }

// pace returns how to watch the fast contenders on this machine.
func (b *bench) pace() pace {
	if runtime.NumCPU() < 2 {
		return alone
	}
	return watch
}

// block takes count samples from a new contender in a new box.
func (b *bench) block(ctx context.Context, c contender, count int, pace pace) ([]sample, error) {
	in, err := box.New()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not done within two minutes"))
	defer cancel()
	stop, err := c.start(ctx, in, c.nice)
	if err != nil {
		return nil, err
	}
	samples, err := b.observe(ctx, in, c.right, count, pace)
	return samples, errors.Join(err, stop())
}

// observe takes count samples of how long a foreign value stays in place of the right one.
func (b *bench) observe(ctx context.Context, in *box.Box, right string, count int, pace pace) ([]sample, error) {
	select {
	case <-time.After(b.settle):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	out, err := in.Run(ctx, "", b.observer, pace.who, right, iptables, strconv.Itoa(count), pace.least, pace.most, pace.grain)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("observer: %w\n%s", err, out)
	}
	var samples []sample
	for line := range strings.Lines(out) {
		var s sample
		if _, err := fmt.Sscan(line, &s.stood, &s.slack, &s.own); err != nil {
			return nil, fmt.Errorf("observer: %q: %w", line, err)
		}
		if s.stood < 0 {
			s.stood, s.own = tooLong, tooLong
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// crowd takes samples from many contenders at once, each in its own box.
func (b *bench) crowd(ctx context.Context, c contender) ([]sample, error) {
	var wait sync.WaitGroup
	samples := make([][]sample, b.boxes)
	errs := make([]error, b.boxes)
	for i := range b.boxes {
		wait.Go(func() { samples[i], errs[i] = b.block(ctx, c, b.rounds, coarse) })
	}
	wait.Wait()
	return slices.Concat(samples...), errors.Join(errs...)
}

func (l *latency) title() string {
	if l.nice == 0 {
		return l.name
	}
	return fmt.Sprintf("%s, nice %d", l.name, l.nice)
}

// state sums up a turn for the person who waits.
func (l *latency) state(samples []sample) any {
	if l.err != nil {
		return l.err
	}
	turn := latency{samples: samples}
	turn.sort()
	return fmt.Sprintf("p50 %v", quantile(turn.stood, 0.5))
}

// sort fills the sorted lists from the samples.
func (l *latency) sort() {
	for _, s := range l.samples {
		l.stood = append(l.stood, s.stood)
		l.least = append(l.least, s.stood-s.slack)
		l.own = append(l.own, s.own)
	}
	for _, list := range [][]time.Duration{l.stood, l.least, l.own} {
		slices.Sort(list)
	}
}

// quantile returns the nearest rank, which is always a sample, never a value between two.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
