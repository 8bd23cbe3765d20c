package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// The storm: a user without any rights has a program that is called kube-proxy, and starts
// it as fast as a shell could.
const (
	stormPerSecond = 1000
	beside         = 10_000

	nameStorm = "programs called kube-proxy started by nobody"
)

// nameStorm is that storm on a host with many sleeping processes. It lasts as long as the
// storms of writes, so that it includes an audit, which looks through all processes.
func (b *bench) nameStorm(ctx context.Context) *churn {
	c := &churn{what: nameStorm, events: int(b.storm.Seconds() * stormPerSecond)}
	progress("churn: %d %s", c.events, c.what)
	path := filepath.Join(filepath.Dir(b.forker), "kube-proxy")
	if err := os.Link(b.forker, path); err != nil {
		c.err = err
		return c
	}
	c.err = b.withDaemonAfter(ctx, func(in *box.Box) error { return b.gather(ctx, in) }, func(in *box.Box, pid int) error {
		if err := sleep(ctx, b.settle); err != nil {
			return err
		}
		before, err := cpuTime(pid)
		if err != nil {
			return err
		}
		began := time.Now()
		err = in.Must(ctx, "", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
			path, path, strconv.Itoa(stormPerSecond), strconv.Itoa(c.events))
		if err != nil {
			return err
		}
		c.elapsed = time.Since(began)
		after, err := cpuTime(pid)
		c.cpu = after - before
		if rate := float64(c.events) / c.elapsed.Seconds(); err == nil && rate < stormPerSecond*0.9 {
			return fmt.Errorf("this machine starts only %.0f programs a second", rate)
		}
		return err
	})
	return c
}

// gather starts sleeping processes in the box, which end with it.
func (b *bench) gather(ctx context.Context, in *box.Box) error {
	cmd := in.Command(ctx, b.sleepers, strconv.Itoa(beside))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := in.Start(cmd); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("%d processes that sleep: %w", beside, err), cmd.Wait())
	}
	go func() { _ = cmd.Wait() }() // killed with the box
	return nil
}
