package vm

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process that does nothing although it could is given up.
func TestIdleIsGivenUp(t *testing.T) {
	t.Parallel()
	p, err := startTied(exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	ctx, cancel := p.bounded(t.Context(), 2*time.Second)
	defer cancel()
	<-ctx.Done()
	var gaveUp *impatience
	if !errors.As(context.Cause(ctx), &gaveUp) {
		t.Errorf("the wait ended by %v", context.Cause(ctx))
	}
}

// A process that gets no processor is waited for: a busy loop at nice 19, on one
// processor with two others at nice 0, gets one part in a hundred of it.
func TestStarvedIsWaitedFor(t *testing.T) {
	t.Parallel()
	loop := func(nice int) *process {
		p, err := startTied(exec.Command("sh", "-c", "while :; do :; done"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.kill)
		var one unix.CPUSet
		one.Set(0)
		pid := p.cmd.Process.Pid
		if err := errors.Join(unix.SchedSetaffinity(pid, &one), unix.Setpriority(unix.PRIO_PROCESS, pid, nice)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	starved := loop(19)
	loop(0)
	loop(0)
	ctx, cancel := starved.bounded(t.Context(), 2*time.Second)
	defer cancel()
	select {
	case <-ctx.Done():
		t.Errorf("given up after a hundredth of the time: %v", context.Cause(ctx))
	case <-time.After(6 * time.Second):
	}
}

// A process that has ended is not waited for.
func TestEndedIsGivenUp(t *testing.T) {
	t.Parallel()
	p, err := startTied(exec.Command("true"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := p.bounded(t.Context(), time.Hour)
	defer cancel()
	<-ctx.Done()
	if err := p.wait(ctx); err != nil {
		t.Error(err)
	}
}
