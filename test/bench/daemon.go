package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// asPackaged is the niceness of nfguard.service.
const asPackaged = -10

// daemon is an nfguard that runs as packaged: with the capabilities and the system call
// filter of nfguard.service, and with a helper that has those of nfguard-helper.service.
type daemon struct {
	*box.Daemon
	started time.Duration // from the execution of the program to READY
	end     func()        // ends the helper
}

// startDaemon starts a daemon whose records go to a file in the box, so that no process
// has to wake up to read them.
func (b *bench) startDaemon(ctx context.Context, in *box.Box, nice int) (*daemon, error) {
	var log *os.File
	err := in.Do(func() (err error) {
		log, err = os.OpenFile("/run/stderr", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	helping, cancel := context.WithCancel(ctx)
	wait, err := in.ServeHelper(helping, log, b.nfguard, b.confine, "-calls", b.confine+".nfguard-helper.service", filepath.Join(b.units, "nfguard-helper.service"))
	end := func() { cancel(); wait() }
	if err != nil {
		cancel()
		return nil, err
	}
	d := &daemon{end: end}
	began := time.Now()
	d.Daemon, err = in.StartDaemon(ctx, log, b.nfguard, b.confine, "-nice", strconv.Itoa(nice), "-calls", b.confine+".nfguard.service", filepath.Join(b.units, "nfguard.service"))
	if err != nil {
		end()
		said := make([]byte, 2048)
		n, _ := log.ReadAt(said, 0)
		return nil, fmt.Errorf("%w\n%s", err, said[:n])
	}
	d.started = time.Since(began)
	return d, nil
}

// Stop ends the daemon, then its helper.
func (d *daemon) Stop() error {
	defer d.end()
	return d.Daemon.Stop()
}

// build builds the program confine, and lists next to it what each unit allows.
func (b *bench) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.confine, "./test/bench/confine")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("build what confines nfguard (from the project's own directory): %w", err), errors.New(string(out)))
	}
	for _, unit := range []string{"nfguard.service", "nfguard-helper.service"} {
		out, err := exec.CommandContext(ctx, b.confine, filepath.Join(b.units, unit)).Output()
		if err == nil {
			err = os.WriteFile(b.confine+"."+unit, out, 0o644)
		}
		if err != nil {
			return fmt.Errorf("list what %s allows: %w", unit, err)
		}
	}
	return nil
}
