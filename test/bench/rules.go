package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nfguard/nfguard/test/demo/box"
)

// The flood: a kube-proxy with 2,500 Services rewrites all its rules ten times without a
// pause.
const (
	floodRules = 10_000
	floodTurns = 10

	ruleFlood = "nftables rules of 2,500 Services, replaced"
)

// ruleFlood has nft replace a table like kube-proxy's again and again, each time in one
// transaction. Nearly all of the time is nft's own, so nfguard's share of it is its share of
// one core while another core is busy.
func (b *bench) ruleFlood(ctx context.Context) *churn {
	c := &churn{what: ruleFlood, events: floodTurns}
	progress("churn: %d times %s", c.events, c.what)
	c.err = b.withDaemon(ctx, func(in *box.Box, pid int) error {
		rules := proxyTable(floodRules)
		// The first time the rules appear, which is worth a pass.
		if err := in.Must(ctx, rules, "nft", "-f", "-"); err != nil {
			return err
		}
		if err := sleep(ctx, b.settle); err != nil {
			return err
		}
		before, err := cpuTime(pid)
		if err != nil {
			return err
		}
		began := time.Now()
		for range c.events {
			if err := in.Must(ctx, rules, "nft", "-f", "-"); err != nil {
				return err
			}
		}
		c.elapsed = time.Since(began)
		after, err := cpuTime(pid)
		c.cpu = after - before
		return err
	})
	return c
}

// proxyTable is what nft reads to replace kube-proxy's table by one with n rules.
func proxyTable(n int) string {
	var b strings.Builder
	b.WriteString("add table ip kube-proxy\ndelete table ip kube-proxy\ntable ip kube-proxy {\n" +
		"chain nat-prerouting { type nat hook prerouting priority -100; jump services; }\nchain services {\n")
	for i := range n - 1 { // the jump is another rule
		fmt.Fprintf(&b, "ip daddr 10.96.%d.%d tcp dport 80 dnat to 10.244.0.1:8080\n", i>>8, i&255)
	}
	b.WriteString("}\n}\n")
	return b.String()
}
