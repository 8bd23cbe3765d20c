// Command nfguard keeps br_netfilter and its sysctls as Kubernetes workers
// need them, and records whatever changes them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/nfguard/nfguard/internal/cli"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		if sig, ok := (<-stop).(syscall.Signal); ok {
			cancel(cli.Stopped(sig))
		}
	}()
	hangup := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(hangup, syscall.SIGHUP)
	}
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}, hangup))
}
