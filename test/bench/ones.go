package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/test/demo/box"
	"github.com/nfguard/nfguard/test/markdown"
)

// atZero is scope "bridges" with the sysctls kept at 0, against those who write 1.
const atZero = scopeBridges + `[sysctl]
"net.bridge.bridge-nf-call-iptables" = 0
"net.bridge.bridge-nf-call-ip6tables" = 0
"net.bridge.bridge-nf-call-arptables" = 0
`

// foreignOnes measures how long a foreign 1 stays, as latencies does of a 0.
func (b *bench) foreignOnes(ctx context.Context) []*latency {
	return b.turns(ctx, "0", func(ctx context.Context, in *box.Box, nice int) (func() error, error) {
		if err := configure(in, atZero); err != nil {
			return nil, err
		}
		return b.startNfguard(ctx, in, nice)
	})
}

// onesAlone measures nothing else, and reports it.
func (b *bench) onesAlone(ctx context.Context, r *report, out string) (int, error) {
	r.ones = b.foreignOnes(ctx)
	if ctx.Err() != nil {
		return 2, context.Cause(ctx)
	}
	var w strings.Builder
	fmt.Fprintf(&w, "%s\n", r.machine)
	r.writeLatencies(&w, "1", r.ones)
	fmt.Print(w.String())
	if out != "" {
		if err := markdown.Insert(out, "ones", w.String()); err != nil {
			return 1, err
		}
	}
	if slices.ContainsFunc(r.ones, func(l *latency) bool { return l.err != nil }) {
		return 1, nil
	}
	return 0, nil
}
