// Bench measures nfguard from the outside: how long a foreign value stays, what the daemon
// costs when nothing happens, and what it costs when devices come and go. README.md
// explains it and has the latest figures.
//
//	go run ./test/bench -nfguard bin/nfguard
//
// It exits 0 if everything was measured, whether the aims were met or not, 1
// if something could not be measured, 2 if nothing could.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
	"github.com/nfguard/nfguard/test/markdown"
)

// bench holds what all measurements need.
type bench struct {
	nfguard  string // absolute path
	confine  string // see confine/main.go
	units    string // the directory of the units
	observer string
	loop     string

	writes int // samples per contender
	blocks int // turns in which they are taken
	boxes  int // concurrent shell loops, each with its own box
	rounds int // samples per shell loop

	settle  time.Duration // after the start of a contender
	calm    time.Duration // before the idle window
	idle    time.Duration // the idle window
	pairs   int           // veth pairs of the churn
	bridges int           // bridges of the churn
	flags   int           // bridges that should get their flags
	starts  int           // programs that are started
	looks   int           // runs of nfguard check
	storm   time.Duration // duration of a writer in a tight loop
	many    int           // bridges on the host while it corrects
	claims  int           // writes of 0 that a reader should never see
	ready   int           // starts of the daemon

	forker   string
	sleepers string
}

func main() {
	binary := flag.String("nfguard", "bin/nfguard", "the nfguard to measure")
	writes := flag.Int("writes", 0, "foreign writes per contender (2000, or 40 with -quick)")
	out := flag.String("out", "", "also put the figures into this file, between its markers")
	ones := flag.Bool("ones", false, "only how long a foreign 1 stays, with the sysctls kept at 0")
	quick := flag.Bool("quick", false, "a few seconds, to see that the benchmark works; the figures mean little")
	flag.Parse()

	b := bench{
		writes: 2000, blocks: 4, boxes: 30, rounds: 4,
		settle: time.Second, calm: 10 * time.Second, idle: time.Minute,
		pairs: 500, bridges: 50, flags: 1000, starts: 6000, looks: 50, storm: time.Minute, many: manyBridges, claims: 1_000_000, ready: 41,
	}
	if *quick {
		b = bench{
			writes: 40, blocks: 1, boxes: 10, rounds: 1,
			settle: 300 * time.Millisecond, calm: time.Second, idle: 2 * time.Second,
			pairs: 20, bridges: 5, flags: 20, starts: 200, looks: 3, storm: time.Second, many: 100, claims: 10_000, ready: 3,
		}
	}
	if *writes != 0 {
		b.writes = max(*writes, b.blocks)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := b.run(ctx, *binary, *out, *ones)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\nbench: "))
	}
	os.Exit(code)
}

// run measures and reports. An error with code 2 means that there is no report.
func (b *bench) run(ctx context.Context, binary, out string, ones bool) (int, error) {
	if err := box.Ready(); err != nil {
		return 2, err
	}
	var err error
	if b.nfguard, err = box.Binary(binary); err != nil {
		return 2, err
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // not in the PATH that su sets
	dir, err := os.MkdirTemp("", "nfguard-bench-")
	if err != nil {
		return 2, err
	}
	defer os.RemoveAll(dir)
	if b.units, err = filepath.Abs("systemd"); err != nil {
		return 2, err
	}
	b.confine = filepath.Join(dir, "confine")
	if err := b.build(ctx); err != nil {
		return 2, err
	}
	if b.observer, err = compile(ctx, dir, "observer"); err != nil {
		return 2, err
	}
	if b.loop, err = compile(ctx, dir, "loop"); err != nil {
		return 2, err
	}

	if b.forker, err = compile(ctx, dir, "forker"); err != nil {
		return 2, err
	}

	if b.sleepers, err = compile(ctx, dir, "sleepers"); err != nil {
		return 2, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // user nobody starts a program in it
		return 2, err
	}

	r := report{bench: b, machine: describe(b.nfguard)}
	if ones {
		return b.onesAlone(ctx, &r, out)
	}
	r.latencies = b.latencies(ctx)
	r.ones = b.foreignOnes(ctx)
	r.witness = b.witnessed(ctx, b.claims)
	r.idle = b.idleCost(ctx)
	r.starts = b.startTimes(ctx, b.ready)
	r.many = b.besideMany(ctx, b.many, b.writes/4)
	r.churns = append(b.churns(ctx), b.ruleFlood(ctx), b.processStarts(ctx), b.nameStorm(ctx))
	r.fights = b.fights(ctx)
	r.checked = b.checks(ctx)
	r.told = b.history(ctx)
	r.appearance = b.appearances(ctx, b.flags)
	if ctx.Err() != nil {
		return 2, context.Cause(ctx)
	}
	text := r.String()
	fmt.Print(text)
	if out != "" {
		if err := markdown.Insert(out, "measured", text); err != nil {
			return 1, err
		}
	}
	if r.incomplete() {
		return 1, nil
	}
	return 0, nil
}

// progress is shown to the person who waits; it is not part of the report.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
