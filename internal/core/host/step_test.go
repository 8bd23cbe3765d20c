package host_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/step"
)

// A survey names everything that it waits for in advance.
func TestSurveyNamesItsSteps(t *testing.T) {
	var at step.Current
	var asked []string
	m := newMachine(t, host.Options{
		Memory: "/run/nfguard-of-this-test/bridges.json",
		Bridges: func(context.Context) ([]guard.Bridge, error) {
			asked = append(asked, at.Now().What)
			return nil, nil
		},
		KubeProxy: func(context.Context, *guard.Policy) (k guard.KubeProxy) {
			asked = append(asked, at.Now().What)
			return k
		},
	})
	m.write("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
	m.Survey(step.Follow(t.Context(), &at), &m.p, guard.LookAll)
	asked = append(asked, at.Now().What)
	want := []string{
		"asking the kernel for its bridges",
		"reading /run/nfguard-of-this-test/bridges.json",
		"reading /etc/sysctl.d/99-zz-nfguard.conf",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestModprobeThatHangsIsNamed(t *testing.T) {
	var at step.Current
	program := filepath.Join(t.TempDir(), "modprobe")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, host.Options{Modprobe: program, LoadTimeout: time.Minute})
	ctx, cancel := context.WithCancel(step.Follow(t.Context(), &at))
	done := make(chan error, 1)
	go func() {
		done <- m.Do(ctx, guard.Action{Op: guard.LoadModule, Subject: "br_netfilter"})
	}()
	for at.Now() == nil {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if got, want := at.Now().What, "running modprobe br_netfilter"; got != want {
		t.Errorf("the step is %q, want %q", got, want)
	}
	cancel()
	<-done
}
