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
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}, reload))
}
